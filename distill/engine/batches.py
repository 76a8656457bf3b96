"""Mini-batches of a synthetic set: step i always gives the same batch, in any order and any number of times."""

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

    Each pass shuffles the set, splits it, and uses every part before the next pass begins. `key` identifies the
    training: all randomness depends only on (seed, key, step).
    """

    synthetic: Synthetic
    size: int
    """Images per step; 0: the whole set."""
    augment: Augment
    seed: int
    key: tuple[str | int, ...]

    @property
    def remade(self) -> bool:
        """Whether they must not be kept between forward and backward pass."""
        return self.synthetic.remade

    @property
    def per_pass(self) -> int:
        """Steps in one pass over the set."""
        return -(-len(self.synthetic) // self.size) if self.size else 1

    def __call__(self, i: int) -> tuple[Tensor, Tensor]:
        """Images (b, c, h, w) and label probabilities (b, classes) of step i, differentiable."""
        index = torch.arange(len(self.synthetic))
        if self.per_pass > 1:
            sweep, part = divmod(i, self.per_pass)
            order = torch.randperm(len(index), generator=rng.generator(self.seed, *self.key, "order", sweep))
            index = order[part * self.size : (part + 1) * self.size]
        x, y = self.synthetic.batch(index, rng.generator(self.seed, *self.key, "draw", i))
        return augment(x, self.augment, rng.generator(self.seed, *self.key, "augment", i)), y


@dataclass(frozen=True)
class Stacked:
    """Batches of several trainings side by side: (s, b, c, h, w) and (s, b, classes)."""

    parts: list[Batches]

    @property
    def remade(self) -> bool:
        """Whether they must not be kept between forward and backward pass."""
        return any(part.remade for part in self.parts)

    def __call__(self, i: int) -> tuple[Tensor, Tensor]:
        pairs = [part(i) for part in self.parts]
        return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])
