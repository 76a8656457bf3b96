"""Resizing a tile so that its seam stays closed: Lanczos-3 whose kernel continues at the opposite edge.

    larger = resize(x, (2048, 2048))                    # x (..., H, W) wraps at all edges
    border = resize(x, (128, 2048), (False, True))      # only from left to right

An ordinary resize sees nothing beyond the edge and repeats or drops what it lacks: the two edges no longer fit.
"""

import torch
from torch import Tensor

A = 3
"""Lobes of the kernel on either side."""
MEAN = 0.25
"""A `shift` by which an enlarged tile's edge lies where the picture changes as it does on average. Otherwise it lies
halfway between two pixels of x, where an interpolation is steepest and least bent: at four times the size seam() gives
1.1 to 1.2 for values and 0.75 to 0.85 for gradients, as it would between any two pixels of x; shifted, 0.98 to 1.01."""


def resize(x: Tensor, size: tuple[int, int], wraps: tuple[bool, bool] = (True, True), shift: float = 0.0) -> Tensor:
    """Images x (..., H, W) at (h, w) pixels; `wraps` says whether rows and columns continue at the opposite edge.

    The result starts `shift` pixels of x later, on axes that wrap. At edges that do not wrap the kernel is cut off and
    normalised, as in Pillow. Values may overshoot those of x.
    """
    down, across = (
        weights(n, k, wrap, shift if wrap else 0.0).to(x) for n, k, wrap in zip(x.shape[-2:], size, wraps, strict=True)
    )
    return down @ x @ across.T


def weights(n: int, k: int, wrap: bool = True, shift: float = 0.0) -> Tensor:
    """(k, n): how much each of n pixels counts in each of k, float64; rows sum to 1."""
    stretch = max(n / k, 1.0)  # a smaller picture averages over more pixels
    centre = (torch.arange(k, dtype=torch.float64) + 0.5) * n / k + shift
    first = torch.floor(centre - A * stretch).long()
    pixel = first[:, None] + torch.arange(int(2 * A * stretch) + 2)  # (k, taps)
    t = (pixel + 0.5 - centre[:, None]) / stretch
    weight = torch.where(t.abs() < A, torch.sinc(t) * torch.sinc(t / A), 0.0)
    if not wrap:
        weight = weight * ((pixel >= 0) & (pixel < n))
    weight = weight / weight.sum(1, keepdim=True)
    return torch.zeros(k, n, dtype=torch.float64).scatter_add(1, pixel % n, weight)
