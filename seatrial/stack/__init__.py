"""The containers around a trial: services, MLflow servers, and whom they belong to."""
