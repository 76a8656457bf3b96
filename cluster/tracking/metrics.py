"""The metrics that a run logged over its steps, read back from MLflow."""

from cluster.tracking.run import Tracker

# isort: split
from mlflow.exceptions import MlflowException  # after cluster.tracking.run, which sets what mlflow reads

from distill.errors import StoreError

Curve = list[tuple[int, float]]
"""(step, value), by rising step."""


def curves(uri: str, experiment: str, key: str) -> dict[str, Curve]:
    """Every metric of a run that has two steps or more, by name; empty if MLflow has no such run.

    `key` is the run's, as for Tracker.find(). Of two values of a step the newer counts.
    """
    tracker = Tracker.find(uri, experiment, key)
    if tracker is None:
        return {}
    try:
        names = sorted(tracker.client.get_run(tracker.run_id).data.metrics)
        found = {name: list(tracker.history(name).items()) for name in names}
    except (MlflowException, OSError) as error:
        raise StoreError(f"tracking store {uri}, metrics of {key}: {error}") from error
    return {name: curve for name, curve in found.items() if len(curve) > 1}
