"""Seatrial builds MLflow container images and proves each of them end to end."""

__version__ = "0.1.0"
