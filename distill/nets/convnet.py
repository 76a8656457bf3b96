"""ConvNet: [3x3 conv, norm, ReLU, 2x2 average pool] x depth, then linear; the network of DC, DM, MTT and PoDD."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe
from distill.errors import RecipeError
from distill.nets.norm import Norm
from distill.nets.parts import Blocks


class ConvNet(Blocks):
    """Gidaris & Komodakis 2018. Depth 3 at 32 px, 4 at 64, 5 at 128; 320,010 parameters for CIFAR-10 at width 128."""

    def __init__(self, settings: recipe.ConvNet, shape: tuple[int, int, int], classes: int):
        super().__init__()
        c, h, w = shape
        if min(h, w) >> settings.depth == 0:
            raise RecipeError(f"network.depth: {settings.depth} halvings leave nothing of {h}x{w} images; lower it")
        widths = [c] + [settings.width] * settings.depth
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(Norm(settings.norm, settings.width) for _ in self.convs)
        self.classifier = nn.Linear(settings.width * (h >> settings.depth) * (w >> settings.depth), classes)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = pool_2x2(F.relu(norm(conv(x))))
            yield x


def pool_2x2(x: Tensor) -> Tensor:
    """2x2 average pool of (n, c, h, w); an odd last row or column is dropped.

    Compiled, it is a sum over a view times 0.25: its gradient needs neither index arithmetic nor divisions. The
    channels come last, since convolutions would convert a result in any other order back.
    """
    if not torch.compiler.is_compiling():
        return F.avg_pool2d(x, 2)
    n, c, h, w = x.shape
    whole = x[:, :, : h // 2 * 2, : w // 2 * 2].permute(0, 2, 3, 1)  # (n, h, w, c)
    return (whole.reshape(n, h // 2, 2, w // 2, 2, c).sum((2, 4)) * 0.25).permute(0, 3, 1, 2)


def build(settings: recipe.ConvNet, shape: tuple[int, int, int], classes: int) -> ConvNet:
    """The module; only the shapes of its parameters are used."""
    return ConvNet(settings, shape, classes)
