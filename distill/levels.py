"""Images in 8 bits: 256 evenly spaced levels per channel, and rounding to them that can be learned through.

spread = spread_of(train.x)          # (2, c): the lowest value of each channel and the step between its levels
x = rounded(x, spread)               # values of levels; their gradient passes to x unchanged (straight-through)
levels = to_levels(x, spread)        # uint8, what is stored; from_levels(levels, spread) is x again, bit for bit
"""

import torch
from torch import Tensor

LAST = 255
"""The highest of the 256 levels."""


def spread_of(x: Tensor) -> Tensor:
    """(2, c): lowest value and step of levels that span the values of each channel of images x (n, c, h, w)."""
    low, high = x.amin((0, 2, 3)), x.amax((0, 2, 3))
    step = (high - low) / LAST
    return torch.stack([low, torch.where(step > 0, step, 1.0)])  # a constant channel has one level


def to_levels(x: Tensor, spread: Tensor) -> Tensor:
    """The nearest level of each value of x (n, c, h, w), uint8; values beyond the spread get the first or last one."""
    return _nearest(x, spread).to(torch.uint8)


def from_levels(levels: Tensor, spread: Tensor) -> Tensor:
    """The values (n, c, h, w) of levels."""
    low, step = spread[:, :, None, None]
    return low + step * levels.to(spread)


def rounded(x: Tensor, spread: Tensor) -> Tensor:
    """The values of the nearest levels of x (n, c, h, w), whose gradient for x is that of x itself."""
    values = from_levels(_nearest(x.detach(), spread), spread)
    return values + (x - x.detach())  # x - x is exactly 0, so the values stay those of levels


def clamp(x: Tensor, spread: Tensor) -> Tensor:
    """x within the range of the levels."""
    low, step = spread[:, :, None, None]
    return torch.minimum(torch.maximum(x, low), low + step * LAST)


def _nearest(x: Tensor, spread: Tensor) -> Tensor:
    low, step = spread[:, :, None, None]
    return ((x - low) / step).round().clamp(0, LAST)
