"""What a matrix found: on the terminal, as CSV and as JSON. The picture is drawn by tune/matrix/heatmap.py."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.results.baselines import title
from distill.evaluate.budget import per_class
from distill.text import percent
from tune.matrix.cells import Cell, Grid

PICTURE, TABLE, FIGURES = "matrix.png", "matrix.csv", "matrix.json"
COLUMNS = ("set", "objective", "status", "test_mean", "test_std", "test_n", "step", "floats", "budget_floats",
           "images_per_class", "size", "seconds", "run_id", "reason")  # fmt: skip


@dataclass(frozen=True)
class CellResult:
    """A cell and how it ended."""

    cell: Cell
    status: str
    """As in tune/journal.py, or "refused", or "not run" if the sweep's budget was used up before."""
    reason: str
    """Why it was refused, or why it failed."""
    figures: dict[str, Any]
    """What the run published (cluster.jobs.distilling.result_of); empty if it has not."""
    seconds: float | None = None

    @property
    def score(self) -> dict | None:
        """mean, std and n on the test images."""
        f = self.figures
        return {"mean": f["test_mean"], "std": f["test_std"], "n": f["test_n"]} if f else None


@dataclass(frozen=True)
class Matrix:
    """All cells of a grid, and real images beside them."""

    grid: Grid
    results: tuple[CellResult, ...]
    baselines: dict[str, dict]
    """mean, std and n by name."""
    skipped: dict[str, str]
    """Why a baseline is missing."""

    def at(self, kind: str, objective: str) -> CellResult:
        return next(r for r in self.results if (r.cell.set, r.cell.objective) == (kind, objective))

    @property
    def notes(self) -> list[str]:
        """One line for each reason why cells have no figure."""
        return refusals([(r.cell.set, r.cell.objective, r.reason or r.status) for r in self.results if not r.figures])


def write(found: Matrix, folder: Path) -> dict:
    """Write picture, CSV and JSON into a folder; returns the content of the JSON file."""
    from tune.matrix import heatmap

    folder.mkdir(parents=True, exist_ok=True)
    figures = as_json(found)
    (folder / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf8")
    with (folder / TABLE).open("w", newline="", encoding="utf8") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        rows.writerows(figures["cells"])
        for name, score in found.baselines.items():
            values = {f"test_{key}": score[key] for key in ("mean", "std", "n")}
            rows.writerow({"set": name, "status": "baseline", **values, "budget_floats": found.grid.floats})
    heatmap.draw(found, folder / PICTURE)
    return figures


def as_json(found: Matrix) -> dict:
    """The content of the JSON file; accuracies are fractions."""
    recipe = found.grid.context.recipe
    cells = []
    for r in found.results:
        known = {key: r.figures.get(key) for key in ("test_mean", "test_std", "test_n", "step", "run_id")}
        cells.append({**about(r.cell), "status": r.status, **known, "budget_floats": found.grid.floats,
                      "images_per_class": per_class(found.grid.context, r.cell.floats) if r.cell.floats else None,
                      "seconds": r.seconds, "reason": r.reason})  # fmt: skip
    return {
        "recipe": recipe.name,
        "budget_ipc": found.grid.per_class,
        "budget_floats": found.grid.floats,
        "network": recipe.network.label,
        "protocol": recipe.evaluation.label,
        "outer_steps": recipe.outer.steps,
        "cells": cells,
        "baselines": found.baselines,
        "skipped": found.skipped,
    }


def about(cell: Cell) -> dict:
    """A cell before it runs."""
    return {"set": cell.set, "objective": cell.objective, "size": cell.size, "floats": cell.floats or None,
            "reason": cell.refusal}  # fmt: skip


def show(found: Matrix, console: Console) -> None:
    """The accuracies on a terminal: cells, real images, and why a cell has none."""
    table = _table(found.grid, "test accuracy, %, of networks trained from scratch", (row_of(found, s) for s in
                   found.grid.sets))  # fmt: skip
    console.print(table)
    if found.baselines:
        real = Table(title="real images at the same budget", title_justify="left")
        for name in ("trained on", "%", "n"):
            real.add_column(name, justify="left" if name == "trained on" else "right")
        for name, score in found.baselines.items():
            real.add_row(title(name), percent(score), str(score["n"]))
        console.print(real)
    missing = [f"no {title(name)}: {reason}" for name, reason in found.skipped.items()]
    for line in [*found.notes, *missing]:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


def row_of(found: Matrix, kind: str) -> list[str]:
    """The cells of a set: accuracy, or how it ended."""
    row = [found.at(kind, objective) for objective in found.grid.objectives]
    best = max((r.score["mean"] for r in found.results if r.score), default=None)
    shown = [(r, percent(r.score) or r.status) for r in row]
    return [f"[bold green]{text}[/]" if r.score and r.score["mean"] == best else text for r, text in shown]


def sizes_table(grid: Grid, seconds: dict[tuple[str, str], float]) -> Table:
    """The cells before they run, with the time each is estimated to take."""

    def row(kind: str) -> list[str]:
        times = [seconds.get((kind, objective)) for objective in grid.objectives]
        return ["refused" if s is None else duration(s) for s in times]

    return _table(grid, "estimated time", map(row, grid.sets))


def _table(grid: Grid, what: str, rows: Iterable[list[str]]) -> Table:
    """A row per set with its size, a column per objective."""
    budget = f"{grid.floats:,} floats ({grid.per_class:g} images per class)"
    table = Table(title=f"{escape(grid.context.recipe.name)} at {budget}: {what}", title_justify="left")
    for name, justify in (("set", "left"), ("size", "left"), ("floats", "right"), ("of budget", "right")):
        table.add_column(name, justify=justify, overflow="fold")
    for objective in grid.objectives:
        table.add_column(objective, justify="right")
    for kind, row in zip(grid.sets, rows, strict=True):
        sized = [cell for cell in grid.cells if cell.set == kind and cell.recipe]
        floats = sorted({cell.floats for cell in sized})
        figures = ["", "", ""]
        if sized:
            shares = " ".join(f"{100 * n / grid.floats:.1f} %" for n in floats)
            figures = [sized[0].size, " ".join(f"{n:,}" for n in floats), shares]
        table.add_row(kind, *figures, *row)
    return table


def refusals(reasons: list[tuple[str, str, str]]) -> list[str]:
    """A line for each reason: which (set, objective) have it; a set refused with every objective is named once."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for kind, objective, reason in reasons:
        by_reason.setdefault(reason, {}).setdefault(kind, []).append(objective)
    lines = []
    for reason, kinds in by_reason.items():
        pairs = "; ".join(f"{kind} x {', '.join(objectives)}" for kind, objectives in kinds.items())
        lines.append(f"{pairs}: {reason}")
    return lines


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
