"""The discriminator of Projected GANs (Sauer et al. 2021): it sees images through feature maps of a frozen network.

    discriminator = Projected([(3, 32, 32), (128, 16, 16)], channels=64, classes=10)
    discriminator.initialise(g).standardise(maps_of_real_images)
    logits = discriminator(maps, y)      # one (n, locations) for each map, positive for real

The maps of all resolutions are first mixed at random, and this mixing is never trained (cross-channel and cross-scale
mixing, section 3.2): otherwise a discriminator looks at a part of the features alone. Each mixed map has a head of its
own, convolutions with spectral norm, conditioned on the label by projection (Miyato & Koyama 2018). Maps are
standardised per channel by real images, so that heads work whatever the scale of the network's features.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAST = 4
"""Side of the map at the end of a head, in pixels: larger ones are halved until they are no larger."""
SLOPE = 0.2
EPS = 1e-5


class Projected(nn.Module):
    """Heads for maps of the shapes (c, h, w), the largest first. Weights are zero until initialise()."""

    def __init__(self, shapes: list[tuple[int, int, int]], channels: int, classes: int):
        super().__init__()
        self.shapes, self.channels = shapes, channels
        self.heads = nn.ModuleList(Head(channels, min(h, w), classes) for _, h, w in shapes)
        for i, (c, _, _) in enumerate(shapes):  # frozen, and drawn again from the seed: no part of a checkpoint
            for name, shape in (("across", (channels, c, 1, 1)), ("mixing", (channels, channels, 3, 3))):
                self.register_buffer(f"{name}{i}", torch.zeros(shape), persistent=False)
            self.register_buffer(f"mean{i}", torch.zeros(1, c, 1, 1), persistent=False)
            self.register_buffer(f"deviation{i}", torch.ones(1, c, 1, 1), persistent=False)

    def initialise(self, g: torch.Generator) -> "Projected":
        """Random weights and random mixing, which keeps the variance."""
        with torch.no_grad():
            for name, t in [*self.named_parameters(), *self.named_buffers()]:
                if t.ndim < 2 or name.startswith(("mean", "deviation")):
                    continue
                t.copy_(torch.randn(t.shape, generator=g) / math.sqrt(t[0].numel()))
        return self

    def standardise(self, maps: list[Tensor]) -> "Projected":
        """Take the mean and the deviation of each channel from the maps (n, c, h, w) of real images."""
        for i, m in enumerate(maps):
            setattr(self, f"mean{i}", m.mean((0, 2, 3), keepdim=True))
            setattr(self, f"deviation{i}", m.std((0, 2, 3), keepdim=True, correction=0).clamp(min=EPS))
        return self

    @property
    def values(self) -> int:
        """About how many values a pass keeps for its backward pass, per image."""
        total = 0
        for (c, h, w), head in zip(self.shapes, self.heads, strict=True):
            total += 2 * c * h * w + 4 * self.channels * h * w
            for stride in head.strides:
                h, w = -(-h // stride), -(-w // stride)
                total += 2 * self.channels * h * w
        return total

    def forward(self, maps: list[Tensor], y: Tensor) -> list[Tensor]:
        """Logits (n, locations) of each head, of maps (n, c, h, w) and label probabilities y (n, classes)."""
        logits, below = [], None
        for i in reversed(range(len(maps))):
            x = (maps[i] - getattr(self, f"mean{i}")) / getattr(self, f"deviation{i}")
            x = F.conv2d(x, getattr(self, f"across{i}"))
            if below is not None:
                x = (x + F.interpolate(below, x.shape[2:], mode="bilinear", align_corners=False)) * math.sqrt(0.5)
            below = F.conv2d(x, getattr(self, f"mixing{i}"), padding=1)
            logits.append(self.heads[i](below, y))
        return logits[::-1]


class Head(nn.Module):
    """Convolutions down to LAST pixels, then at each location a linear function and the likeness to the label."""

    def __init__(self, channels: int, side: int, classes: int):
        super().__init__()
        halvings = max(0, math.ceil(math.log2(side / LAST)))
        self.strides = [2] * halvings or [1]
        self.weights = nn.ParameterList(torch.zeros(channels, channels, 3, 3) for _ in self.strides)
        self.biases = nn.ParameterList(torch.zeros(channels) for _ in self.strides)
        self.real = nn.Parameter(torch.zeros(1, channels))
        self.classes = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for weight, bias, stride in zip(self.weights, self.biases, self.strides, strict=True):
            x = F.leaky_relu(F.conv2d(x, of_norm_one(weight), bias, stride, padding=1), SLOPE)
        direction = of_norm_one(self.real) + y @ of_norm_one(self.classes)  # (n, channels)
        return torch.einsum("nchw,nc->nhw", x, direction).flatten(1)


def of_norm_one(weight: Tensor) -> Tensor:
    """A weight over its largest singular value as a matrix (rows, the rest) (Miyato et al. 2018).

    The singular vectors are computed exactly, so there is no state between steps, and are constants to the gradient.
    """
    matrix = weight.flatten(1)
    with torch.no_grad():
        wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
        left = torch.linalg.eigh(wide @ wide.T)[1][:, -1]
        right = wide.T @ left
        right = right / right.norm().clamp(min=torch.finfo(right.dtype).tiny)
        left, right = (left, right) if wide is matrix else (right, left)
    return weight / (left @ matrix @ right).clamp(min=EPS)
