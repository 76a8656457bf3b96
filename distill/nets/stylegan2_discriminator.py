"""StyleGAN2's residual discriminator (Karras et al. 2020, figure 7 c) with minibatch standard deviation.

    discriminator = Discriminator(size)                # the Size of its generator, or another with the same images
    discriminator.initialise(torch.Generator().manual_seed(0))
    logits = discriminator(x, labels)                  # (n, 1)

Parameters are named as in the published StyleGAN2-ADA discriminators: b{r}.{fromrgb,conv0,conv1,skip}.{weight,bias},
b4.{conv,fc,out}.{weight,bias}, mapping.{embed,fc0..7}.{weight,bias}.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.nets.stylegan2 import EPS, Generator, Linear, Mapping, Size, activate, resample

GROUP = 4
"""Images, at most, among which the standard deviation is taken."""
MAPPING = 8


class Conv(nn.Module):
    """A convolution with equalised learning rate; `down` halves the resolution, after the filter."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True, down: bool = False):
        super().__init__()
        self.down, self.padding, self.gain = down, kernel // 2, 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def draw(self, g: torch.Generator) -> None:
        self.weight.copy_(torch.randn(self.weight.shape, generator=g))
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if not self.down:
            return F.conv2d(x, self.weight * self.gain, self.bias, padding=self.padding)
        pad = self.padding + 1  # of the filter and of the convolution together
        return F.conv2d(resample(x, pad, pad), self.weight * self.gain, self.bias, stride=2)


class Block(nn.Module):
    """Two convolutions beside a linear skip; together of unit variance, and half the resolution."""

    def __init__(self, side: int, size: Size):
        super().__init__()
        maps, after = size.maps(side), size.maps(side // 2)
        self.clamp = size.clamp
        if side == size.resolution:
            self.fromrgb = Conv(size.channels, maps, 1)
        self.conv0 = Conv(maps, maps, 3)
        self.conv1 = Conv(maps, after, 3, down=True)
        self.skip = Conv(maps, after, 1, bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        x = activate(self.fromrgb(x), clamp=self.clamp) if hasattr(self, "fromrgb") else x
        y = self.skip(x) * math.sqrt(0.5)
        return y + activate(self.conv1(activate(self.conv0(x), clamp=self.clamp)), math.sqrt(0.5), self.clamp)


class Last(nn.Module):
    """From 4x4 maps to one value, or to a vector that is compared with the class."""

    def __init__(self, size: Size):
        super().__init__()
        maps, self.clamp = size.maps(4), size.clamp
        if size.resolution == 4:
            self.fromrgb = Conv(size.channels, maps, 1)
        self.conv = Conv(maps + 1, maps, 3)
        self.fc = Linear(maps * 16, maps)
        self.out = Linear(maps, maps if size.classes else 1)

    def forward(self, x: Tensor) -> Tensor:
        x = activate(self.fromrgb(x), clamp=self.clamp) if hasattr(self, "fromrgb") else x
        x = activate(self.conv(with_deviation(x)), clamp=self.clamp)
        return self.out(activate(self.fc(x.flatten(1))))


class Discriminator(nn.Module):
    """Logits (n, 1) of images (n, c, r, r) and classes (n,): positive for real. Weights are zero until initialise()."""

    def __init__(self, size: Size):
        super().__init__()
        self.size = size
        for side in size.sides[:0:-1]:
            setattr(self, f"b{side}", Block(side, size))
        self.b4 = Last(size)
        if size.classes:
            self.mapping = Mapping(0, size.classes, size.maps(4), MAPPING)
            del self.mapping.w_avg

    initialise = Generator.initialise

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        for side in self.size.sides[::-1]:
            x = getattr(self, f"b{side}")(x)
        if not self.size.classes:
            return x
        return (x * self.mapping(None, labels)).sum(1, keepdim=True) / math.sqrt(self.size.maps(4))


def with_deviation(x: Tensor) -> Tensor:
    """x (n, c, h, w) and one more map: the mean standard deviation of its group of images (Karras et al. 2018).

    Image i is in group i modulo n / group size; groups have the largest size up to GROUP that divides n.
    """
    n, c, h, w = x.shape
    size = next(k for k in range(min(GROUP, n), 0, -1) if n % k == 0)
    groups = x.reshape(size, -1, c, h, w)
    deviation = (groups.var(0, correction=0) + EPS).sqrt().mean((1, 2, 3))  # (n / size,)
    return torch.cat([x, deviation.repeat(size)[:, None, None, None].expand(-1, 1, h, w)], 1)
