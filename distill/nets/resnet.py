"""ResNet-18 (He et al. 2016) as the papers evaluate with: a small stem, and optionally no strides (ResNet18AP).

Below 64 px the stem is a 3x3 convolution, below 128 px it halves the map, from 128 px on it is ImageNet's: 7x7, halved
twice. Parameters for 10 classes: 11,173,962 up to 127 px, 11,181,642 from 128 px on (the avgpool form has more).
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe
from distill.nets.parts import Blocks, NormedConv, refuse_below

STAGES = (1, 2, 4, 8)
BLOCKS = 2


class Stem(nn.Module):
    """First convolution; the larger the images, the more often it halves the map."""

    def __init__(self, settings: recipe.ResNet, shape: tuple[int, int, int]):
        super().__init__()
        self.halvings, self.pooled = stem_halvings(shape), settings.shortcut == "avgpool"
        kernel = 7 if self.halvings == 2 else 3
        stride = 2 if self.halvings and not self.pooled else 1
        bias = settings.norm == "none"
        self.conv = NormedConv(
            settings.norm, shape[0], settings.width, kernel, bias, padding=kernel // 2, stride=stride
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        if self.pooled:
            return F.avg_pool2d(x, 2**self.halvings)
        return F.max_pool2d(x, 3, stride=2, padding=1) if self.halvings == 2 else x


def stem_halvings(shape: tuple[int, int, int]) -> int:
    """How often the stem halves images of shape (c, h, w)."""
    return sum(min(shape[1:]) >= side for side in (64, 128))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution if the shape changes."""

    def __init__(self, settings: recipe.ResNet, inputs: int, outputs: int, stride: int):
        super().__init__()
        norm, bias = settings.norm, settings.norm == "none"
        self.halves = stride == 2 and settings.shortcut == "avgpool"
        stride = 1 if self.halves else stride
        self.first = NormedConv(norm, inputs, outputs, 3, bias, padding=1, stride=stride)
        self.second = NormedConv(norm, outputs, outputs, 3, bias, padding=1)
        changes = inputs != outputs
        self.shortcut = NormedConv(norm, inputs, outputs, 1, bias, stride=stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.first(x))
        if self.halves:
            out, x = F.avg_pool2d(out, 2), F.avg_pool2d(x, 2)
        return F.relu(self.second(out) + self.shortcut(x))


class ResNet(Blocks):
    """Stem, four stages of two blocks, linear."""

    def __init__(self, settings: recipe.ResNet, shape: tuple[int, int, int], classes: int):
        super().__init__()
        refuse_below(_smallest(settings), shape, settings.kind)
        self.stem = Stem(settings, shape)
        widths = [settings.width] + [settings.width * s for s in STAGES]
        self.blocks = nn.ModuleList()
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
            self.blocks.append(ResidualBlock(settings, a, b, 1 if i == 0 else 2))
            self.blocks.extend(ResidualBlock(settings, b, b, 1) for _ in range(BLOCKS - 1))
        self.flattens = settings.shortcut == "avgpool"
        halvings = len(STAGES) - 1 + self.stem.halvings
        pixels = (shape[1] >> halvings) * (shape[2] >> halvings) if self.flattens else 1
        self.classifier = nn.Linear(widths[-1] * pixels, classes)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The outputs of the residual blocks."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
            yield x

    def embed(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.flattens else x.mean((2, 3))


def _smallest(settings: recipe.ResNet) -> int:
    """The smallest side whose three halvings leave one pixel, or two for an instance norm; strides round up."""
    if settings.norm == "instance":
        return 16 if settings.shortcut == "avgpool" else 9
    return 8 if settings.shortcut == "avgpool" else 1


def build(settings: recipe.ResNet, shape: tuple[int, int, int], classes: int) -> ResNet:
    """The module; only the shapes of its parameters are used. Raises RecipeError for images that are too small."""
    return ResNet(settings, shape, classes)
