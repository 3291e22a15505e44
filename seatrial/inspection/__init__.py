"""Inspection of an image's content, read out of its layers; nothing of the image runs."""
