"""Benchmarks: the costs of building, testing and running Seatrial's images."""

from seatrial.project import current

PROJECT = current()
ROOT = PROJECT.root
BAKE_FILE = PROJECT.require_bake_file()
