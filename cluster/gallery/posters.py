"""The overlay of an image that several classes share: its class regions, its patches and their labels, as JSON.

A pixel belongs to the class that the labels of the patches around it most say, the nearest ones by far the most: with
the fixed labels of a class grid that gives the grid again, with learned labels what they became.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.crops import join
from distill.published import Windows

MOST_LABELS = 4
"""Of a patch."""
SHARPNESS = 6
"""Power of the weight by distance: high enough for the nearest patch to decide, low enough for others to break ties."""


@dataclass(frozen=True)
class Overlay:
    """In pixels of the image."""

    width: int
    height: int
    borders: str
    """Between the regions, as the data of an SVG path."""
    names: list[tuple[float, float, int]]
    """(x, y, class): where the name of each region stands."""
    patch: tuple[int, int]
    """(height, width) of a patch."""
    patches: list[tuple[int, int, list[tuple[int, float]]]]
    """(top, left, [(class, probability), ...]) of each patch."""


def overlay(stored: Windows, source: int) -> Overlay:
    """The overlay of the larger image number `source`."""
    mine = stored.corners[:, 0] == source
    corners, y = stored.corners[mine].clone().cpu(), stored.y[mine].cpu()
    corners[:, 0] = 0
    height, width = stored.x.shape[2:]
    classes = regions(corners, y, stored.size, (height, width))
    names = []
    for k in classes.unique().tolist():
        rows, columns = (classes == k).nonzero(as_tuple=True)
        names.append((round(float(columns.float().mean()) + 0.5, 2), round(float(rows.float().mean()) + 0.5, 2), k))
    patches = [(top, left, _labels(row)) for (_, top, left), row in zip(corners.tolist(), y, strict=True)]
    return Overlay(width, height, borders(classes), names, stored.size, patches)


def regions(corners: Tensor, y: Tensor, size: tuple[int, int], large: tuple[int, int]) -> Tensor:
    """The class (H, W) of each pixel; corners (n, 3) of one image, labels y (n, classes)."""
    down, across = (1 - (2 * (torch.arange(k) + 0.5) / k - 1).abs() for k in size)
    weight = (down[:, None] * across) ** SHARPNESS
    best, found = torch.zeros(large), torch.zeros(large, dtype=torch.int64)
    for k in range(y.shape[1]):  # class by class: all at once would take classes times the memory
        windows = y[:, k, None, None, None].expand(-1, 1, *size)
        share = join(windows, corners, (1, 1, *large), weight)[0, 0]
        found, best = torch.where(share > best, k, found), torch.maximum(share, best)
    return found


def borders(classes: Tensor) -> str:
    """The data of an SVG path along the pixel edges between different classes (H, W)."""
    lines = []
    for row in range(1, classes.shape[0]):
        lines += [f"M{a} {row}H{b}" for a, b in _runs(classes[row] != classes[row - 1])]
    for column in range(1, classes.shape[1]):
        lines += [f"M{column} {a}V{b}" for a, b in _runs(classes[:, column] != classes[:, column - 1])]
    return "".join(lines)


def _runs(differs: Tensor) -> list[tuple[int, int]]:
    """(start, end) of the stretches in which a flag (n,) is set."""
    padded = torch.nn.functional.pad(differs.int(), (1, 1)).diff()
    return list(zip((padded == 1).nonzero().flatten().tolist(), (padded == -1).nonzero().flatten().tolist(),
                    strict=True))  # fmt: skip


def _labels(y: Tensor) -> list[tuple[int, float]]:
    """The most probable classes of a label (classes,), with their share of it."""
    share = y / y.sum().clamp(min=1e-12)
    most = share.argsort(descending=True, stable=True)[:MOST_LABELS]
    return [(k, round(v, 3)) for k, v in zip(most.tolist(), share[most].tolist(), strict=True) if v >= 0.005]
