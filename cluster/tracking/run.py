"""What a run tells MLflow while it goes on: parameters, metrics per step, pictures over steps, files.

This package is the only one that imports mlflow. It talks to the tracking store that it is given and leaves MLflow's
global state (active run, tracking URI) alone.
"""

import fcntl
import logging
import os
import time
from pathlib import Path

from PIL import Image

from cluster import home
from distill.errors import StoreError
from distill.recipe import dotted

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
logging.getLogger("alembic").setLevel(logging.WARNING)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param, Run  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID  # noqa: E402

KEY = "stillhouse.key"
FLUSH_SECONDS = 2.0
FLUSH_METRICS = 200


class Tracker:
    """One MLflow run, open for writing. Make it with Tracker.open(). Not for use by several threads."""

    def __init__(self, client: MlflowClient, uri: str, run: Run, resumed: bool):
        self.client = client
        self.uri = uri
        self.run_id: str = run.info.run_id
        self.page = f"#/experiments/{run.info.experiment_id}/runs/{self.run_id}/model-metrics"
        """Where MLflow's page shows the curves and pictures of the run, after http://host:port/."""
        self.resumed = resumed
        self._waiting: list[Metric] = []
        self._flushed = time.monotonic()
        self._pictures = _pictures_of(client, self.run_id) if resumed else set()

    @classmethod
    def open(
        cls,
        uri: str,
        experiment: str,
        run_name: str,
        key: str,
        params: dict,
        tags: dict,
        parent: str | None = None,
    ) -> "Tracker":
        """Continue the run of `experiment` whose key is `key`, or start it, below the run `parent` if there is one.

        `params` may be nested and are logged with dotted names once, when the run starts; MLflow cuts values
        beyond 6,000 characters. Raises StoreError where the tracking store cannot be used.
        """
        try:
            client = connect(uri, create=True)
            tags = tags | {MLFLOW_PARENT_RUN_ID: parent} if parent else tags
            experiment_id = _experiment(client, experiment, home.artifact_root(uri))
            found = client.search_runs([experiment_id], f"tags.`{KEY}` = '{key}'", max_results=1)
            run = found[0] if found else _start(client, experiment_id, run_name, key, tags)
            client.update_run(run.info.run_id, status="RUNNING")
            if not run.data.params:
                _log_params(client, run.info.run_id, {k: str(v) for k, v in dotted(params).items()})
        except (MlflowException, OSError) as error:
            raise StoreError(f"tracking store {uri}: {error}; mend it or set MLFLOW_TRACKING_URI to another") from error
        return cls(client, uri, run, resumed=bool(found))

    @classmethod
    def find(cls, uri: str, experiment: str, key: str) -> "Tracker | None":
        """The run of `experiment` whose key is `key`, if there is one, to add to; its status stays as it is.

        Raises StoreError where the tracking store cannot be used.
        """
        try:
            client = connect(uri)
            found = client.get_experiment_by_name(experiment)
            runs = client.search_runs([found.experiment_id], f"tags.`{KEY}` = '{key}'", max_results=1) if found else []
        except (MlflowException, OSError) as error:
            raise StoreError(f"tracking store {uri}: {error}; mend it or set MLFLOW_TRACKING_URI to another") from error
        return cls(client, uri, runs[0], resumed=True) if runs else None

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Keep metrics of one step; they are sent together every 2 seconds, every 200 metrics and by flush()."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        if len(self._waiting) >= FLUSH_METRICS or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def steps(self, name: str) -> set[int]:
        """The steps at which the run has this metric."""
        return {metric.step for metric in self.client.get_metric_history(self.run_id, name)}

    def flush(self) -> None:
        """Send what log() kept. Call it with every checkpoint, so that a continued run has no gap before its start."""
        if self._waiting:
            self.client.log_batch(self.run_id, metrics=self._waiting)  # MLflow cuts it into pieces a server takes
            self._waiting = []
        self._flushed = time.monotonic()

    def picture(self, step: int, key: str, image: Image.Image) -> None:
        """Log an image that the run's page shows over steps. A step that already has one keeps it."""
        if (key, step) not in self._pictures:
            self.client.log_image(self.run_id, image, key=key, step=step)
            self._pictures.add((key, step))

    def tag(self, tags: dict[str, str]) -> None:
        """Set tags of the run; MLflow cuts values beyond 5,000 characters here."""
        for name, value in tags.items():
            self.client.set_tag(self.run_id, name, value[:5000])

    def artifacts(self, folder: Path, path: str | None = None) -> None:
        """Upload the files in a folder, to `path` inside the run's artifacts."""
        self.client.log_artifacts(self.run_id, str(folder), path)

    def end_children(self, tag: str, ended: dict[str, str]) -> None:
        """Mark runs below this one as KILLED that were ended from outside: `ended` says by their `tag` why."""
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self.client.get_run(self.run_id).info.experiment_id], query):
            if why := ended.get(run.data.tags.get(tag)):
                self.client.set_tag(run.info.run_id, "stillhouse.end", why)
                self.client.set_terminated(run.info.run_id, "KILLED")

    def finish(self, status: str = "FINISHED") -> None:
        """Send what is left and mark the run FINISHED, FAILED or KILLED."""
        self.flush()
        self.client.set_terminated(self.run_id, status)


def connect(uri: str, create: bool = False) -> MlflowClient:
    """A client of a tracking store and its registry. A SQLite file must exist, or is made where `create` is set."""
    database = home.sqlite_file(uri)
    if database and create:
        database.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{database}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # MLflow sets up a new file in steps that two processes must not share
            return _client(uri)
    if database and not database.is_file():
        raise StoreError(f"no tracking database at {database}: distill something first, or set MLFLOW_TRACKING_URI")
    return _client(uri)


def _client(uri: str) -> MlflowClient:
    """A client whose store answers, which sets up a new database."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """The experiment's id; it is made if it is not there, and one that another process makes meanwhile is adopted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        location = f"{artifacts}/{name}" if artifacts else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":
        raise MlflowException(f"experiment {name!r} was deleted: `mlflow experiments restore -x {found.experiment_id}`")
    return found.experiment_id


def _start(client: MlflowClient, experiment_id: str, name: str, key: str, tags: dict) -> Run:
    tags = {name: str(value) for name, value in tags.items()} | {KEY: key, "mlflow.source.name": "stillhouse"}
    return client.create_run(experiment_id, run_name=name, tags=tags)


def _log_params(client: MlflowClient, run_id: str, flat: dict[str, str]) -> None:
    client.log_batch(run_id, params=[Param(name, value) for name, value in flat.items()])


def _pictures_of(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """(key, step) of the pictures that a run has: MLflow names them KEY+step+STEP+timestamp+..."""
    names = [Path(file.path).name.split("+") for file in client.list_artifacts(run_id, "images")]
    return {(parts[0].replace("~", "/"), int(parts[2])) for parts in names if parts[1:2] == ["step"]}
