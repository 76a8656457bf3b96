"""Labels of patches (PoDDL, Shul et al. 2024, section 4.3), all from how many pixels of a patch lie in each grid cell.

A grid is laid over the poster as nearest-neighbour upsampling lays it: pixel y of a side of H belongs to cell
floor(y * cells / H).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe
from distill.errors import RecipeError
from distill.synthetic.patches import Size


def cell_counts(corners: Tensor, patch: Size, size: Size, grid: Size) -> Tensor:
    """(n, rows * columns) float32: pixels of each patch (n, 3 corners) in each cell of a grid over its poster."""
    sides = []
    for axis in (0, 1):
        pixels = (corners[:, axis + 1, None] + torch.arange(patch[axis], device=corners.device)) % size[axis]
        sides.append(F.one_hot(pixels * grid[axis] // size[axis], grid[axis]).sum(1))  # (n, cells of this side)
    return torch.einsum("nr,nc->nrc", *sides).flatten(1).float()


def fixed(counts: Tensor, order: Tensor, rule: str, classes: int) -> Tensor:
    """Label probabilities (n, classes) of patches with `counts` (n, cells) pixels of the classes `order` (n, cells).

    majority: the class with most pixels, ties shared equally; share: each class by its pixels; softmax: of the counts.
    """
    pixels = torch.zeros(len(counts), classes, device=counts.device).scatter_add_(1, order, counts)
    if rule == "majority":
        pixels = (pixels == pixels.amax(1, keepdim=True)).float()
    return pixels.softmax(1) if rule == "softmax" else pixels / pixels.sum(1, keepdim=True)


def average(counts: Tensor, cells: Tensor, poster: Tensor) -> Tensor:
    """Label probabilities (n, classes): the mean of learned cells (m, cells, classes) over each window, L1-normalised.

    `poster` (n,) says which of the m grids is each patch's. A window whose cells are all zero has a label of zeros.
    """
    m = len(cells)
    placed = (F.one_hot(poster, m)[:, :, None] * counts[:, None]).flatten(1).to(cells.dtype)  # (n, m * cells)
    return F.normalize(placed @ cells.flatten(0, 1), p=1, dim=1)


def learned_shape(settings: recipe.PosterLabels, ipc: float, classes: int, grid: Size, posters: int) -> Size:
    """(rows, columns) of the learned grid of one poster: the class grid, grown by the root of the cells per class.

    Raises RecipeError when it has more cells than the budget, or fewer than classes.
    """
    budget = math.floor((settings.ipc or max(1.0, ipc)) * classes + 1e-6)
    if settings.rows:
        rows, columns = settings.rows, settings.columns
    else:
        root = math.sqrt(settings.ipc or max(1.0, ipc))
        rows, columns = (math.floor(side * root + 1e-6) for side in grid)
    if posters * rows * columns > budget:
        raise RecipeError(
            f"synthetic.labels: a grid of {columns}x{rows} cells on {posters} poster(s) is larger than its budget of "
            f"{budget} cells: lower rows and columns or raise synthetic.labels.ipc"
        )
    if rows < grid[0] or columns < grid[1]:
        raise RecipeError(
            f"synthetic.labels: a grid of {columns}x{rows} cells does not hold the {grid[1]}x{grid[0]} classes: "
            f"raise synthetic.labels.ipc to 1 or more"
        )
    return rows, columns


def one_hot_blocks(order: Tensor, shape: Size, classes: int) -> Tensor:
    """The learned grid at its start (m, rows * columns, classes): the classes `order` (m, R, C), each a block."""
    at = [torch.arange(n, device=order.device) * side // n for n, side in zip(shape, order.shape[1:], strict=True)]
    blocks = order.index_select(1, at[0]).index_select(2, at[1])
    return F.one_hot(blocks, classes).flatten(1, 2).float()
