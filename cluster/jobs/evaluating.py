"""Evaluating a published set, with baselines beside it, on one or several kinds of network; figures stay with its run.

stillhouse evaluate digits@best
"""

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import ray

from cluster.jobs import group, judging
from cluster.jobs.datasets import share
from cluster.jobs.events import BudgetKnown, Event, NetworkMeasured, RowSkipped
from cluster.jobs.request import EvaluationRequest
from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from cluster.tracking import registry
from cluster.tracking.run import Tracker
from distill.errors import ConflictError, DataError, MissingError, StoreError
from distill.evaluate.robustness import scores
from distill.evaluate.rows import HARD, OTHER
from distill.evaluate.score import Measured, Score, headline
from distill.generators import load_generator
from distill.published import Published, read
from distill.recipe import Settings

EXTRA = ("distilled" + OTHER, "random" + OTHER)
"""Rows that only the scores need."""


def find(what: str, store_url: str, tracking_uri: str) -> Published:
    """The set that `what` names: a path, a run of the store, or a registered model such as digits@best.

    A `.pkl` file is a generator published by others (distill/generators/), taken as a set of the images it draws.
    """
    if what.endswith(".pkl"):
        return load_generator(what).published()
    if Path(what).exists():
        return read(Path(what))
    store = open_store(store_url)
    runs = run_ids(store)
    if what in runs:
        return Run(store, what).published()
    try:
        with tempfile.TemporaryDirectory() as folder:
            published = read(registry.fetch(what, Path(folder), tracking_uri))
        run_id = registry.tags(what, tracking_uri).get("run_id")
        return Run(store, run_id).with_own_paths(published) if run_id in runs else published
    except (StoreError, MissingError) as error:
        raise DataError(f"{what!r} is no path, no run of {store.url} and no registered model ({error})") from None


def evaluate(
    request: EvaluationRequest,
    published: Published,
    store_url: str,
    on_event: group.OnEvent,
    dataset: ray.ObjectRef | None = None,
) -> list[dict]:
    """Figures for each kind of network: accuracy on the test part of fresh networks trained on the set, and baselines.

    Each has mean, std and n of the set, its protocol, network and budget, and mean, std and n of every baseline by its
    name; `skipped` says why a baseline is missing (docs/formats.md). `dataset` is the request's data, if they are
    shared already. Needs a Ray session.
    """
    soft = not bool(((published.labels == 0) | (published.labels == 1)).all())
    rows = ["distilled", *request.recipe.evaluation.baselines]
    if request.scores:
        rows += [*EXTRA, *(["distilled" + HARD] if soft else []), *({"random", "full"} - {*rows})]
    return _figures(request, rows, store_url, on_event, dataset or share(request.load()), published)


def baselines(
    request: EvaluationRequest, per_class: float, store_url: str, on_event: group.OnEvent, dataset: ray.ObjectRef
) -> list[dict]:
    """The baselines alone, for a budget in images per class, without any distilled set."""
    rows = list(request.recipe.evaluation.baselines)
    return _figures(request, rows, store_url, on_event, dataset, per_class=per_class)


@dataclass
class _Results:
    """What the workers have posted."""

    budget: dict = field(default_factory=dict)
    measured: dict[tuple[int, str], dict[int, Measured]] = field(default_factory=dict)
    skipped: dict[tuple[int, str], str] = field(default_factory=dict)
    selection_network: dict[int, str] = field(default_factory=dict)

    def add(self, event: Event) -> bool:
        """Take in an event; whether it was one of these."""
        match event:
            case BudgetKnown(floats, per_class, real):
                self.budget = {"budget_floats": floats, "budget_ipc": per_class, "real_ipc": real}
            case NetworkMeasured(network, row, number, measured, selection_network):
                self.measured.setdefault((network, row), {})[number] = measured
                if selection_network:
                    self.selection_network[network] = selection_network
            case RowSkipped(network, row, reason):
                self.skipped[network, row] = reason
            case _:
                return False
        return True

    def score(self, network: int, row: str) -> Score | None:
        measured = self.measured.get((network, row))
        return headline([measured[i] for i in sorted(measured)]) if measured else None


