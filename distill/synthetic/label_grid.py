"""Labels of patches (PoDDL, Shul et al. 2024, section 4.3), from the number of pixels of a patch in each grid cell.

A grid covers the poster as nearest-neighbour upsampling would: pixel y of a side of H pixels belongs to cell
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
    """(n, rows * columns) float32: pixels that each patch (corners (n, 3)) has in each cell of its poster's grid."""
    sides = []
    for axis in (0, 1):
        pixels = (corners[:, axis + 1, None] + torch.arange(patch[axis], device=corners.device)) % size[axis]
        sides.append(F.one_hot(pixels * grid[axis] // size[axis], grid[axis]).sum(1))  # (n, cells of this side)
    return torch.einsum("nr,nc->nrc", *sides).flatten(1).float()


def fixed(counts: Tensor, order: Tensor, rule: str, classes: int) -> Tensor:
    """Label probabilities (n, classes) of patches with `counts` (n, cells) pixels of the classes `order` (n, cells).

    majority: the class with the most pixels, ties shared equally; share: fractions of the pixels; softmax: softmax of
    the counts.
    """
    pixels = torch.zeros(len(counts), classes, device=counts.device).scatter_add_(1, order, counts)
    if rule == "majority":
        pixels = (pixels == pixels.amax(1, keepdim=True)).float()
    return pixels.softmax(1) if rule == "softmax" else pixels / pixels.sum(1, keepdim=True)


def average(counts: Tensor, cells: Tensor, poster: Tensor) -> Tensor:
    """Label probabilities (n, classes): the mean of learned cells (m, cells, classes) over each window, L1-normalised.

    `poster` (n,) is the index of each patch's grid. A window whose cells are all zero has a label of zeros.
    """
    m = len(cells)
    placed = (F.one_hot(poster, m)[:, :, None] * counts[:, None]).flatten(1).to(cells.dtype)  # (n, m * cells)
    return F.normalize(placed @ cells.flatten(0, 1), p=1, dim=1)


def learned_shape(settings: recipe.PosterLabels, ipc: float, classes: int, grid: Size, posters: int) -> Size:
    """(rows, columns) of the learned grid of one poster: the class grid times the square root of the cells per class.

    Raises RecipeError when it has more cells than the budget, or fewer than classes.
    """
    # 1e-6 so that a product such as 0.7 * 10 = 6.999... is not rounded down
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
            f"synthetic.labels: a grid of {columns}x{rows} cells does not hold the {grid[1]}x{grid[0]} class grid: "
            f"raise synthetic.labels.ipc to 1 or more"
        )
    return rows, columns


def one_hot_blocks(order: Tensor, shape: Size, classes: int) -> Tensor:
    """The initial learned grid (m, rows * columns, classes): one-hot, a block of cells for each class of `order`
    (m, R, C)."""
    rows, columns = (
        torch.arange(n, device=order.device) * side // n for n, side in zip(shape, order.shape[1:], strict=True)
    )
    blocks = order.index_select(1, rows).index_select(2, columns)
    return F.one_hot(blocks, classes).flatten(1, 2).float()
