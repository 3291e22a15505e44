"""Scripts that benchmarks run inside containers, on the Python of the image."""
