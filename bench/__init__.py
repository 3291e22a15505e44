"""Measurements of Seatrial itself: what its way of building and trying images costs."""

from seatrial.project import current

PROJECT = current()
ROOT = PROJECT.root
BAKE_FILE = PROJECT.require_bake_file()
