"""Logging of a run to MLflow: parameters, metrics and pictures by step, files.

This package is the only one that imports mlflow. It uses the tracking store that it is passed, and does not touch
MLflow's global state (active run, tracking URI).
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from cluster import home
from cluster.tracking.moved import adopt
from cluster.tracking.provenance import code_version
from distill.errors import MissingError, StoreError
from distill.recipe import dotted

os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
logging.getLogger("alembic").setLevel(logging.WARNING)

from cluster.tracking.client import PatientClient, explained, is_away  # noqa: E402

# isort: split
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.utils.mlflow_tags import (  # noqa: E402
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
)

log = logging.getLogger("stillhouse")
KEY = "stillhouse.key"
LONGEST = 6000
"""Letters of a parameter that MLflow keeps."""
UNNAMEABLE = re.compile(r"[^\w\-. :/]")
"""What MLflow refuses in the name of a parameter, such as the commas between paths that a sweep draws together."""
LONGEST_DIGEST = 36
"""Letters of a dataset's digest that MLflow keeps."""
FLUSH_SECONDS = 2.0
AWAY_SECONDS = 20.0
"""The same while the tracking store is away: each try takes seconds."""
FLUSH_METRICS = 200


class Tracker:
    """One MLflow run, open for writing. Create it with Tracker.open(). Not thread-safe."""

    def __init__(self, client: PatientClient, uri: str, run: Run, resumed: bool):
        self.client = client
        self.uri = uri
        self.run_id: str = run.info.run_id
        self.page = f"#/experiments/{run.info.experiment_id}/runs/{self.run_id}/model-metrics"
        """Path, after http://host:port/, of the MLflow page with the curves and pictures of the run."""
        self.resumed = resumed
        self._waiting: list[Metric] = []
        self._flushed = time.monotonic()
        self._away = False
        self._pictures = _pictures(client, self.run_id) if resumed else set()

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
        inputs: Sequence[DatasetInput] = (),
    ) -> "Tracker":
        """Continue the run of `experiment` with this key, or start it, as a child of the run `parent` if there is one.

        `params` may be nested; they are logged once, with dotted names, when the run starts, as are `inputs`, the data
        that it reads. MLflow truncates values to 6,000 characters. Raises StoreError if the tracking store cannot be
        used.
        """
        try:
            client = connect(uri, create=True)
            tags = tags | {MLFLOW_PARENT_RUN_ID: parent} if parent else tags
            experiment_id = _experiment(client, experiment, home.artifact_root(uri))
            runs = client.search_runs([experiment_id], f"tags.`{KEY}` = '{key}'", max_results=1)
            run = runs[0] if runs else _start(client, experiment_id, run_name, key, tags)
            client.update_run(run.info.run_id, status="RUNNING")
            if not run.data.params:
                flat = [Param(UNNAMEABLE.sub("", name), str(value)[:LONGEST]) for name, value in dotted(params).items()]
                client.log_batch(run.info.run_id, params=flat)
                if inputs:
                    client.log_inputs(run.info.run_id, list(inputs))
        except (MlflowException, OSError) as error:
            with explained(uri):
                raise error
        return cls(client, uri, run, resumed=bool(runs))

    @classmethod
    def find(cls, uri: str, experiment: str, key: str) -> "Tracker | None":
        """The existing run of `experiment` with this key, to add to it; its status does not change. None if missing.

        A run that was cut short by a deadline is found by the key of the shorter run that it then is, too.

        Raises StoreError if the tracking store cannot be used.
        """
        try:
            client, runs = connect(uri), []
            existing = client.get_experiment_by_name(experiment)
            for tag in (KEY, short_key(key)) if existing else ():
                filters = f"tags.`{tag}` = '{key}'"
                runs = runs or client.search_runs([existing.experiment_id], filters, max_results=1)
        except (MlflowException, OSError) as error:
            raise StoreError(f"tracking store {uri}: {error}; fix it or set MLFLOW_TRACKING_URI to another") from error
        return cls(client, uri, runs[0], resumed=True) if runs else None

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Queue metrics of one step; they are sent in batches every 2 seconds, every 200 metrics and by flush().

        While the tracking store is away the run goes on: they wait in the queue.
        """
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        since = time.monotonic() - self._flushed
        if since >= (AWAY_SECONDS if self._away else FLUSH_SECONDS) or (
            len(self._waiting) >= FLUSH_METRICS and not self._away
        ):
            self._try_to_flush()

    def steps(self, name: str) -> set[int]:
        """The steps at which the run has this metric."""
        return set(self.history(name))

    def history(self, name: str) -> dict[int, float]:
        """A metric's value at each step that was sent, by rising step; of two values of a step the newer counts."""
        metrics = sorted(self.client.get_metric_history(self.run_id, name), key=lambda m: m.timestamp)
        return dict(sorted({m.step: m.value for m in metrics}.items()))

    def _try_to_flush(self) -> None:
        """Send the queued metrics, or keep them if the tracking store is away."""
        try:
            with explained(self.uri):
                self.client.at_once.log_batch(self.run_id, metrics=self._waiting)
            self._waiting, self._away = [], False
        except StoreError as error:
            if not is_away(error.__context__):
                raise
            if not self._away:
                log.warning("%s; going on until the next checkpoint without it", error)
            self._away = True
        self._flushed = time.monotonic()

    def flush(self) -> None:
        """Send the queued metrics. Call it with every checkpoint: a resumed run does not log earlier steps again.

        Waits for a tracking store that is away. Raises StoreError if it does not come back, or cannot be written.
        """
        if self._waiting:
            with explained(self.uri):
                self.client.log_batch(self.run_id, metrics=self._waiting)  # MLflow splits it into requests
            self._waiting, self._away = [], False
        self._flushed = time.monotonic()

    def picture(self, step: int, key: str, image: Image.Image) -> None:
        """Log an image, which the run's page shows by step. An image already logged for this step is kept."""
        if (key, step) not in self._pictures:
            with explained(self.uri):
                self.client.log_image(self.run_id, image, key=key, step=step)
            self._pictures.add((key, step))

    def tag(self, tags: dict[str, str]) -> None:
        """Set tags of the run, truncated to the 5,000 characters that MLflow accepts."""
        for name, value in tags.items():
            with explained(self.uri):
                self.client.set_tag(self.run_id, name, value[:5000])

    def describe(self, markdown: str) -> None:
        """Set the description, which the page of the run shows first."""
        self.tag({MLFLOW_RUN_NOTE: markdown})

    def file(self, path: Path) -> None:
        """Upload one file to the top of the run's artifacts."""
        self.client.log_artifact(self.run_id, str(path))

    def text(self, name: str, text: str) -> None:
        """Keep a text as a file of the run."""
        self.client.log_text(self.run_id, text, name)

    def artifacts(self, folder: Path, path: str | None = None) -> None:
        """Upload the files of a folder to `path` in the run's artifacts."""
        with explained(self.uri):
            self.client.log_artifacts(self.run_id, str(folder), path)

    def end_children(self, tag: str, ended: dict[str, str]) -> None:
        """Mark running children that were stopped from outside as KILLED; `ended` maps values of `tag` to reasons."""
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self.client.get_run(self.run_id).info.experiment_id], query):
            if reason := ended.get(run.data.tags.get(tag)):
                self.client.set_tag(run.info.run_id, "stillhouse.end", reason)
                self.client.set_terminated(run.info.run_id, "KILLED")

    def finish(self, status: str = "FINISHED") -> None:
        """Send the queued metrics and mark the run FINISHED, FAILED or KILLED."""
        self.flush()
        with explained(self.uri):
            self.client.set_terminated(self.run_id, status)

    def fail(self) -> None:
        """finish("FAILED") after another error, which counts: if the tracking store cannot be written, so be it."""
        with contextlib.suppress(StoreError):
            self.finish("FAILED")


