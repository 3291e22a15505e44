"""The images that exist: read from a bake file, of which there is no second list."""

from seatrial.catalogue.bake_file import load, load_builtin
from seatrial.catalogue.model import Catalogue, Image

__all__ = ["Catalogue", "Image", "load", "load_builtin"]
