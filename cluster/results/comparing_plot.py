"""Accuracy against budget as a picture: runs with error bars, their baselines, and the papers' figures in grey."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib import color_sequences
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cluster.results import baselines
from cluster.results.comparing import Comparison, Entry, Score
from distill.errors import StoreError
from distill.papers import Reference

COLOURS = color_sequences["petroff10"]
"""Ten colours that colour-blind people can tell apart (Petroff 2021); baselines take them from the other end."""
MARKERS = "sPDv^<>*Xh"
BAR = {"capsize": 3, "elinewidth": 1.2, "capthick": 1.2}


def plot(found: Comparison, path: Path) -> None:
    """Write a PNG. Raises StoreError when the file cannot be written."""
    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    entries = [*_runs(axes, found), *_baselines(axes, found), *_papers(axes, found.published)]
    _frame(axes, found)
    axes.legend(handles=entries, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; name a file that can be written") from None


def _runs(axes: Axes, found: Comparison) -> Iterator[Artist]:
    """Draw one line per method, network and protocol; give their legend entries."""
    lines: dict[str, list[Entry]] = {}
    for entry in found.entries:
        lines.setdefault(entry.label, []).append(entry)
    for i, (label, entries) in enumerate(lines.items()):
        points = [(e.ipc, e.score) for e in entries]
        style = {"color": COLOURS[i % len(COLOURS)], "marker": "o", "ms": 8, "lw": 2, "zorder": 5}
        yield _line(axes, points, _plain(label), **style)


def _baselines(axes: Axes, found: Comparison) -> Iterator[Artist]:
    """Draw one dashed line per baseline, all training images as a level; give their legend entries."""
    for i, name in enumerate(found.baselines):
        points = [(e.ipc, e.baselines[name]) for e in found.entries if name in e.baselines]
        colour, title = COLOURS[-1 - i % len(COLOURS)], _plain(baselines.title(name))
        if name == "full":
            yield _level(axes, points[-1][1], title)
        else:
            yield _line(
                axes, points, title, color=colour, marker=MARKERS[i % len(MARKERS)], ms=6, lw=1.4, ls="--", zorder=4
            )


def _line(axes: Axes, points: list[tuple[float, Score]], label: str, **style) -> Artist:
    """Mean and standard deviation against budget; several at one budget are dots above each other."""
    ipc, mean, std = zip(*((b, 100 * s["mean"], 100 * s["std"]) for b, s in sorted(points, key=_budget)), strict=True)
    if len(set(ipc)) < len(ipc):
        style["ls"] = "none"
    return axes.errorbar(ipc, mean, std, label=label, **BAR, **style)


def _budget(point: tuple[float, Score]) -> tuple[float, float]:
    return point[0], point[1]["mean"]


def _level(axes: Axes, score: Score, label: str) -> Artist:
    mean, std = 100 * score["mean"], 100 * score["std"]
    axes.axhspan(mean - std, mean + std, color="black", alpha=0.08, lw=0)
    return axes.axhline(mean, color="black", lw=1.4, ls="-.", label=label, zorder=2)


def _papers(axes: Axes, papers: Reference | None) -> Iterator[Artist]:
    """Thin grey lines with open markers, under a heading of their own in the legend."""
    if papers is None:
        return
    yield from axes.plot([], [], " ", label=f"published, best on test ({papers.title}):")
    grey = {"color": "0.62", "lw": 1, "ls": ":", "ms": 6, "mfc": "white", "mec": "0.45", "zorder": 1}
    for i, (name, pairs) in enumerate(papers.methods.items()):
        yield from axes.plot(*zip(*pairs, strict=True), marker=MARKERS[i % len(MARKERS)], label=name, **grey)
    if papers.full:
        yield axes.axhline(papers.full, color="0.62", lw=1, ls=":", label=f"all training images, {papers.full} %")


def _frame(axes: Axes, found: Comparison) -> None:
    """Round budgets on the axis, a title, a grid."""
    published = [ipc for pairs in found.published.methods.values() for ipc, _ in pairs] if found.published else []
    budgets = sorted({e.ipc for e in found.entries} | set(published))
    axes.set_xlim(budgets[0] / 1.5, budgets[-1] * 1.5)
    ours = sorted({e.ipc for e in found.entries})
    axes.xaxis.set_major_locator(FixedLocator(_apart([*ours, *reversed(budgets)], budgets[-1] / budgets[0])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set(xlabel="budget: stored floats as images per class", ylabel="test accuracy, %")
    axes.set_title(_plain(f"{found.dataset}: accuracy against budget"), loc="left", fontsize=11)
    axes.grid(alpha=0.25)


def _apart(budgets: list[float], span: float) -> list[float]:
    """The budgets, first come first served, whose numbers do not run into each other on an axis of that span."""
    kept: list[float] = []
    for budget in budgets:
        if all(max(budget / k, k / budget) > span**0.04 for k in kept):
            kept.append(budget)
    return kept


def _plain(text: str) -> str:
    """Names come from recipes: a "$" in them is no formula."""
    return text.replace("$", r"\$")
