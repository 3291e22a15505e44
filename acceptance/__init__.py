"""The trial: what an MLflow image promises, tried against real services."""
