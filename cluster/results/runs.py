"""What a run leaves in the store: `runs/<run-id>/` with checkpoints, the published set, its result, evaluations."""

import contextlib
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cluster.results.evaluations import as_current
from cluster.store import open_store
from cluster.store.base import Store
from distill.checkpoint import Checkpoint, unpack
from distill.errors import ConflictError, MissingError, StoreError
from distill.published import FILE, Published, read
from distill.recipe import current, digest, with_paths_of

log = logging.getLogger("stillhouse")
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

        Raises MissingError if there is neither.
        """
        if self.result():
            published = self.published()
            return published.recipe, published.state, published.lr
        checkpoint = self.latest()
        if checkpoint is None:
            raise MissingError(f"run {self.run_id} in {self.store.url} has neither published nor a checkpoint")
        recipe = current(json.loads(self.store.read(f"{self.folder}/recipe.json")))
        return recipe, unpack("best", checkpoint.tensors), checkpoint.notes["best_lr"]

    def save(self, checkpoint: Checkpoint) -> str:
        """Write a checkpoint, then drop those that are no longer needed; returns its key."""
        key = f"{self.folder}/checkpoints/{checkpoint.step:08d}.safetensors"
        try:
            self.store.create(key, checkpoint.encode())
        except ConflictError:
            if self._whole(key):
                raise
            self.store.delete(key, dry_run=False)  # the damaged one, instead of which an older one was used
            self.store.create(key, checkpoint.encode())
        for old in self.checkpoints()[:-KEPT]:
            self.store.delete(old, dry_run=False)
        return key

    def checkpoints(self) -> list[str]:
        """Keys of the checkpoints, oldest first."""
        return [entry.key for entry in self.store.list(f"{self.folder}/checkpoints/")]

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that is whole, or None if there are no checkpoints; damaged ones after it are noted.

        Raises StoreError if all are damaged, or if it is of another run.
        """
        checkpoint, damage = None, []
        for key in reversed(self.checkpoints()):
            try:
                checkpoint = Checkpoint.decode(self.store.read(key), f"{self.store.url}/{key}")
                break
            except MissingError:
                continue  # another process dropped it meanwhile
            except StoreError as error:
                damage.append(error)
        if checkpoint is None and damage:
            raise damage[0]
        for error in damage:
            log.warning("%s; resuming from step %d, the one before it", error, checkpoint.step)
        if checkpoint and checkpoint.run_id != self.run_id:
            raise StoreError(
                f"checkpoint {checkpoint.step} belongs to run {checkpoint.run_id}; delete runs/{self.run_id}"
            )
        return checkpoint

    def _whole(self, key: str) -> bool:
        """Whether a checkpoint can be read."""
        try:
            Checkpoint.decode(self.store.read(key), key)
        except MissingError:
            raise
        except StoreError:
            return False
        return True

    def publish(self, files: list[Path], result: dict) -> None:
        """Put the files of the published set into the store, and the result last."""
        for path in files:
            self.store.create(f"{self.folder}/published/{path.name}", path)
        self.store.create(f"{self.folder}/result.json", json.dumps(result, sort_keys=True).encode())

    def fetch_published(self, folder: Path) -> Path:
        """Write the files of the published set into `folder`, and return it."""
        for entry in self.store.list(f"{self.folder}/published/"):
            (folder / entry.key.rpartition("/")[2]).write_bytes(self.store.read(entry.key))
        return folder

    def replace_result(self, result: dict) -> None:
        """Replace the result of a run that was registered again; stopped in between, the run ends again if rerun."""
        self.store.delete(f"{self.folder}/result.json", dry_run=False)
        self.store.create(f"{self.folder}/result.json", json.dumps(result, sort_keys=True).encode())

    def longest_shorter(self) -> "Run | None":
        """Of the runs that differ from this one only in taking fewer outer steps, the longest that has a checkpoint."""
        lineage, _, steps = self.run_id.rpartition("-")
        ends = [(other, *other.rpartition("-")[::2]) for other in run_ids(self.store)]
        shorter = [(int(n), other) for other, own, n in ends if own == lineage and n.isdigit() and int(n) < int(steps)]
        runs = [Run(self.store, other) for _, other in sorted(shorter, reverse=True)]
        return next((run for run in runs if run.checkpoints()), None)

    def result(self) -> dict | None:
        """What the finished run measured, or None while it is not finished."""
        try:
            return json.loads(self.store.read(f"{self.folder}/result.json"))
        except MissingError:
            return None

    def keep_evaluation(self, figures: dict, name: str | None = None, kind: str = "evaluations") -> str:
        """Store what an evaluation measured, and under which recipe; the same figures again change nothing.

        `name` is the digest of the request, so that it can be found again; without one the figures' own is used.
        `kind` is "evaluations" (accuracies) or "drives" (episode scores).
        """
        key = f"{self.folder}/{kind}/{name or digest(figures)}.json"
        self.store.create(key, json.dumps(figures, sort_keys=True).encode())
        return key

    def evaluation(self, name: str, kind: str = "evaluations") -> dict | None:
        """The figures that were stored under a name, if there are any."""
        try:
            return as_current(json.loads(self.store.read(f"{self.folder}/{kind}/{name}.json")))
        except MissingError:
            return None

    def evaluations(self) -> list[dict]:
        """All figures that evaluations of the run have stored."""
        entries = self.store.list(f"{self.folder}/evaluations/")
        return [as_current(json.loads(self.store.read(entry.key))) for entry in entries]

    def published(self) -> Published:
        """The set the run published. Raises MissingError when it has published nothing."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / FILE).write_bytes(self.store.read(f"{self.folder}/published/{FILE}"))
            return self.with_own_paths(read(Path(folder)))

    def with_own_paths(self, published: Published) -> Published:
        """A set of this run with the paths of the recipe beside its checkpoints: published files leave them out."""
        try:
            own = current(json.loads(self.store.read(f"{self.folder}/recipe.json")))
        except MissingError:
            return published
        return replace(published, recipe=with_paths_of(published.recipe, own))


def run_ids(store: Store) -> list[str]:
    """All runs of a store, sorted."""
    return sorted({entry.key.split("/")[1] for entry in store.list("runs/")})


def fetch_url(url: str, folder: Path) -> Path:
    """Fetch the set at `s3://bucket/.../published`, or at such a file, into `folder`: distill.load() calls it."""
    place = url.removesuffix(f"/{FILE}")
    store, _, key = place.rpartition("/runs/")
    blob = open_store(store).read(f"runs/{key}/{FILE}") if store else open_store(place).read(FILE)
    (folder / FILE).write_bytes(blob)
    return folder
