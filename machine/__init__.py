"""Tests of `invoke setup` on machines in containers: `nox -s machine`."""

from seatrial.project import current

ROOT = current().root
