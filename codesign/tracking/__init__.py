"""The only door to MLflow: runs, artifacts, the registry."""
