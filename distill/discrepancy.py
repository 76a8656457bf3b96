"""How far the embeddings of real and synthetic images of each class are apart.

    d = Discrepancy(settings, generator)
    d(class means of d.statistics(real embeddings), class means of d.statistics(synthetic embeddings))

Every discrepancy here is a function of class means of statistics of single images, so embeddings may be computed and
averaged in any chunks, and nothing of them is kept. `settings` is recipe.Distribution.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe

ROUNDING = 1e-10
"""Added under the root of ncfm, whose derivative at 0 is infinite; rounding in float32 is about this large."""


class Discrepancy:
    """The discrepancy of one step; `ncfm` draws its frequencies from the CPU generator at the first statistics()."""

    def __init__(self, settings: recipe.Distribution, generator: torch.Generator):
        self.settings, self.generator = settings, generator
        self.frequencies: list[Tensor] = []

    def statistics(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Statistics (n, s) of each image from its embeddings (n, d), for each layer.

        For ncfm: cosine and sine of <t, f> for frequencies t ~ N(0, 1) and embeddings f of length 1, so that the
        characteristic functions neither vanish nor are constant, whatever the network; s is twice their number.
        """
        if self.settings.distance != "ncfm":
            return list(maps)
        if not self.frequencies:
            sizes = [(self.settings.frequencies, f.shape[1]) for f in maps]
            self.frequencies = [torch.randn(size, generator=self.generator) for size in sizes]
            self.frequencies = [t.to(f) for t, f in zip(self.frequencies, maps, strict=True)]
        angles = [F.normalize(f, dim=1) @ t.T for f, t in zip(maps, self.frequencies, strict=True)]  # each (n, m)
        return [torch.cat((a.cos(), a.sin()), 1) for a in angles]

    def __call__(self, real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
        """Sum over layers and classes, from class means of statistics: for each layer two of shape (classes, s)."""
        return sum(self._between(r, s) for r, s in zip(real, synthetic, strict=True))

    def _between(self, real: Tensor, synthetic: Tensor) -> Tensor:
        if self.settings.distance == "l1":
            return (real - synthetic).abs().sum()
        if self.settings.distance == "cosine":
            return (1 - F.cosine_similarity(real, synthetic, dim=1)).sum()
        if self.settings.distance == "ncfm":
            return characteristic(real, synthetic, self.settings.amplitude).sum()
        return (real - synthetic).square().sum()


def characteristic(real: Tensor, synthetic: Tensor, alpha: float) -> Tensor:
    """Discrepancy (classes,) of characteristic functions given as real and imaginary parts (classes, 2m).

    Wang et al. 2025, equations 5 to 7: the mean over frequencies of the root of alpha * (|p| - |q|)^2 + (1 - alpha) * 2
    |p| |q| (1 - cos(angle between p and q)). At alpha = 1/2 this is |p - q| / sqrt(2).
    """
    p, q = (values.unflatten(1, (2, -1)) for values in (real, synthetic))  # each (classes, 2, m)
    apart = (p - q).square().sum(1)  # amplitude and phase terms add up to it
    lengths = [(values.square().sum(1) + ROUNDING).sqrt() for values in (p, q)]
    amplitude = (lengths[0] - lengths[1]).square()
    phase = (apart - amplitude).clamp(min=0)
    return (alpha * amplitude + (1 - alpha) * phase + ROUNDING).sqrt().mean(1)
