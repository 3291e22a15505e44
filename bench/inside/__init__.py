"""What benchmarks run inside containers: each a script of its own, on the Python of the image."""
