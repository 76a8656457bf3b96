"""The driver of the generative thesis (section 4.2): three [3x3 conv of stride 2, ReLU] blocks, three linear layers.

It was made for six actions from 32 px images of OpenAI's CarRacing; it takes any image and any number of classes.
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe
from distill.nets.parts import Blocks


class CarRacing(Blocks):
    """204,806 parameters for 6 classes of RGB images of 32 px at the default widths."""

    def __init__(self, settings: recipe.CarRacing, shape: tuple[int, int, int], classes: int):
        super().__init__()
        widths = (shape[0], settings.width, 2 * settings.width, 2 * settings.width)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)
        )
        pixels = -(-shape[1] // 8) * -(-shape[2] // 8)  # three strides of 2, each rounded up
        hidden = (widths[-1] * pixels, settings.hidden, settings.hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(hidden, hidden[1:], strict=False))
        self.classifier = nn.Linear(settings.hidden, classes)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The outputs of the convolutions, then of the hidden linear layers."""
        for conv in self.convs:
            x = F.relu(conv(x))
            yield x
        x = x.flatten(1)
        for linear in self.hidden:
            x = F.relu(linear(x))
            yield x


def build(settings: recipe.CarRacing, shape: tuple[int, int, int], classes: int) -> CarRacing:
    """The module; only the shapes of its parameters are used."""
    return CarRacing(settings, shape, classes)
