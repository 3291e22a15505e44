"""Release: qualification records that are bound to an image's digest."""
