"""Normalisation written as mean and rsqrt arithmetic, which torch.compile fuses with its neighbours.

The GroupNorm kernel that the published codes use is slow on the CPU and does not fuse.
"""

import torch
from torch import Tensor, nn

KINDS = ("instance", "batch", "group", "layer", "none")
DIMS = {"instance": (2, 3), "layer": (1, 2, 3), "batch": (0, 2, 3)}
"""The dimensions of (n, c, h, w) that are averaged over."""


class Norm(nn.Module):
    """Affine normalisation of (n, c, h, w).

    instance: per image and channel; group: 4 groups of channels per image; layer: whole image; none: identity; batch:
    per channel over the batch. After eval() batch norm uses its buffers `mean` and `var` (c,) instead, which are never
    written: `Network` substitutes a network's statistics for them.
    """

    def __init__(self, kind: str, channels: int, eps: float = 1e-5):
        super().__init__()
        self.kind, self.channels, self.eps = kind, channels, eps
        if kind != "none":
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        if kind == "batch":
            self.register_buffer("mean", torch.zeros(channels), persistent=False)
            self.register_buffer("var", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "none":
            return x
        scale, shift = _per_channel(self.weight), _per_channel(self.bias)
        wide = x.float() if x.dtype == torch.bfloat16 else x
        if torch.compiler.is_compiling() and self.kind in DIMS and (self.training or self.kind != "batch"):
            return _fused(wide, DIMS[self.kind], self.eps, scale, shift).to(x.dtype)
        return (self._standardize(wide) * scale + shift).to(x.dtype)

    def _standardize(self, x: Tensor) -> Tensor:
        if self.kind == "batch" and not self.training:
            return (x - _per_channel(self.mean)) * torch.rsqrt(_per_channel(self.var) + self.eps)
        if self.kind == "group":
            n, c, h, w = x.shape
            grouped = x.reshape(n, _groups(c), -1)
            return _whiten(grouped, (2,), self.eps).reshape(n, c, h, w)
        return _whiten(x, DIMS[self.kind], self.eps)


class TokenNorm(nn.Module):
    """Layer normalisation of tokens (..., d), affine, as transformers use it."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return _whiten(x.float() if x.dtype == torch.bfloat16 else x, (-1,), self.eps) * self.weight + self.bias


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (c,) of a batch (n, c, h, w), as batch norm computes them."""
    x = x.float() if x.dtype == torch.bfloat16 else x
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


def _whiten(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)


def _fused(x: Tensor, dims: tuple[int, ...], eps: float, scale: Tensor, shift: Tensor) -> Tensor:
    """_whiten, scaled and shifted, in the form that compiles to the fastest code.

    One pass over the pixels gives mean and variance, and one multiplication and addition applies them. One pixel of
    each map is subtracted first, which keeps the difference of two means of squares accurate; variances do not depend
    on it, so its derivatives of every order vanish and it is detached. The gradient of a mean would divide per pixel.
    """
    pixel, part = x.detach(), 1.0
    for dim in dims:
        pixel, part = pixel.narrow(dim, 0, 1), part / x.shape[dim]
    centred = x - pixel
    mean, square = (part * total for total in _materialized(centred.sum(dims, True), centred.square().sum(dims, True)))
    slope = torch.rsqrt(square - mean.square() + eps) * scale
    slope, offset = _materialized(slope, shift - (mean + pixel) * slope)
    return x * slope + offset


def _materialized(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The two tensors, forced into memory together with their gradients.

    Otherwise inductor recomputes such small tensors at each pixel, including divisions and roots: a step of ConvNet-3
    on the CPU took twice as long.
    """
    return torch.stack((a, b)).unbind()


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def _groups(channels: int) -> int:
    return 4 if channels % 4 == 0 else 1
