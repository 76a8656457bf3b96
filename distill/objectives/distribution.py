"""Distribution matching: in random networks, real and synthetic images of a class should have the same mean embedding.

Zhao & Bilen 2023 (DM), equation 5; L1 distance: Generative Dataset Distillation, section 3. It needs no inner training.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill import rng
from distill.augment import augment
from distill.objectives import base
from distill.objectives.base import Pass, Work
from distill.synthetic.base import Synthetic


class Objective(base.Objective):
    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        return sum(self._term(synthetic, step, s) for s in segments) / self.segments

    def work(self, synthetic: Synthetic) -> Work:
        real = min(self.settings.batch_real * self.context.classes, len(self.context.data.train))
        items = items_of_classes(synthetic.labels(torch.arange(len(synthetic))))
        passes = (
            Pass(sum(len(i) for i in items.values()), gradient=True, waits=True, features=True),
            Pass(real, min(self.settings.batch_real, real), features=True),
        )
        return Work(self.segments_per_worker, passes=passes)

    def _term(self, synthetic: Synthetic, step: int, segment: int) -> Tensor:
        """Sum over classes of the squared distance between mean embeddings, in one random network."""
        c = self.context
        key = ("distribution", step, segment)
        theta = c.network.init(rng.generator(c.seed, *key, "network")).to(c.device)
        y = synthetic.labels(torch.arange(len(synthetic)))
        items = items_of_classes(y)
        distances = [self._class_distance(synthetic, theta, y, k, i, key) for k, i in items.items()]
        return sum(distances) if distances else 0 * y.sum()

    def _class_distance(
        self, synthetic: Synthetic, theta: Tensor, y: Tensor, k: int, items: Tensor, key: tuple
    ) -> Tensor:
        """Squared distance for class k; items are weighted by their label for k."""
        c, o = self.context, self.settings
        weight = y[items, k] / y[items, k].sum()

        def embed(images: Tensor) -> Tensor:
            shared = rng.generator(c.seed, *key, "augment", k)  # real and synthetic images share it (siamese)
            return c.network.features(theta, augment(images, o.augment, shared))

        with torch.no_grad():
            real = embed(self._real_batch(k, rng.generator(c.seed, *key, "real", k))).mean(0)
        images = synthetic.images(items.cpu(), rng.generator(c.seed, *key, "draw", k))
        apart = real - weight @ embed(images)
        return apart.abs().sum() if o.distance == "l1" else apart.square().sum()

    def _real_batch(self, k: int, g: torch.Generator) -> Tensor:
        """Up to `batch_real` different random training images of class k."""
        train = self.context.data.train
        rows = (train.y == k).nonzero().flatten()
        return train.x[rows[torch.randperm(len(rows), generator=g)[: self.settings.batch_real].to(rows.device)]]


def items_of_classes(y: Tensor) -> dict[int, Tensor]:
    """The items (m,) that represent each class, by labels y (n, classes): those whose most likely class it is.

    So each item is rendered once, unless classes tie. A class that is never the most likely is represented by the items
    with its highest probability; a class without any probability is left out.
    """
    y = y.detach()
    top = (y == y.amax(1, keepdim=True)) & (y > 0)
    highest = (y == y.amax(0, keepdim=True)) & (y > 0)
    member = torch.where(top.any(0), top, highest)
    return {k: member[:, k].nonzero().flatten() for k in range(y.shape[1]) if member[:, k].any()}
