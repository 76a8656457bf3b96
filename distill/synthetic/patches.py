"""How large a poster is and where its patches lie (PoDD, sections 4.1 and 5.1)."""

import math

import numpy as np
import torch
from torch import Tensor

from distill import recipe
from distill.errors import RecipeError

Size = tuple[int, int]
"""(height, width) in pixels, or (rows, columns) of a grid."""


def budget_pixels(ipc: float, images: int, image: Size) -> int:
    """Pixels that posters for so many classes may have at `ipc` images per class."""
    return math.floor(ipc * images * image[0] * image[1] + 1e-6)


def poster_size(area: int, image: Size, grid: Size) -> Size:
    """(height, width) of a poster of at most `area` pixels whose aspect is that of a grid of images.

    The shorter side is rounded down and the longer one takes what is left; a square stays a square. No side is
    smaller than an image's. Raises RecipeError when not one patch fits.
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


def starts(length: int, window: int, count: int, cyclic: bool = False) -> list[int]:
    """Evenly spaced first pixels of `count` windows: round(linspace(0, length - window, count)).

    On a cyclic side they are spaced over the whole length, and the last one wraps.
    """
    if cyclic:
        return np.linspace(0, length, count, endpoint=False).round().astype(int).tolist()
    return np.linspace(0, length - window, count).round().astype(int).tolist()


def corners(posters: int, tops: list[int], lefts: list[int]) -> Tensor:
    """(n, 3) int64: poster, top and left of each patch; poster by poster, row by row."""
    every = torch.cartesian_prod(torch.arange(posters), torch.tensor(tops), torch.tensor(lefts))
    return every.view(-1, 3)


def counts(settings: recipe.Poster, size: Size, image: Size, grid: Size) -> Size:
    """(patches_y, patches_x) of a poster of `size`; those that the recipe leaves open are bounded by the positions.

    Raises RecipeError for patches larger than the poster and for more patches than positions.
    """
    found = []
    for axis, (name, side) in enumerate((("y", "height"), ("x", "width"))):
        length, window = size[axis], image[axis]
        if length < window:
            raise RecipeError(
                f"synthetic.{side}: a poster of {size[1]}x{size[0]} is smaller than one patch of "
                f"{image[1]}x{image[0]}: make it at least {window}, or raise synthetic.ipc"
            )
        positions = length if settings.cyclic else length - window + 1
        asked = getattr(settings, f"patches_{name}")
        if asked > positions:
            raise RecipeError(
                f"synthetic.patches_{name} = {asked}: patches of {window} have only {positions} positions on a side "
                f"of {length}: lower it"
            )
        one = 2 * grid[axis] if settings.posters == "one" else 2 * math.ceil(length / window)
        found.append(asked or min(one, positions))
    return tuple(found)
