"""What the trials of a sweep share: decoded data, loaded once, and notes about memory.

A dataset lies in Ray's object store once per node; the tensors of all trials there are views of that memory.
"""

from collections import OrderedDict

import ray
import torch

from cluster.jobs.datasets import share
from distill import data
from distill.recipe import Recipe

KEPT = 4
"""Datasets kept at a time; only a sweep that varies dataset.* or seed has more than one."""


def key_of(recipe: Recipe) -> str:
    """What the data of a recipe depend on."""
    return f"{recipe.seed} {recipe.dataset.model_dump_json()}"


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
