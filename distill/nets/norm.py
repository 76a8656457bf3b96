"""Normalisation written as mean and rsqrt arithmetic, which torch.compile fuses with its neighbours.

The GroupNorm kernel that the published codes use is slow on the CPU and does not fuse.
"""

import torch
from torch import Tensor, nn

KINDS = ("instance", "batch", "group", "layer", "none")


class Norm(nn.Module):
    """Affine normalisation of (n, c, h, w).

    instance: per image and channel; group: 4 groups of channels per image; layer: whole image; batch: per channel over
    the batch, with no running statistics (the batch it is given is the population); none: identity.
    """

    def __init__(self, kind: str, channels: int, eps: float = 1e-5):
        super().__init__()
        self.kind, self.channels, self.eps = kind, channels, eps
        if kind != "none":
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "none":
            return x
        scale, shift = self.weight.view(1, -1, 1, 1), self.bias.view(1, -1, 1, 1)
        return self._standardize(x.float() if x.dtype == torch.bfloat16 else x) * scale + shift

    def _standardize(self, x: Tensor) -> Tensor:
        if self.kind == "group":
            n, c, h, w = x.shape
            grouped = x.reshape(n, _groups(c), -1)
            return _whiten(grouped, (2,), self.eps).reshape(n, c, h, w)
        dims = {"instance": (2, 3), "layer": (1, 2, 3), "batch": (0, 2, 3)}[self.kind]
        return _whiten(x, dims, self.eps)


def _whiten(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)


def _groups(channels: int) -> int:
    return 4 if channels % 4 == 0 else 1
