"""Experts in training, saved in the store so that a kill costs the epochs since the last saved state, not the expert.

    experts/<set>/partial/expert-00003/epoch-00010-<sha256>.safetensors

The end of a key is the start of the SHA-256 of the object's bytes: damage is noticed before an object is decoded, and
states of the same epoch that differ (GPUs do not repeat every bit) do not collide. Saved states are no part of a set:
they are deleted when the expert is written.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cluster.store.base import Store
from cluster.trajectories import ExpertRecord
from distill.checkpoint import Checkpoint, pack, unpack
from distill.errors import MissingError, StoreError
from distill.train import Training

SHA_DIGITS = 32


@dataclass
class Course:
    """A group of experts in training: the state of the training, and what is recorded of it so far."""

    training: Training
    seed: int
    snapshots: list[Tensor] = field(default_factory=list)
    """One (s, p) float32 on the CPU per saved epoch."""
    train_accuracy: list[list[float]] = field(default_factory=list)
    """Per saved epoch one figure per expert, in [0, 1]."""
    test_accuracy: list[list[float]] = field(default_factory=list)

    def records(self) -> Iterator[ExpertRecord]:
        """The finished experts, as they are stored."""
        for row, expert in enumerate(self.training.experts):
            snapshots = torch.stack([theta[row] for theta in self.snapshots])
            on_train, on_test = ([e[row] for e in part] for part in (self.train_accuracy, self.test_accuracy))
            yield ExpertRecord(expert, snapshots, on_train, on_test, self.seed)

    def checkpoint(self, name: str) -> Checkpoint:
        """All of it; `name` is the set's."""
        t = self.training
        tensors = pack("state", {str(i): part for i, part in enumerate(t.state)})
        tensors |= {"snapshots": torch.stack(self.snapshots)} | ({} if t.average is None else {"average": t.average})
        accuracies = {"train_accuracy": self.train_accuracy, "test_accuracy": self.test_accuracy}
        return Checkpoint(t.epoch, name, tensors, {"experts": list(t.experts), "seed": self.seed, **accuracies})

    @classmethod
    def of(cls, saved: Checkpoint, device: torch.device) -> "Course":
        """The way back from `checkpoint`."""
        tensors, notes = saved.tensors, saved.notes
        parts = unpack("state", tensors)
        state = tuple(parts[str(i)].to(device) for i in range(len(parts)))
        average = tensors["average"].to(device) if "average" in tensors else None
        training = Training(tuple(notes["experts"]), saved.step, state, average)
        snapshots = list(tensors["snapshots"])
        return cls(training, notes["seed"], snapshots, notes["train_accuracy"], notes["test_accuracy"])


class SavedStates:
    """The saved states of one group of experts of a set; `say` is called with the reason why one is unusable."""

    def __init__(self, store: Store, name: str, experts: tuple[int, ...], say: Callable[[str], None]):
        self.store, self.name, self.experts, self.say = store, name, experts, say
        self.folder = folder(name, experts[0])

    def save(self, course: Course) -> None:
        """Write a state, then drop the ones before it."""
        blob = course.checkpoint(self.name).encode()
        key = f"{self.folder}epoch-{course.training.epoch:05d}-{_digest(blob)}.safetensors"
        self.store.create(key, blob)
        for other in self._keys():
            if other != key:
                self.store.delete(other, dry_run=False)

    def latest(self, device: torch.device) -> Course | None:
        """The last state that is whole and of these experts, on the device; None when there is none."""
        for key in reversed(self._keys()):
            if saved := self._read(key):
                return Course.of(saved, device)
        return None

    def clear(self) -> None:
        """Delete the states: the experts are written."""
        self.store.delete(self.folder, dry_run=False)

    def _keys(self) -> list[str]:
        return [entry.key for entry in self.store.list(self.folder)]

    def _read(self, key: str) -> Checkpoint | None:
        where = f"{self.store.url}/{key}"
        try:
            blob = self.store.read(key)
            if _digest(blob) != key.removesuffix(".safetensors").rpartition("-")[2]:
                raise StoreError(f"saved state {where} is damaged (SHA-256 differs)")
            saved = Checkpoint.decode(blob, where)
        except MissingError:
            return None  # another worker finished these experts meanwhile
        except StoreError as error:
            self.say(f"{error}; not used")
            return None
        if (saved.run_id, saved.notes.get("experts")) != (self.name, list(self.experts)):
            self.say(f"saved state {where} is of {saved.run_id}, experts {saved.notes.get('experts')}; not used")
            return None
        return saved


def folder(name: str, expert: int | None = None) -> str:
    """Folder of the states of a set, or of the group that begins with an expert."""
    return f"experts/{name}/partial/" + ("" if expert is None else f"expert-{expert:05d}/")


def sweep(store: Store, name: str, finished: set[int]) -> None:
    """Delete states that a killed worker left of experts that are finished by now."""
    for entry in store.list(folder(name)):
        expert = entry.key.split("/")[3].removeprefix("expert-")
        if expert.isdigit() and int(expert) in finished:
            store.delete(entry.key, dry_run=False)


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()[:SHA_DIGITS]
