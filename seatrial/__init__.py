"""Seatrial builds MLflow container images and proves each of them end to end."""
