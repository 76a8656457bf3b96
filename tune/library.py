"""What the trials of a sweep share: decoded datasets, loaded once, and which trials ran out of memory.

Ray's object store holds a dataset once per node; the tensors of all trials on the node are views of that memory.
"""

from collections import OrderedDict

import ray
import torch

from cluster.jobs.datasets import share
from distill import data
from distill.recipe import Recipe

KEPT = 4
"""Datasets kept at a time; only a sweep over dataset.* or seed has more than one."""


def key_of(recipe: Recipe) -> str:
    """Everything in a recipe that its data depend on."""
    return f"{recipe.seed} {recipe.dataset.model_dump_json()}"


@ray.remote(num_cpus=0)
class Library:
    """The actor that loads datasets for trials and remembers which trials ran out of memory."""

    def __init__(self):
        self.loaded: OrderedDict[str, ray.ObjectRef] = OrderedDict()
        self.loads = 0
        self.too_large: dict[int, int] = {}

    def add(self, key: str, ref: list[ray.ObjectRef]) -> None:
        """Add a dataset that is loaded already; the reference is in a list so that Ray does not resolve it."""
        self._keep(key, ref[0])

    def dataset(self, recipe: dict) -> list[ray.ObjectRef]:
        """A reference, in a list, to the data of a recipe; loads them on the first request."""
        parsed = Recipe.model_validate(recipe)
        key = key_of(parsed)
        if key not in self.loaded:
            self.loads += 1
            self._keep(key, share(data.load(parsed.dataset, parsed.seed, torch.device("cpu"))))
        self.loaded.move_to_end(key)
        return [self.loaded[key]]

    def count(self) -> int:
        """How many datasets this actor has loaded."""
        return self.loads

    def ran_out(self, number: int, memory_bytes: int) -> None:
        """Note that a trial estimated at `memory_bytes` ran out of memory."""
        self.too_large[number] = memory_bytes

    def memory_notes(self) -> dict[int, int]:
        """The trials that ran out of memory, with their estimates."""
        return dict(self.too_large)

    def _keep(self, key: str, ref: ray.ObjectRef) -> None:
        self.loaded[key] = ref
        while len(self.loaded) > KEPT:
            self.loaded.popitem(last=False)
