"""How visible the seam of a tileable picture is, as numbers, for anybody's picture.

    seam(image).seam_x     # about 1: seamless from left to right

A ratio compares the change across the edge with the change between neighbouring pixels inside: above 1.2 the seam is a
visible line, below 0.8 a smooth stripe. Values alone cannot tell a seam that was blurred until its step is ordinary
from one that never was; differences of neighbours can.
"""

from dataclasses import asdict, dataclass

from torch import Tensor

from distill.errors import DataError

SEAMLESS = (0.8, 1.2)


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
    def seamless(self) -> bool:
        """Whether all four are between 0.8 and 1.2."""
        return all(SEAMLESS[0] <= ratio <= SEAMLESS[1] for ratio in self.as_dict().values())

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def seam(image: Tensor) -> Seam:
    """The seams of a picture (c, H, W). Raises DataError for one below 4x4 pixels or of one colour along an axis."""
    if image.ndim != 3 or min(image.shape[1:]) < 4:
        raise DataError(f"seams are measured on a picture (c, H, W) of 4x4 pixels or more, not {tuple(image.shape)}")
    x, y = _ratios(image.double()), _ratios(image.double().transpose(1, 2))
    return Seam(x[0], y[0], x[1], y[1])


def _ratios(image: Tensor) -> tuple[float, float]:
    """(of values, of differences) along the last axis."""
    steps = image.roll(-1, 2) - image  # the last is across the edge
    bends = steps.roll(-1, 2) - steps  # the last two involve it
    inside, across = steps[..., :-1].abs().mean(), steps[..., -1].abs().mean()
    bent_inside, bent_across = bends[..., :-2].abs().mean(), bends[..., -2:].abs().mean()
    if not (inside > 0 and bent_inside > 0):
        raise DataError("the picture has one colour along an axis: there is nothing to compare its seam with")
    return float(across / inside), float(bent_across / bent_inside)
