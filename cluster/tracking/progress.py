"""Where a run is, as it logs it to MLflow."""

from cluster.results.status import PLACE, RECENT, STEPS, Tracked
from cluster.tracking.client import explained
from cluster.tracking.run import KEY, Tracker, connect

# isort: split
from mlflow.entities import ViewType


def tracked(uri: str, run_id: str) -> Tracked | None:
    """What MLflow knows of a run of the experiment `distill`; None if it knows none.

    Raises StoreError if the tracking store cannot be used.
    """
    if (tracker := Tracker.find(uri, "distill", run_id)) is None:
        return None
    with explained(uri):
        run = tracker.client.get_run(tracker.run_id)
        history = tracker.client.get_metric_history(tracker.run_id, "loss")
    last = sorted(history, key=lambda metric: metric.timestamp)[-RECENT:]
    points = tuple((metric.step, metric.timestamp / 1000) for metric in last)
    tags = run.data.tags
    return Tracked(run.info.status, tags.get(PLACE, ""), int(tags.get(STEPS, "0")), points)


def running(uri: str) -> list[str]:
    """Names of the runs that MLflow believes to be running. Raises StoreError as above."""
    client = connect(uri)
    with explained(uri):
        experiment = client.get_experiment_by_name("distill")
        if experiment is None:
            return []
        found = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'", ViewType.ACTIVE_ONLY)
    return sorted(run.data.tags[KEY] for run in found if KEY in run.data.tags)
