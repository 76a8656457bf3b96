"""The picture of a matrix: accuracy by set and objective at equal stored floats, real images beside it."""

import io
import textwrap
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cluster.results.baselines import title
from distill.errors import StoreError
from tune.matrix.results import CellResult, Matrix
from tune.plots import GRID, INK, SOFT, STYLE

COLOURS = matplotlib.colormaps["viridis"]
WIDTH, HEIGHT = 1.75, 0.95
"""Inches of a cell."""
LINE, LETTERS = 0.19, 12.5
"""Inches of a line of the notes, and letters per inch."""


def draw(found: Matrix, path: Path) -> None:
    """Write a PNG. Raises StoreError if the file cannot be written."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure(found).savefig(buffer, format="png", dpi=110)
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; name a folder that can be written") from None


def figure(found: Matrix) -> Figure:
    """Cells on the left, real images on the same scale on the right, reasons of empty cells below."""
    grid = found.grid
    columns, rows = len(grid.objectives), max(len(grid.sets), len(found.baselines), 1)
    names, real = 1.55, 2.2 if found.baselines else 0.0
    width = max(names + WIDTH * columns + real + 1.3, 6.5)
    notes = [part for note in _numbered(found) for part in textwrap.wrap(note, int((width - 0.4) * LETTERS))]
    below, above = 0.25 + LINE * len(notes), 1.05
    height = above + HEIGHT * rows + below
    made = Figure(figsize=(width, height))

    def axes(left: float, across: float, down: int) -> Axes:
        bottom = below + HEIGHT * (rows - down)
        return made.add_axes((left / width, bottom / height, across / width, HEIGHT * down / height))

    scale = _scale(found)
    _cells(axes(names, WIDTH * columns, len(grid.sets)), found, scale)
    left = names + WIDTH * columns
    if found.baselines:
        _real(axes(left + 0.35, real - 0.5, len(found.baselines)), found, scale)
    bar = axes(left + real + 0.3, 0.16, rows)
    made.colorbar(ScalarMappable(scale, COLOURS), cax=bar, label="test accuracy, %").outline.set_visible(False)
    recipe = grid.context.recipe
    made.text(0.15 / width, 1 - 0.3 / height, f"{recipe.name}: test accuracy at {grid.floats:,} stored floats "
              f"({grid.per_class:g} images per class)", fontsize=12, weight="bold")  # fmt: skip
    about = f"{recipe.network.label}; protocol {recipe.evaluation.label}; {recipe.outer.steps} outer steps"
    made.text(0.15 / width, 1 - 0.55 / height, f"{about}; mean ± standard deviation of {_n(found)} networks, %",
              fontsize=9, color=SOFT)  # fmt: skip
    for i, line in enumerate(notes):
        made.text(0.15 / width, (below - 0.3 - LINE * i) / height, line, fontsize=8.5, color=SOFT)
    return made


def _cells(ax: Axes, found: Matrix, scale: Normalize) -> None:
    grid, numbers = found.grid, _numbers(found)
    for y, kind in enumerate(grid.sets):
        for x, objective in enumerate(grid.objectives):
            result = found.at(kind, objective)
            if result.score:
                _box(ax, x, y, result.score, scale)
            else:
                _empty(ax, x, y, result, numbers)
    floats = {kind: sorted({r.cell.floats for r in found.results if r.cell.set == kind}) for kind in grid.sets}
    labels = [f"{kind}\n{floats[kind][-1]:,} floats" if floats[kind][-1] else kind for kind in grid.sets]
    _frame(ax, list(grid.objectives), labels)


def _real(ax: Axes, found: Matrix, scale: Normalize) -> None:
    for y, (name, score) in enumerate(found.baselines.items()):
        _box(ax, 0, y, score, scale, title(name))
    _frame(ax, ["real images"], [""] * len(found.baselines))


def _box(ax: Axes, x: int, y: int, score: dict, scale: Normalize, name: str = "") -> None:
    """A coloured cell with its figures, dark on bright and bright on dark."""
    share = float(scale(100 * score["mean"]))
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=COLOURS(share), edgecolor="white", linewidth=2))
    ink = "white" if share < 0.62 else INK
    ax.text(x, y - 0.08, f"{100 * score['mean']:.1f}", ha="center", va="center", color=ink, fontsize=14, weight="bold")
    ax.text(x, y + 0.22, f"± {100 * score['std']:.1f}", ha="center", va="center", color=ink, fontsize=9)
    if name:
        ax.text(x, y - 0.34, name, ha="center", va="center", color=ink, fontsize=8.5)


def _empty(ax: Axes, x: int, y: int, result: CellResult, numbers: dict[str, int]) -> None:
    """A cell without figures: hatched, with the number of its reason."""
    style = {"facecolor": "white", "edgecolor": GRID, "hatch": "////" if result.status == "refused" else "xxxx"}
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, linewidth=0, **style))
    ax.text(x, y, f"{result.status} [{numbers[result.reason or result.status]}]", ha="center", va="center",
            fontsize=9, color=INK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip


def _frame(ax: Axes, columns: list[str], rows: list[str]) -> None:
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xticks(range(len(columns)), columns, color=INK)
    ax.set_yticks(range(len(rows)), rows, color=INK)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, pad=6)
    ax.spines[:].set_visible(False)


def _numbers(found: Matrix) -> dict[str, int]:
    """A number for each reason why cells are empty."""
    reasons = dict.fromkeys(r.reason or r.status for r in found.results if not r.score)
    return {reason: i for i, reason in enumerate(reasons, 1)}


def _numbered(found: Matrix) -> list[str]:
    """The reasons with their numbers, then what is missing among the baselines."""
    missing = [f"no {title(name)}: {reason}" for name, reason in found.skipped.items()]
    return [f"[{i}] {reason}" for reason, i in _numbers(found).items()] + missing


def _scale(found: Matrix) -> Normalize:
    """From the lowest accuracy shown to the highest, rounded outwards to 5 %."""
    shown = [100 * s["mean"] for s in [*(r.score for r in found.results if r.score), *found.baselines.values()]]
    low, high = (5 * (min(shown) // 5), -5 * (-max(shown) // 5)) if shown else (0, 100)
    return Normalize(low, high if high > low else low + 5)


def _n(found: Matrix) -> str:
    counts = sorted({r.score["n"] for r in found.results if r.score})
    return "/".join(map(str, counts)) or "no"
