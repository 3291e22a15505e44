"""`invoke model`: from a model that MLflow logged to an image that serves it."""
