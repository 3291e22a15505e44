"""What has changed from one image to another: promises, packages, sizes, settings."""
