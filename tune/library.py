"""What the trials of a sweep share: decoded data, loaded once, and notes about memory.

A dataset lies in Ray's object store once per node; the tensors of all trials there are views of that memory.
"""

import warnings
from collections import OrderedDict

import numpy as np
import ray
import torch
from ray.util import serialization

from distill import data
from distill.data import Dataset
from distill.recipe import Recipe

KEPT = 4
"""Datasets kept at a time; only a sweep that varies dataset.* or seed has more than one."""


def key_of(recipe: Recipe) -> str:
    """What the data of a recipe depend on."""
    return f"{recipe.seed} {recipe.dataset.model_dump_json()}"


def share(dataset: Dataset) -> ray.ObjectRef:
    """Put a dataset on the CPU into Ray's object store, such that reading it copies nothing."""
    serialization.register_serializer(torch.Tensor, serializer=_to_numpy, deserializer=_from_numpy)
    try:
        return ray.put(dataset)
    finally:
        serialization.deregister_serializer(torch.Tensor)


def _to_numpy(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().numpy()


def _from_numpy(x: np.ndarray) -> torch.Tensor:
    """A tensor over the same, read-only memory; nobody writes into a dataset."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(x)


@ray.remote(num_cpus=0)
class Library:
    """Lends datasets to trials; the one place where they are loaded."""

    def __init__(self):
        self.lent: OrderedDict[str, ray.ObjectRef] = OrderedDict()
        self.loads = 0
        self.too_large: dict[int, int] = {}

    def give(self, key: str, ref: list[ray.ObjectRef]) -> None:
        """Take a dataset that is loaded already; the reference in a list, so that it is not read here."""
        self._keep(key, ref[0])

    def dataset(self, recipe: dict) -> list[ray.ObjectRef]:
        """A reference, in a list, to the data of a recipe, loaded now if nobody has asked for them before."""
        made = Recipe.model_validate(recipe)
        key = key_of(made)
        if key not in self.lent:
            self.loads += 1
            self._keep(key, share(data.load(made.dataset, made.seed, torch.device("cpu"))))
        self.lent.move_to_end(key)
        return [self.lent[key]]

    def count(self) -> int:
        """How many datasets were loaded here."""
        return self.loads

    def ran_out(self, number: int, memory_bytes: int) -> None:
        """A trial whose estimate was so many bytes ran out of memory."""
        self.too_large[number] = memory_bytes

    def memory_notes(self) -> dict[int, int]:
        """The trials that ran out of memory, and their estimates."""
        return dict(self.too_large)

    def _keep(self, key: str, ref: ray.ObjectRef) -> None:
        self.lent[key] = ref
        while len(self.lent) > KEPT:
            self.lent.popitem(last=False)
