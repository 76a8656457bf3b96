"""Mini-batches of a synthetic set: step i always gives the same batch, whenever and however often it is asked for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill import rng
from distill.augment import augment
from distill.recipe import Augment
from distill.synthetic.base import Synthetic


@dataclass(frozen=True)
class Batches:
    """Batches of one training on a synthetic set.

    Each pass shuffles the set, splits it, and uses every part before the next pass begins. `key` names the training:
    everything random depends on (seed, key, step) alone.
    """

    synthetic: Synthetic
    size: int
    """Images per step; 0: the whole set each time."""
    augment: Augment
    seed: int
    key: tuple[str | int, ...]

    @property
    def per_pass(self) -> int:
        """Steps that use the set once."""
        return -(-len(self.synthetic) // self.size) if self.size else 1

    def __call__(self, i: int) -> tuple[Tensor, Tensor]:
        """Images (b, c, h, w) and label probabilities (b, classes) of step i, differentiable."""
        x, y = self.synthetic.batch(self._index(i), rng.generator(self.seed, *self.key, "draw", i))
        return augment(x, self.augment, rng.generator(self.seed, *self.key, "augment", i)), y

    def _index(self, i: int) -> Tensor:
        n = len(self.synthetic)
        if self.per_pass == 1:
            return torch.arange(n)
        sweep, part = divmod(i, self.per_pass)
        order = torch.randperm(n, generator=rng.generator(self.seed, *self.key, "order", sweep))
        return order[part * self.size : (part + 1) * self.size]


@dataclass(frozen=True)
class Stacked:
    """Batches of several trainings side by side: (s, b, c, h, w) and (s, b, classes)."""

    parts: list[Batches]

    def __call__(self, i: int) -> tuple[Tensor, Tensor]:
        pairs = [part(i) for part in self.parts]
        return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])
