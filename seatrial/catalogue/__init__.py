"""The images that exist: read from a bake file, of which there is no second list."""

from seatrial.catalogue.model import Catalogue, Image
from seatrial.catalogue.reading import load, load_builtin

__all__ = ["Catalogue", "Image", "load", "load_builtin"]
