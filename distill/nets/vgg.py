"""VGG-11 (Simonyan & Zisserman 2015), eight 3x3 convolutions and five max pools, with one linear layer as DC and MTT.

At 32 px the last map has one pixel; for larger images the classifier gets the mean over the map.
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe
from distill.nets.parts import Blocks, NormedConv, margin, refuse_below

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Channels of the convolutions between two pools, in multiples of the width."""
SMALLEST = 28


class VGG(Blocks):
    """9,231,114 parameters for 10 classes of RGB images at width 64, whatever the image side."""

    def __init__(self, settings: recipe.VGG, shape: tuple[int, int, int], classes: int):
        super().__init__()
        refuse_below(SMALLEST, shape, settings.kind)
        inputs, padding = shape[0], 1 + margin(shape)
        self.stages = nn.ModuleList()
        for stage in STAGES:
            convs = []
            for multiple in stage:
                outputs = multiple * settings.width
                convs.append(NormedConv(settings.norm, inputs, outputs, 3, True, padding=padding))
                inputs, padding = outputs, 1
            self.stages.append(nn.ModuleList(convs))
        self.classifier = nn.Linear(inputs, classes)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The outputs of the stages, after their pools."""
        for convs in self.stages:
            for conv in convs:
                x = F.relu(conv(x))
            x = F.max_pool2d(x, 2)
            yield x

    def embed(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def build(settings: recipe.VGG, shape: tuple[int, int, int], classes: int) -> VGG:
    """The module; only the shapes of its parameters are used. Raises RecipeError for images that are too small."""
    return VGG(settings, shape, classes)
