"""Distilled sets as versions of a registered model in MLflow: published with their accuracy, fetched by name.

`name@best` is the version with the best selection accuracy; `name@latest` is, as everywhere in MLflow, the newest.
"""

import hashlib
import json
import os
import re
import tempfile
import warnings
from importlib.metadata import version as installed
from pathlib import Path

from cluster import home
from cluster.tracking.run import Tracker, connect
from distill.errors import StoreError
from distill.published import FILE, read

# isort: split
import mlflow.pyfunc  # after cluster.tracking.run, which sets what mlflow reads when it is imported
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
REFERENCE = re.compile(r"(?:models:/)?(?P<name>[a-z0-9][a-z0-9_-]{0,62})(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))?")
NEEDS = ("mlflow", "numpy", "pandas", "safetensors")  # what cluster/tracking/registered_model.py imports
FLOATS = Array(DataType.float)
ANSWER = ModelSignature(  # of DistilledSet.predict
    outputs=Schema(
        [
            ColSpec(DataType.long, "label"),
            ColSpec(DataType.string, "class"),
            ColSpec(FLOATS, "soft_label"),
            ColSpec(Array(Array(FLOATS)), "pixels"),
            ColSpec(Array(Array(FLOATS)), "x"),
        ]
    )
)
SHA256 = "stillhouse.sha256"
ACCURACY = "selection_accuracy"
SELECTION = "selection"


def publish(tracker: Tracker, name: str, folder: Path, tags: dict[str, str], alias: str = "best") -> int:
    """Register the set that distill.published.write() left in `folder` as a version of `name`, and return its number.

    `tags` must hold `selection_accuracy`, a fraction; `alias` goes to the new version unless its present holder is
    better. A version chosen by `selection` = best-on-test never displaces one chosen on held-out training images.
    Publishing the same file from the same run again returns the version that exists.
    """
    _check_name(name)
    float(tags[ACCURACY])
    step = read(folder).step
    client, digest = tracker.client, sha256(folder / FILE)
    try:
        _create_name(client, name)
        found = _version_of(client, name, tracker.run_id, digest)
        version = found or _register(tracker, name, folder, step, {**tags, SHA256: digest})
        _move_alias(client, name, version, alias)
    except (MlflowException, OSError) as error:
        raise StoreError(f"registry {tracker.uri}, model {name}: {error}") from error
    return int(version.version)


def fetch(model: str, folder: Path, uri: str) -> Path:
    """Download a published set into `folder`, for distill.published.read(), and return the folder.

    `model` is `models:/name@alias`, `models:/name/3`, the same without `models:/`, or a name alone (`name@best`).
    Raises StoreError where there is no such version, and where what came is not what was published.
    """
    folder = Path(folder)
    try:
        client = connect(uri)
        found = _find(client, model)
        source = client.get_model_version_download_uri(found.name, found.version)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            came = Path(download_artifacts(f"{source}/artifacts", dst_path=scratch, tracking_uri=uri))
            if sha256(came / FILE) != found.tags.get(SHA256):
                raise StoreError(f"{model}: {FILE} in {source} is not the file that was published: publish it again")
            for file in sorted(came.iterdir(), key=lambda file: file.name == FILE):  # the one that is read comes last
                os.replace(file, folder / file.name)
    except (MlflowException, OSError) as error:
        raise StoreError(f"registry {uri}, model {model}: {error}; `stillhouse ui` shows what there is") from error
    return folder


def fetch_url(url: str, folder: Path) -> Path:
    """fetch() from this machine's tracking store: distill.load() calls it for `models:/...`."""
    return fetch(url, folder, home.tracking_uri())


def tags(model: str, uri: str) -> dict[str, str]:
    """Tags of a registered version, `run_id` among them; `model` as for fetch()."""
    try:
        return dict(_find(connect(uri), model).tags)
    except MlflowException as error:
        raise StoreError(f"registry {uri}, model {model}: {error}; `stillhouse ui` shows what there is") from error


def sha256(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise StoreError(f"model name {name!r}: use at most 63 of a-z, 0-9, - and _, the first a letter or digit")


def _create_name(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name, description="Distilled sets: train on these few images instead of all.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: MlflowClient, name: str, run_id: str, digest: str) -> ModelVersion | None:
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return next((v for v in versions if v.tags.get(SHA256) == digest), None)


def _register(tracker: Tracker, name: str, folder: Path, step: int, tags: dict[str, str]) -> ModelVersion:
    """Upload the set as a model of the run; only then does the version appear, with all of its tags."""
    client, run_id = tracker.client, tracker.run_id
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment, name, source_run_id=run_id, model_type="distilled set")
    with tempfile.TemporaryDirectory(prefix="stillhouse-") as scratch:
        local = Path(scratch) / "model"
        described = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
        _save(described, local, folder)
        client.log_model_artifacts(logged.model_id, str(local))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=step)])
    client.finalize_logged_model(logged.model_id, "READY")
    tags = {key: str(value) for key, value in tags.items()}
    source, model_id = logged.artifact_location, logged.model_id
    version = client.create_model_version(name, source, run_id, tags=tags, model_id=model_id)
    links = json.dumps([{"name": name, "version": int(version.version)}])
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: links})  # on the model's page
    return version


def _save(described: Model, local: Path, folder: Path) -> None:
    names = {"synthetic" if file.name == FILE else file.name: str(file) for file in sorted(Path(folder).iterdir())}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example was not provided", UserWarning)  # it takes no input
        mlflow.pyfunc.save_model(
            local,
            python_model=str(Path(__file__).with_name("registered_model.py")),
            artifacts=names,
            signature=ANSWER,
            mlflow_model=described,
            pip_requirements=[f"{package}=={installed(package)}" for package in NEEDS],
        )


def _move_alias(client: MlflowClient, name: str, version: ModelVersion, alias: str) -> None:
    holder = client.get_registered_model(name).aliases.get(alias)
    if holder is None or _rank(version) >= _rank(client.get_model_version(name, holder)):
        client.set_registered_model_alias(name, alias, version.version)


def _rank(version: ModelVersion) -> tuple[bool, float]:
    return version.tags.get(SELECTION) != "best-on-test", float(version.tags.get(ACCURACY, "-inf"))


def _find(client: MlflowClient, model: str) -> ModelVersion:
    reference = REFERENCE.fullmatch(model)
    if reference is None:
        raise StoreError(f"model {model!r}: write it as name, models:/name@alias or models:/name/3")
    if reference["version"]:
        return client.get_model_version(reference["name"], reference["version"])
    return client.get_model_version_by_alias(reference["name"], reference["alias"] or "best")
