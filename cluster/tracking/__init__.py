"""MLflow: runs, the model registry, and the curves of experts."""
