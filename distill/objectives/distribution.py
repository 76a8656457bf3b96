"""Match distributions: in a random network, real and synthetic images of a class have the same mean embedding.

Zhao & Bilen 2023 (DM), equation 5. It needs no inner training.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill import rng
from distill.augment import augment
from distill.objectives import base
from distill.synthetic.base import Synthetic


class Objective(base.Objective):
    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        return sum(self._term(synthetic, step, s) for s in segments) / self.segments

    def _term(self, synthetic: Synthetic, step: int, segment: int) -> Tensor:
        """Sum over classes of the squared distance of mean embeddings, in one random network."""
        c = self.context
        key = ("distribution", step, segment)
        theta = c.network.init(rng.generator(c.seed, *key, "network")).to(c.device)
        x, y = synthetic.batch(torch.arange(len(synthetic)), rng.generator(c.seed, *key, "draw"))
        labelled = (y.sum(0) > 0).nonzero().flatten().tolist()  # learned labels can leave a class out
        return sum(self._class_distance(theta, x, y, k, key) for k in labelled)

    def _class_distance(self, theta: Tensor, x: Tensor, y: Tensor, k: int, key: tuple) -> Tensor:
        """Real and synthetic images of class k see the same augmentation (siamese)."""
        c, o = self.context, self.settings
        member = (y[:, k] > 0).nonzero().flatten()
        weight = y[member, k] / y[member, k].sum()

        def embed(images: Tensor) -> Tensor:
            shared = rng.generator(c.seed, *key, "augment", k)
            return c.network.features(theta, augment(images, o.augment, shared))

        with torch.no_grad():
            real = embed(self._real(k, rng.generator(c.seed, *key, "real", k))).mean(0)
        return (real - weight @ embed(x[member])).square().sum()

    def _real(self, k: int, g: torch.Generator) -> Tensor:
        train = self.context.data.train
        rows = (train.y == k).nonzero().flatten()
        return train.x[rows[torch.randperm(len(rows), generator=g)[: self.settings.batch_real].to(rows.device)]]
