"""The acceptance tests: promises of an MLflow image, tried against real services."""
