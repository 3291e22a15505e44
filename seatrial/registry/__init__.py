"""Container image registries: content by digest, tags, and what is attached to a digest."""
