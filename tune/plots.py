"""The plots of a sweep's report, as SVG for a page."""

import io
import math
import re

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from tune.journal import COUNTED, SweepTrial
from tune.live import brief
from tune.reading import Plan
from tune.space import Choice, Permutation

INK, SOFT, GRID = "#20242b", "#6b7280", "#e5e7eb"
ACCENT, BAD = "#c2410c", "#b91c1c"
COLOURS = matplotlib.colormaps["viridis_r"]
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stillhouse",
    "text.parse_math": False,  # a value may hold a dollar sign
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}
MOST_LABELS = 12


class Axis:
    """One searched path as a plot axis: a number for each value, and its label."""

    def __init__(self, path: str, distribution, trials: list[SweepTrial]):
        self.path, self.log = (
            path,
            getattr(distribution, "kind", "") == "loguniform" or getattr(distribution, "log", False),
        )
        self.values = distribution.values if isinstance(distribution, Choice) else None
        if self.values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values):
            self.values = sorted(set(self.values))
        positions = [self.at(t) for t in trials] or [0.0, 1.0]
        low, high = (0, len(self.values) - 1) if self.values else (min(positions), max(positions))
        self.low, self.high = (low, high) if low < high else (low - 0.5, high + 0.5)

    def at(self, trial: SweepTrial) -> float:
        """Position of a trial in the axis's own (linear, logarithmic or counted) units."""
        value = _values(trial)[self.path]
        if self.values:
            return float(self.values.index(value))
        return math.log10(value) if self.log else float(value)

    def share(self, trial: SweepTrial) -> float:
        """The same from 0 to 1."""
        return (self.at(trial) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """(position, label) of a few values."""
        if self.values:
            step = -(-len(self.values) // MOST_LABELS)
            return [(float(i), brief(v)) for i, v in enumerate(self.values)][::step]
        ends = np.linspace(self.low, self.high, 4)
        return [(float(x), brief(float(10**x) if self.log else float(x))) for x in ends]


def all_of(plan: Plan, trials: list[SweepTrial], winner: SweepTrial | None) -> dict[str, str]:
    """SVG by name: `parallel`, `parameters`, `front` and `curves`; empty ones are left out."""
    judged = [t for t in trials if t.best and t.status in (*COUNTED, "running")]
    failed = [t for t in trials if t.status not in (*COUNTED, "running")]
    if not judged:
        return {}
    space = {p: d for p, d in plan.sweep.search.items() if not isinstance(d, Permutation)}
    axes = [Axis(path, d, trials) for path, d in space.items()]
    with matplotlib.rc_context(STYLE):
        figures = {"curves": curves(judged, winner)}
        if len({t.best.budget_floats for t in judged}) > 1:
            figures["front"] = front(judged, winner)
        if axes:
            figures["parallel"] = parallel(axes, judged, winner)
            figures["parameters"] = parameters(axes, judged, failed, winner)
        return {name: svg(figure) for name, figure in figures.items()}


def parallel(axes: list[Axis], trials: list[SweepTrial], winner: SweepTrial | None) -> Figure:
    """Each trial a line through its values, coloured by accuracy, which is the last axis."""
    figure = Figure(figsize=(10.4, 3.9), layout="constrained")
    ax = figure.subplots()
    colour = _colours(trials)
    scores = [100 * t.best.best_accuracy for t in trials]
    low, high = _ends(scores)
    for trial in sorted(trials, key=lambda t: t.best.best_accuracy):
        heights = [axis.share(trial) for axis in axes] + [(100 * trial.best.best_accuracy - low) / (high - low)]
        chosen = trial is winner
        ax.plot(heights, color=ACCENT if chosen else colour(trial), linewidth=2.6 if chosen else 1.2,
                alpha=1 if chosen else 0.75, zorder=3 if chosen else 2)  # fmt: skip
    for i, axis in enumerate(axes):
        for position, label in axis.ticks():
            _tick(ax, i, (position - axis.low) / (axis.high - axis.low), label)
    for value in np.linspace(low, high, 4):
        _tick(ax, len(axes), (value - low) / (high - low), f"{value:.1f} %")
    for i in range(len(axes) + 1):
        ax.axvline(i, color=SOFT, linewidth=0.8, zorder=1)
    ax.set_xticks(
        range(len(axes) + 1), [a.path.replace(", ", ",\n") for a in axes] + ["validation accuracy"], color=INK
    )
    ax.set_yticks([])
    ax.set_xlim(-0.35, len(axes) + 0.2)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, pad=10)
    return figure


def parameters(
    axes: list[Axis], trials: list[SweepTrial], failed: list[SweepTrial], winner: SweepTrial | None
) -> Figure:
    """Accuracy against each searched path, all trials; crosses at the bottom are failed trials."""
    columns = min(3, len(axes))
    rows = -(-len(axes) // columns)
    figure = Figure(figsize=(10.4 if columns > 1 else 5.2, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat[len(axes) :]:
        ax.axis("off")
    low, high = _ends([100 * t.best.best_accuracy for t in trials])
    for i, (ax, axis) in enumerate(zip(grid.flat, axes, strict=False)):
        _scatter(ax, [(axis.at(t), t) for t in trials], winner)
        ax.scatter([axis.at(t) for t in failed], [low] * len(failed), marker="x", color=BAD, s=34, zorder=3)
        ax.set_xticks(*zip(*axis.ticks(), strict=True))
        margin = 0.06 * (axis.high - axis.low)
        ax.set_xlim(axis.low - margin, axis.high + margin)
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        ax.set_xlabel(axis.path)
        if i % columns == 0:
            ax.set_ylabel("accuracy, %")
    return figure


def front(trials: list[SweepTrial], winner: SweepTrial | None) -> Figure:
    """Accuracy against stored floats; the line is the Pareto front."""
    figure = Figure(figsize=(5.1, 3.4), layout="constrained")
    ax = figure.subplots()
    _scatter(ax, [(t.best.budget_floats, t) for t in trials], winner)
    best = pareto([(t.best.budget_floats, 100 * t.best.best_accuracy) for t in trials])
    ax.step(*zip(*best, strict=True), where="post", color=ACCENT, linewidth=1.4, zorder=2)
    floats = sorted({t.best.budget_floats for t in trials})
    if floats[-1] > 8 * floats[0]:
        ax.set_xscale("log")
    if len(floats) <= 6:
        ax.set_xticks(floats, [f"{n:,}" for n in floats])
        ax.minorticks_off()
    ax.set_xlabel("stored floats")
    ax.set_ylabel("accuracy, %")
    return figure


def curves(trials: list[SweepTrial], winner: SweepTrial | None) -> Figure:
    """Accuracy over outer steps; a line that ends early was stopped."""
    figure = Figure(figsize=(5.1, 3.4), layout="constrained")
    ax = figure.subplots()
    colour = _colours(trials)
    for trial in trials:
        chosen = trial is winner
        steps, heights = zip(*[(r.step, 100 * r.accuracy) for r in trial.reports], strict=True)
        ax.plot(steps, heights, color=ACCENT if chosen else colour(trial), linewidth=2.4 if chosen else 1.0,
                zorder=3 if chosen else 2, marker="o", markersize=2.5)  # fmt: skip
    ax.set_xlabel("outer steps")
    ax.set_ylabel("accuracy, %")
    return figure


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, gain) pairs that no other pair beats in both, by increasing cost."""
    kept: list[tuple[float, float]] = []
    for cost, gain in sorted(set(points), key=lambda p: (p[0], -p[1])):
        if not kept or gain > kept[-1][1]:
            kept.append((cost, gain))
    return kept


def svg(figure: Figure) -> str:
    """The figure as an <svg> element that fills its column."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r'(<svg[^>]*?) width="[^"]+"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]+"', r"\1",
                  text[text.index("<svg") :], count=1), count=1)  # fmt: skip


def _scatter(ax: Axes, points: list[tuple[float, SweepTrial]], winner: SweepTrial | None) -> None:
    colour = _colours([t for _, t in points])
    for x, trial in points:
        chosen = trial is winner
        ax.scatter(x, 100 * trial.best.best_accuracy, s=80 if chosen else 34, zorder=4 if chosen else 3,
                   color=ACCENT if chosen else colour(trial), edgecolors="white", linewidths=0.7,
                   marker="*" if chosen else "o")  # fmt: skip


def _tick(ax: Axes, x: float, y: float, text: str) -> None:
    ax.annotate(text, (x, y), xytext=(-5, 0), textcoords="offset points", ha="right", va="center", fontsize=8.5,
                color=SOFT, zorder=5, path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip


def _colours(trials: list[SweepTrial]):
    low, high = _ends([t.best.best_accuracy for t in trials])
    return lambda trial: COLOURS(0.12 + 0.8 * (trial.best.best_accuracy - low) / (high - low))


def _ends(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _values(trial: SweepTrial) -> dict:
    return trial.best.values if trial.best else trial.values