def _figures(
    request: EvaluationRequest,
    rows: list[str],
    store_url: str,
    on_event: group.OnEvent,
    dataset: ray.ObjectRef,
    published: Published | None = None,
    per_class: float | None = None,
) -> list[dict]:
    results, e = _Results(), request.recipe.evaluation
    assignments = judging.assignments(len(request.networks), rows, e.networks)
    state = {name: tensor.numpy() for name, tensor in published.state.items()} if published else None
    config = {
        "recipe": request.recipe.model_dump(mode="json"),
        "networks": [network.model_dump(mode="json") for network in request.networks],
        "store": store_url,
        "dataset": dataset,
        "assignments": assignments,
        "state": state,
        "student_lr": published.lr if published else None,
        "per_class": per_class,
        "networks_trained": e.networks * len([row for row in rows if row != "full"]),
        "full": request.full,
    }

    def on(event: Event) -> None:
        if not results.add(event):
            on_event(event)

    workers = min(e.workers, len(assignments))
    group.run(judging.work, config, request.recipe, workers, on, range(len(assignments)))
    return [_assembled(request, results, k, rows) for k in range(len(request.networks))]


def _assembled(request: EvaluationRequest, results: _Results, k: int, rows: list[str]) -> dict:
    """The figures of network k."""
    e = request.recipe.evaluation
    scored = {row: score for row in rows if (score := results.score(k, row))}
    by_name = {row: score.as_dict() for row, score in scored.items()}
    figures = by_name.pop("distilled", {}) | {"protocol": e.label, "network": request.networks[k].label}
    figures |= results.budget | by_name
    figures["skipped"] = {row: results.skipped[k, row] for row in rows if (k, row) in results.skipped}
    figures["selection_network"] = results.selection_network.get(k)
    figures["evaluation"] = e.model_dump(mode="json")
    figures["data"] = request.data
    if request.scores and "random" in scored:
        means = {row: score.mean for row, score in scored.items()}
        figures["scores"] = scores({"distilled" + HARD: means["distilled"], **means})
        figures["score_rows"] = {row: figures.pop(row) for row in (*EXTRA, "distilled" + HARD) if row in figures}
    return figures


# ---------------------------------------------------------------- results that are kept with a run


def run_of(what: str, store_url: str, tracking_uri: str) -> Run | None:
    """The run of the store that made a set, if its name or its registered version says so."""
    store = open_store(store_url)
    runs = run_ids(store)
    if what in runs:
        return Run(store, what)
    if Path(what).exists():
        return None
    run_id = registry.tags(what, tracking_uri).get("run_id")
    return Run(store, run_id) if run_id in runs else None


def known_of(what: str, store_url: str, tracking_uri: str) -> dict:
    """What the run's result or the registered version says of a set (`test_mean`, `budget_ipc`, ...); {} of a file."""
    if Path(what).exists() or what.endswith(".pkl"):
        return {}
    run = run_of(what, store_url, tracking_uri)
    return (run.result() if run else registry.tags(what, tracking_uri)) or {}


def kept(run: Run, request: EvaluationRequest, network: Settings) -> dict | None:
    """The figures that an earlier evaluation kept with the run, if there was one like this."""
    return run.evaluation(request.digest(network))


def keep(run: Run, request: EvaluationRequest, network: Settings, figures: dict) -> dict:
    """Keep figures with the run; if another process was first, its figures are returned and stay."""
    recipe = request.recipe.model_copy(update={"network": network})
    try:
        run.keep_evaluation({**figures, "recipe": recipe.model_dump(mode="json")}, request.digest(network))
    except ConflictError:
        return kept(run, request, network)
    return figures


def track(run: Run, results: list[dict], tracking_uri: str) -> None:
    """Figures as metrics and a file of the run in MLflow, if it has one. Raises StoreError if MLflow cannot be used."""
    tracker = Tracker.find(tracking_uri, "distill", run.run_id)
    if tracker is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        for figures in results:
            name = re.sub(r"[^\w.-]+", "-", f"{figures['network']}-{figures['protocol']}")
            (Path(scratch) / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf8")
            scored = {"distilled": figures, **figures}
            means = {row: s["mean"] for row, s in scored.items() if isinstance(s, dict) and "mean" in s}
            tracker.log(0, {f"evaluation/{name}/{row}": mean for row, mean in means.items()})
        tracker.artifacts(Path(scratch), "evaluations")
    tracker.flush()
