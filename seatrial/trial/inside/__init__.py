"""What the trial runs inside containers: each a script of its own, on the Python of the image."""
