"""AlexNet (Krizhevsky et al. 2012) in the form of DC and MTT: five convolutions, three 2x2 max pools, one linear layer.

The first convolution strides by one pixel for every 32 of the image's side, so 32, 64 and 128 px all give 4x4 maps.
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe
from distill.nets.parts import SMALL, Blocks, NormedConv, margin, refuse_below

LAYERS = ((2, 5, True), (3, 5, True), (4, 3, False), (3, 3, False), (3, 3, True))
"""For each convolution: channels in multiples of the width, kernel, whether a pool follows."""
SMALLEST = 8


class AlexNet(Blocks):
    """1,872,202 parameters for 10 classes of RGB images without norms, 1,874,122 with them, at 32, 64 and 128 px."""

    def __init__(self, settings: recipe.AlexNet, shape: tuple[int, int, int], classes: int):
        super().__init__()
        refuse_below(SMALLEST, shape, settings.kind)
        inputs, stride, extra = shape[0], max(1, min(shape[1:]) // SMALL), margin(shape)
        sides = [-(-(side + 2 * extra) // stride) for side in shape[1:]]  # a padded stride rounds up
        self.convs = nn.ModuleList()
        for multiple, kernel, _ in LAYERS:
            outputs, padding = multiple * settings.width, kernel // 2 + extra
            self.convs.append(NormedConv(settings.norm, inputs, outputs, kernel, True, padding=padding, stride=stride))
            inputs, stride, extra = outputs, 1, 0
        self.classifier = nn.Linear(inputs * (sides[0] >> 3) * (sides[1] >> 3), classes)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The outputs of the convolutions, after their pools."""
        for conv, (_, _, pooled) in zip(self.convs, LAYERS, strict=True):
            x = F.relu(conv(x))
            x = F.max_pool2d(x, 2) if pooled else x
            yield x


def build(settings: recipe.AlexNet, shape: tuple[int, int, int], classes: int) -> AlexNet:
    """The module; only the shapes of its parameters are used. Raises RecipeError for images that are too small."""
    return AlexNet(settings, shape, classes)
