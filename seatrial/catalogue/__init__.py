"""The images that exist: read from `docker/docker-bake.hcl`, of which there is no second list."""

from seatrial.catalogue.model import Catalogue, Image
from seatrial.catalogue.reading import BAKE_FILE, ROOT, load

__all__ = ["BAKE_FILE", "ROOT", "Catalogue", "Image", "load"]
