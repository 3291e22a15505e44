"""Scripts of the trial that run in containers, on the Python of the image."""
