"""Runs the cells of a matrix as trials of a sweep, then the baselines; both are kept, so that a rerun continues."""

from pathlib import Path

import torch

from cluster.jobs import evaluating
from cluster.jobs.datasets import share
from cluster.jobs.request import EvaluationRequest
from cluster.results.runs import Run
from cluster.store import open_store
from distill.context import Context
from distill.errors import StillhouseError
from distill.recipe import digest
from tune import sweep
from tune.journal import FAILED, MEMORY, Journal, SweepTrial
from tune.matrix.cells import PATH, Grid
from tune.matrix.results import CellResult, Matrix
from tune.reading import Plan
from tune.sweep import Places
from tune.watching import Watch

AGAIN = (FAILED, MEMORY)
"""Ends of cells that a rerun tries again: their cause may be gone. Divergence is not among them."""


def open_journal(plan: Plan, context: Context, store_url: str) -> Journal:
    """The journal of a matrix, new or continued; cells that failed are opened again."""
    known = Journal(open_store(store_url), sweep.sweep_id(plan, context.data.fingerprint))
    journal = sweep.open_journal(plan, context, store_url, resume=known.started())
    for trial in journal.trials():
        if trial.status in AGAIN:
            journal.reopen(trial.number)
    return journal


def run(grid: Grid, plan: Plan, journal: Journal, places: Places, watch: Watch) -> Matrix:
    """Run what is left of the cells and the baselines; needs a Ray session."""
    sweep.run_trials(plan, grid.context, journal, places, watch)
    return collect(grid, journal, places.store, *_baselines(grid, journal, places, watch))


def finished(grid: Grid, journal: Journal, store_url: str) -> Matrix | None:
    """The matrix of an earlier command, if that left nothing to do."""
    figures, trials = journal.noted(_name(grid)), journal.trials()
    if figures is None or len(trials) < len(grid.accepted) or any(trial.end is None for trial in trials):
        return None
    return collect(grid, journal, store_url, *_scores(grid, figures))


def collect(grid: Grid, journal: Journal, store_url: str, baselines: dict, skipped: dict) -> Matrix:
    """Every cell with how it ended, from the journal and the published runs."""
    trials = {_pair(trial): trial for trial in journal.trials()}
    store, results = open_store(store_url), []
    for cell in grid.cells:
        trial = trials.get((cell.set, cell.objective))
        figures, status, message = {}, "refused" if cell.refusal else "not run", cell.refusal
        if trial:
            status, message = trial.status, trial.end.message if trial.end else ""
        if trial and trial.best:
            figures = Run(store, trial.best.run_id).result() or {}
        seconds = trial.end.seconds if trial and trial.end else None
        results.append(CellResult(cell, status, message, figures, seconds))
    return Matrix(grid, tuple(results), baselines, skipped)


def _pair(trial: SweepTrial) -> tuple[str, str]:
    synthetic, objective, _ = trial.values[PATH]
    return synthetic["kind"], objective["kind"]


def _baselines(grid: Grid, journal: Journal, places: Places, watch: Watch) -> tuple[dict, dict]:
    """(scores by name, reasons of what is missing) of real images at the budget, measured once."""
    context = grid.context
    if not (figures := journal.noted(_name(grid))):
        request = EvaluationRequest(context.recipe, (context.recipe.network,), full=True)
        data = share(context.data.to(torch.device("cpu")))
        try:
            (figures,) = evaluating.baselines(request, grid.per_class, places.store, watch.event, data)
        except StillhouseError as error:
            return {}, dict.fromkeys(context.recipe.evaluation.baselines, str(error))
        journal.note(_name(grid), figures)
    return _scores(grid, figures)


def _scores(grid: Grid, figures: dict) -> tuple[dict, dict]:
    rows = grid.context.recipe.evaluation.baselines
    return {row: figures[row] for row in rows if row in figures}, figures["skipped"]


def _name(grid: Grid) -> str:
    """Name of the note with the baselines."""
    evaluation = grid.context.recipe.evaluation.model_dump(mode="json", exclude={"workers"})
    return f"baselines-{digest({'evaluation': evaluation, 'budget': grid.per_class})}"


def track(plan: Plan, journal: Journal, places: Places, found: Matrix, folder: Path) -> None:
    """The picture, the tables and each cell's accuracy on the MLflow page of the matrix."""
    parent = sweep.open_parent(plan, journal, places)
    scores = {f"test/{r.cell.set}-{r.cell.objective}": r.figures["test_mean"] for r in found.results if r.figures}
    parent.log(0, scores | {f"test/{name}": score["mean"] for name, score in found.baselines.items()})
    parent.artifacts(folder, "matrix")
    parent.finish()