def dataset_input(name: str, digest: str, context: str, about: dict) -> DatasetInput:
    """Data that a run reads, for Tracker.open(): `context` is what for, such as "training"; `about` are JSON values."""
    dataset = Dataset(name, digest[:LONGEST_DIGEST], "stillhouse", json.dumps(about), profile=json.dumps(about))
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def short_key(key: str) -> str:
    """The tag of a run that a deadline cut short, one for each length, whose value is the key of the shorter run."""
    return f"{KEY}.{key.rpartition('-')[2]}"


def connect(uri: str, create: bool = False) -> PatientClient:
    """A client for a tracking store and its registry. A SQLite file must exist unless `create` is set."""
    database = home.sqlite_file(uri)
    if database and database.is_file():
        try:
            adopt(database)
        except sqlite3.Error as error:
            raise StoreError(f"tracking database {database}: {error}: it must be MLflow's, and writable") from error
    if database and create:
        database.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{database}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # MLflow's setup of a new file fails if two processes run it at once
            return _client(uri)
    if database and not database.is_file():
        raise MissingError(f"no tracking database at {database}: distill something first, or set MLFLOW_TRACKING_URI")
    return _client(uri)


def _client(uri: str) -> PatientClient:
    """A client, after one request: it raises if the store does not respond, and sets up a new database."""
    client = PatientClient(MlflowClient(tracking_uri=uri, registry_uri=uri), uri)
    client.search_experiments(max_results=1)
    return client


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """The id of the experiment, created if missing, also when another process creates it at the same time."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = f"{artifacts}/{name}" if artifacts else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage == "deleted":
        experiment_id = experiment.experiment_id
        raise MlflowException(f"experiment {name!r} was deleted: `mlflow experiments restore -x {experiment_id}`")
    return experiment.experiment_id


def _start(client: MlflowClient, experiment_id: str, name: str, key: str, tags: dict) -> Run:
    tags = {name: str(value) for name, value in tags.items()} | {KEY: key, "mlflow.source.name": "stillhouse"}
    if commit := code_version().get("git_commit"):
        tags[MLFLOW_GIT_COMMIT] = commit
    return client.create_run(experiment_id, run_name=name, tags=tags)


def _pictures(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """(key, step) of the pictures that a run already has: MLflow names their files KEY+step+STEP+timestamp+..."""
    names = [Path(file.path).name.split("+") for file in client.list_artifacts(run_id, "images")]
    return {(parts[0].replace("~", "/"), int(parts[2])) for parts in names if parts[1:2] == ["step"]}
