"""Distilled sets as versions of a registered model in MLflow: published with their accuracy, fetched by name.

`name@best` is the version with the best selection accuracy; `name@latest` is the newest, as always in MLflow. How
models are named: cluster/tracking/naming.py; what else a name may be: cluster/tracking/versions.py.
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
from cluster.tracking import card, versions
from cluster.tracking.run import Tracker, connect
from cluster.tracking.versions import ACCURACY, BEST
from distill.errors import MissingError, StoreError
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
NEEDS = ("mlflow", "numpy", "pandas", "safetensors")  # what cluster/tracking/registered_model.py imports
FLOATS = Array(DataType.float)
PREDICTION = ModelSignature(  # what DistilledSet.predict returns
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
UNKNOWN = "; `stillhouse models list` shows what there is"


def publish(tracker: Tracker, name: str, folder: Path, tags: dict[str, str], alias: str = BEST) -> int:
    """Register the set that distill.published.write() wrote to `folder` as a version of `name`; return its number.

    `tags` must contain `selection_accuracy`, a fraction; `alias` moves to the best version of the model, also if others
    publish at the same time. A version selected by `selection` = best-on-test never replaces one selected on held-out
    training images. The version's description is its card, the model's that of the best version. Publishing the same
    file from the same run again returns the existing version, completed if it is not whole.
    """
    if not NAME.fullmatch(name):
        raise StoreError(f"model name {name!r}: use at most 63 of a-z, 0-9, - and _, the first a letter or digit")
    float(tags[ACCURACY])  # raises now, not after the upload
    published = read(folder)
    client, digest = tracker.client, sha256(folder / FILE)
    try:
        _create_name(client, name)
        made = client.search_model_versions(f"name = '{name}' and run_id = '{tracker.run_id}'")
        version = next((v for v in made if v.tags.get(SHA256) == digest), None)
        version = version or _register(tracker, name, folder, published.step, {**tags, SHA256: digest})
        if not version.description:
            text = card.of_version(version.tags, published.classes, name, int(version.version))
            client.update_model_version(name, version.version, text)
        best = versions.point_to_best(client, name, alias)
        client.update_registered_model(name, client.get_model_version(name, best.version).description)
    except (MlflowException, OSError) as error:
        raise StoreError(f"registry {tracker.uri}, model {name}: {error}") from error
    return int(version.version)


def fetch(model: str, folder: Path, uri: str) -> Path:
    """Download a published set into `folder`, for distill.published.read(), and return the folder.

    `model` is `models:/name@alias`, `models:/name/3`, the same without `models:/`, or a name alone (`name@best`).
    Raises StoreError if there is no such version, or if the downloaded file is not the published one.
    """
    folder = Path(folder)
    try:
        client = connect(uri)
        version = versions.find(client, model)
        source = client.get_model_version_download_uri(version.name, version.version)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            download = Path(download_artifacts(f"{source}/artifacts", dst_path=scratch, tracking_uri=uri))
            if sha256(download / FILE) != version.tags.get(SHA256):
                raise StoreError(f"{model}: {FILE} in {source} is not the file that was published: publish it again")
            for file in sorted(download.iterdir(), key=lambda file: file.name == FILE):  # read() needs only the last
                os.replace(file, folder / file.name)
    except (MlflowException, OSError) as error:
        raise StoreError(f"registry {uri}, model {model}: {error}{UNKNOWN}") from error
    return folder


def fetch_url(url: str, folder: Path) -> Path:
    """fetch() from this machine's tracking store; distill.load() calls it for `models:/...`."""
    return fetch(url, folder, home.tracking_uri())


def tags(model: str, uri: str) -> dict[str, str]:
    """Tags of a registered version, including `run_id`; `model` as for fetch()."""
    try:
        return dict(versions.find(connect(uri), model).tags)
    except MlflowException as error:
        raise StoreError(f"registry {uri}, model {model}: {error}{UNKNOWN}") from error


def note(name: str, version: int, tags: dict[str, str], classes: tuple[str, ...], uri: str) -> None:
    """Add tags to a registered version and renew its card, which shows them; nothing if the version is gone."""
    try:
        client = connect(uri)
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), tag, value)
        now = client.get_model_version(name, str(version))
        text = card.of_version(now.tags, classes, name, version)
        client.update_model_version(name, str(version), text)
        if version == int(client.get_registered_model(name).aliases.get(BEST, 0)):
            client.update_registered_model(name, text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise StoreError(f"registry {uri}, model {name}: {error}") from error


def holds(name: str, version: int, digest: str, uri: str) -> bool:
    """Whether the registry has this version, and it is the set with this SHA-256. Raises StoreError if it is silent."""
    try:
        return connect(uri).get_model_version(name, str(version)).tags.get(SHA256) == digest
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise StoreError(f"registry {uri}, model {name}: {error}") from error
    except MissingError:
        return False


def sha256(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _create_name(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _register(tracker: Tracker, name: str, folder: Path, step: int, tags: dict[str, str]) -> ModelVersion:
    """Upload the set as a model of the run, then create the version with all its tags: it never appears incomplete."""
    client, run_id = tracker.client, tracker.run_id
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment, name, source_run_id=run_id, model_type="distilled set")
    with tempfile.TemporaryDirectory(prefix="stillhouse-") as scratch:
        local = Path(scratch) / "model"
        _save(Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id), local, folder)
        client.log_model_artifacts(logged.model_id, str(local))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=step)])
    client.finalize_logged_model(logged.model_id, "READY")
    tags = {key: str(value) for key, value in tags.items()}
    source, model_id = logged.artifact_location, logged.model_id
    version = client.create_model_version(name, source, run_id, tags=tags, model_id=model_id)
    links = json.dumps([{"name": name, "version": int(version.version)}])
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: links})  # the link on the model's page
    return version


def _save(model: Model, local: Path, folder: Path) -> None:
    """Write the files of a set as an MLflow model to the folder `local`."""
    artifacts = {"synthetic" if file.name == FILE else file.name: str(file) for file in sorted(Path(folder).iterdir())}
    needs = (*NEEDS, "torch") if "sampler.py" in artifacts else NEEDS  # images that are drawn are drawn by torch
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example was not provided", UserWarning)  # predict() has none
        mlflow.pyfunc.save_model(
            local,
            python_model=str(Path(__file__).with_name("registered_model.py")),
            artifacts=artifacts,
            signature=PREDICTION,
            mlflow_model=model,
            pip_requirements=[f"{package}=={installed(package).partition('+')[0]}" for package in needs],
        )
