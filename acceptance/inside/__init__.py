"""Scripts that run in an image, with its own interpreter."""
