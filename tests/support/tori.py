"""Textures that wrap round at all edges, from rough to smooth, for whatever must keep their seam closed."""

import torch
from torch import Tensor

from distill import rng
from distill.data.preprocess import Preprocess
from distill.published import Published
from distill.published.forms import Windows


def torus(height: int, width: int, smooth: float = 1.0, channels: int = 3, seed: int = 0) -> Tensor:
    """(c, H, W) in [0, 1]: noise whose spectrum falls with frequency to the power of `smooth`."""
    noise = torch.fft.rfft2(torch.randn(channels, height, width, generator=rng.generator(seed, "torus")))
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)).clamp(
        min=1 / max(height, width)
    )
    x = torch.fft.irfft2(noise * radius**-smooth, s=(height, width))
    return ((x - x.mean()) / x.std() * 0.2 + 0.5).clamp(0, 1)


def canvases(
    classes: tuple[str, ...], per_class: int = 1, wrap: str = "both", size=(48, 64), channels: int = 3
) -> Published:
    """A published set of canvases whose plane is smooth noise, its windows 16x16."""
    x = torch.stack([torus(*size, channels=channels, seed=k) for k in range(len(classes) * per_class)])
    corners = torch.cartesian_prod(torch.arange(len(x)), torch.arange(0, size[0], 16), torch.arange(0, size[1], 16))
    y = torch.nn.functional.one_hot(corners[:, 0] // per_class, len(classes)).float()
    stored = Windows(x, corners, (16, 16), y, (wrap != "x", wrap != "y"))
    return Published(stored, classes, Preprocess(), None, {"name": "fabric"}, 1, {}, x)
