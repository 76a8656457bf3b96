"""Size of a poster and positions of its patches (PoDD, sections 4.1 and 5.1)."""

import math

import numpy as np
import torch
from torch import Tensor

from distill import recipe
from distill.errors import RecipeError

Size = tuple[int, int]
"""(height, width) in pixels, or (rows, columns) of a grid."""
MOST_STRETCH = 2
"""How far a side may depart from an image's proportions to use more of a budget."""


def budget_pixels(ipc: float, classes: int, image: Size) -> int:
    """Pixels in the budget of a poster: `ipc` images of size `image` for each of `classes` classes."""
    return math.floor(ipc * classes * image[0] * image[1] + 1e-6)  # 1e-6: 0.7 * 10 is 6.999... in floating point


def size_of_area(area: int, image: Size, grid: Size) -> Size:
    """(height, width) of a poster of at most `area` pixels with the aspect of a grid of images.

    The shorter side is rounded down and the longer one uses the remaining pixels; a square stays a square. No side is
    smaller than an image's. Raises RecipeError if not even one patch fits.
    """
    (h, w), (rows, columns) = image, grid
    if area < h * w:
        raise RecipeError(
            f"synthetic.ipc: a budget of {area} pixels is too small for one patch of {w}x{h} = {h * w}: raise it"
        )
    tall, wide = rows * h, columns * w
    if tall == wide:
        side = max(h, w, math.isqrt(area))
        return (side, side) if side * side <= area else (h, w)
    if tall < wide:
        height = max(h, min(math.isqrt(area * tall // wide), area // w))
        return height, area // height
    width = max(w, min(math.isqrt(area * wide // tall), area // h))
    return area // width, width


def closest_size(area: int, image: Size, even_height: bool = False) -> Size | None:
    """(height, width) with the most pixels, up to `area`, in about an image's proportions; None if an image is larger.

    Either side may be up to MOST_STRETCH times longer than the image's proportions make it; of sizes with equally many
    pixels the one closest to these is taken. No side is smaller than an image's.
    """
    h, w = image
    sizes = [(a, area // a) for a in range(h, area // w + 1) if not (even_height and a % 2)]
    stretch = {size: max(size[0] * w / (size[1] * h), size[1] * h / (size[0] * w)) for size in sizes}
    near = [size for size in sizes if stretch[size] <= MOST_STRETCH] or sizes
    return max(near, key=lambda size: (size[0] * size[1], -stretch[size]), default=None)


def starts(length: int, window: int, count: int, cyclic: bool = False) -> list[int]:
    """First pixels of `count` evenly spaced windows: round(linspace(0, length - window, count)).

    On a cyclic side they are spaced over the whole length, and the last windows wrap around.
    """
    if cyclic:
        return np.linspace(0, length, count, endpoint=False).round().astype(int).tolist()
    return np.linspace(0, length - window, count).round().astype(int).tolist()


def corners(posters: int, tops: list[int], lefts: list[int]) -> Tensor:
    """(n, 3) int64: poster, top and left of each patch, ordered by poster, then row by row."""
    return torch.cartesian_prod(torch.arange(posters), torch.tensor(tops), torch.tensor(lefts)).view(-1, 3)


def counts(settings: recipe.Poster, size: Size, image: Size, grid: Size) -> Size:
    """(patches_y, patches_x) of a poster of `size`; defaults are limited to the number of possible positions.

    Raises RecipeError for patches larger than the poster and for more patches than positions.
    """
    result = []
    for axis, (name, side) in enumerate((("y", "height"), ("x", "width"))):
        length, window = size[axis], image[axis]
        if length < window:
            raise RecipeError(
                f"synthetic.{side}: a poster of {size[1]}x{size[0]} is smaller than one patch of "
                f"{image[1]}x{image[0]}: make it at least {window}, or raise synthetic.ipc"
            )
        positions = length if settings.cyclic else length - window + 1
        count = getattr(settings, f"patches_{name}")
        if count > positions:
            raise RecipeError(
                f"synthetic.patches_{name} = {count}: patches of {window} have only {positions} positions on a side "
                f"of {length}: lower it"
            )
        default = 2 * grid[axis] if settings.posters == "one" else 2 * math.ceil(length / window)
        result.append(count or min(default, positions))
    return tuple(result)
