"""What a run leaves in the store: `runs/<run-id>/` with checkpoints, the published set, its result, evaluations."""

import contextlib
import json
import tempfile
from pathlib import Path

from torch import Tensor

from cluster.results.evaluations import with_current_names
from cluster.store.base import Store
from distill import export
from distill.checkpoint import Checkpoint, unpack
from distill.errors import ConflictError, MissingError, StoreError
from distill.export import Published
from distill.recipe import digest

KEPT = 2
"""Checkpoints kept: the last one, and the one before it should the last prove unreadable."""


class Run:
    """One run in a store."""

    def __init__(self, store: Store, run_id: str):
        self.store, self.run_id = store, run_id
        self.folder = f"runs/{run_id}"

    def describe(self, recipe: dict) -> None:
        """Keep the recipe beside the checkpoints; what is there stays: it differs only in what changes nothing."""
        with contextlib.suppress(ConflictError):
            self.store.create(f"{self.folder}/recipe.json", json.dumps(recipe, sort_keys=True).encode())

    def selected(self) -> tuple[dict, dict[str, Tensor], float | None]:
        """(recipe, state of the Synthetic, learned rate) of the best set, also of a run that has not published it.

        Raises MissingError where there is neither.
        """
        if self.result():
            published = self.published()
            return published.recipe, published.state, published.student_lr
        checkpoint = self.latest()
        if checkpoint is None:
            raise MissingError(f"run {self.run_id} in {self.store.url} has neither published nor a checkpoint")
        recipe = json.loads(self.store.read(f"{self.folder}/recipe.json"))
        return recipe, unpack("best", checkpoint.tensors), checkpoint.notes["best_lr"]

    def save(self, checkpoint: Checkpoint) -> str:
        """Write a checkpoint, then drop those that are no longer needed; returns its key."""
        key = f"{self.folder}/checkpoints/{checkpoint.step:08d}.safetensors"
        self.store.create(key, checkpoint.encode())
        for old in self.checkpoints()[:-KEPT]:
            self.store.delete(old, dry_run=False)
        return key

    def checkpoints(self) -> list[str]:
        """Keys of the checkpoints, oldest first."""
        return [entry.key for entry in self.store.list(f"{self.folder}/checkpoints/")]

    def latest(self) -> Checkpoint | None:
        """The last checkpoint, or None. Raises StoreError when it is of another run or damaged."""
        keys = self.checkpoints()
        if not keys:
            return None
        checkpoint = Checkpoint.decode(self.store.read(keys[-1]), f"{self.store.url}/{keys[-1]}")
        if checkpoint.run_id != self.run_id:
            raise StoreError(f"checkpoint {keys[-1]} belongs to run {checkpoint.run_id}; delete runs/{self.run_id}")
        return checkpoint

    def publish(self, published: Published, result: dict, folder: Path) -> None:
        """Write the exports to `folder`, put them into the store, and the result last."""
        for path in export.write(published, folder):
            self.store.create(f"{self.folder}/published/{path.name}", path)
        self.store.create(f"{self.folder}/result.json", json.dumps(result, sort_keys=True).encode())

    def result(self) -> dict | None:
        """What the finished run measured, or None while it is not finished."""
        try:
            return json.loads(self.store.read(f"{self.folder}/result.json"))
        except MissingError:
            return None

    def keep_evaluation(self, figures: dict, name: str | None = None) -> str:
        """Store what an evaluation measured, and under which recipe; the same figures again change nothing.

        `name` is the digest of the request, so that it can be found again; without one the figures' own is used.
        """
        key = f"{self.folder}/evaluations/{name or digest(figures)}.json"
        self.store.create(key, json.dumps(figures, sort_keys=True).encode())
        return key

    def evaluation(self, name: str) -> dict | None:
        """The figures that were stored under a name, if there are any."""
        try:
            return with_current_names(json.loads(self.store.read(f"{self.folder}/evaluations/{name}.json")))
        except MissingError:
            return None

    def evaluations(self) -> list[dict]:
        """All figures that evaluations of the run have stored."""
        entries = self.store.list(f"{self.folder}/evaluations/")
        return [with_current_names(json.loads(self.store.read(entry.key))) for entry in entries]

    def fetch(self, folder: Path) -> Path:
        """Copy the published files into `folder`. Raises MissingError when the run has published nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in export.FILES:
            (folder / name).write_bytes(self.store.read(f"{self.folder}/published/{name}"))
        return folder

    def published(self) -> Published:
        """The set the run published."""
        with tempfile.TemporaryDirectory() as folder:
            return export.read(self.fetch(Path(folder)))


def run_ids(store: Store) -> list[str]:
    """All runs of a store, sorted."""
    return sorted({entry.key.split("/")[1] for entry in store.list("runs/")})
