"""The pictures that a run logged over its steps, read back from MLflow."""

import tempfile
from pathlib import Path

from PIL import Image

from cluster.tracking.run import Tracker

# isort: split
from mlflow.exceptions import MlflowException  # after cluster.tracking.run, which sets what mlflow reads

from distill.errors import MissingError, StoreError


def frames(uri: str, experiment: str, key: str, name: str, most: int, side: int) -> list[tuple[int, Image.Image]]:
    """(step, RGB image) of the pictures `name` of a run, at most `most`, evenly chosen, no side above `side` pixels.

    `key` is the run's, as for Tracker.find(). Raises MissingError if the run has no such pictures.
    """
    tracker = Tracker.find(uri, experiment, key)
    if tracker is None:
        raise MissingError(f"{key}: MLflow at {uri} has no such run, so there are no pictures of its steps")
    try:
        files = _files(tracker, name)
        if not files:
            raise MissingError(f"{key}: the run kept no {name!r} pictures: set outer.picture_every above 0 and distill")
        chosen = _evenly(sorted(files), most)
        with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder:
            return [(step, _open(tracker, files[step], folder, side)) for step in chosen]
    except (MlflowException, OSError) as error:
        raise StoreError(f"tracking store {uri}, pictures of {key}: {error}") from error


def _files(tracker: Tracker, name: str) -> dict[int, str]:
    """By step: path of the newest picture. MLflow names them KEY+step+STEP+timestamp+TIME+ID.png."""
    found = {}
    for file in tracker.client.list_artifacts(tracker.run_id, "images"):
        parts = Path(file.path).name.split("+")
        if parts[:2] == [name.replace("/", "~"), "step"] and file.path.endswith(".png"):
            step, time = int(parts[2]), int(parts[4])
            found[step] = max(found.get(step, (0, "")), (time, file.path))
    return {step: path for step, (_, path) in found.items()}


def _evenly(steps: list[int], most: int) -> list[int]:
    """At most `most` of the steps, the first and the last among them."""
    if len(steps) <= most:
        return steps
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def _open(tracker: Tracker, path: str, folder: str, side: int) -> Image.Image:
    with Image.open(tracker.client.download_artifacts(tracker.run_id, path, folder)) as image:
        image = image.convert("RGB")
    image.thumbnail((side, side))
    return image
