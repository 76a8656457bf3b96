"""How visible the seam of a tileable picture is, as numbers, for anybody's picture.

    seam(image).seam_x     # about 1: seamless from left to right

A ratio compares the change across the edge with the change between neighbouring pixels inside: above 1.2 the seam is a
visible line, below 0.8 a smooth stripe. Values alone cannot tell a seam that was blurred until its step is ordinary
from one that never was; differences of neighbours can.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from distill.errors import DataError

SEAMLESS = (0.8, 1.2)
ROWS = 256
"""Rows that are measured together, so that a large picture needs no copies of itself."""


@dataclass(frozen=True)
class Seam:
    """Ratios of the mean absolute change across the edge to that inside."""

    seam_x: float
    """Of values, from the right edge on to the left one."""
    seam_y: float
    """Of values, from the bottom on to the top."""
    seam_gradient_x: float
    """Of the differences between neighbours."""
    seam_gradient_y: float

    @property
    def x(self) -> str:
        """How right and left meet: seamless, line or stripe."""
        return look(self.seam_x, self.seam_gradient_x)

    @property
    def y(self) -> str:
        """How bottom and top meet."""
        return look(self.seam_y, self.seam_gradient_y)

    @property
    def seamless(self) -> bool:
        """Whether all four are between 0.8 and 1.2."""
        return self.x == self.y == "seamless"

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def look(values: float, gradient: float) -> str:
    """What an edge with these two ratios looks like: `line` if one is too large, else `stripe` if one is too small."""
    if max(values, gradient) > SEAMLESS[1]:
        return "line"
    return "stripe" if min(values, gradient) < SEAMLESS[0] else "seamless"


def seam(image: Tensor) -> Seam:
    """The seams of a picture (c, H, W). Raises DataError for one below 4x4 pixels or of one colour along an axis."""
    if image.ndim != 3 or min(image.shape[1:]) < 4:
        shape = "x".join(map(str, reversed(image.shape[1:]))) if image.ndim == 3 else tuple(image.shape)
        raise DataError(f"seams are measured on a picture (c, H, W) of 4x4 pixels or more, not {shape}")
    x, y = _ratios(image), _ratios(image.transpose(1, 2))
    return Seam(x[0], y[0], x[1], y[1])


def _ratios(image: Tensor) -> tuple[float, float]:
    """(of values, of differences) along the last axis."""
    inside, across, bent_inside, bent_across = sum(_changes(rows.double()) for rows in image.split(ROWS, 1)).tolist()
    if not (inside > 0 and bent_inside > 0):
        raise DataError(
            "the picture has one colour, or an even ramp, along an axis: there is nothing to compare its seam with"
        )
    width = image.shape[2]
    return across / (inside / (width - 1)), bent_across / 2 / (bent_inside / (width - 2))


def _changes(rows: Tensor) -> Tensor:
    """Sums of absolute changes (4,): of values inside and across the edge, of differences inside and at the edge."""
    steps = rows.roll(-1, 2) - rows  # the last is across the edge
    bends = steps.roll(-1, 2) - steps  # the last two involve it
    parts = steps[..., :-1], steps[..., -1:], bends[..., :-2], bends[..., -2:]
    return torch.stack([part.abs().sum() for part in parts])
