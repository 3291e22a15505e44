"""Building the images of the catalogue, and looking at what was built."""
