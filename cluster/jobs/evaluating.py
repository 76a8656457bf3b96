"""Evaluating a published set, with baselines beside it, on one or several kinds of network; figures stay with its run.

stillhouse evaluate digits@best
"""

import json
import re
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.jobs import group, judging
from cluster.jobs.asked import Asked
from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from cluster.tracking import registry
from cluster.tracking.run import Tracker
from distill.errors import ConflictError, DataError, MissingError, StoreError
from distill.evaluate.robustness import scores
from distill.evaluate.rows import HARD, OTHER
from distill.evaluate.score import Measured, Score, headline
from distill.published import Published, read
from distill.recipe import Settings

EXTRA = ("distilled" + OTHER, "random" + OTHER)
"""Rows that only the scores need."""


def find(what: str, store_url: str, tracking_uri: str) -> Published:
    """The set that `what` names: a path, a run of the store, or a registered model such as digits@best."""
    if Path(what).exists():
        return read(Path(what))
    store = open_store(store_url)
    if what in run_ids(store):
        return Run(store, what).published()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return read(registry.fetch(what, Path(folder), tracking_uri))
    except (StoreError, MissingError) as error:
        raise DataError(f"{what!r} is no path, no run of {store.url} and no registered model ({error})") from None


def evaluate(asked: Asked, published: Published, store_url: str, on_event: group.Event) -> list[dict]:
    """Figures for each kind of network: accuracy on the test part of fresh networks trained on the set, and baselines.

    Each has mean, std and n of the set, its protocol, network and budget, and mean, std and n of every baseline by its
    name; `skipped` says why a baseline is missing. Needs a Ray session.
    """
    soft = not bool(((published.labels == 0) | (published.labels == 1)).all())
    rows = ["distilled", *asked.recipe.evaluation.baselines]
    if asked.scores:
        rows += [*EXTRA, *(["distilled" + HARD] if soft else []), *({"random", "full"} - {*rows})]
    return _figures(asked, rows, store_url, on_event, published)


def baselines(asked: Asked, per_class: float, store_url: str, on_event: group.Event) -> list[dict]:
    """The baselines alone, for a budget in images per class, without any distilled set."""
    return _figures(asked, list(asked.recipe.evaluation.baselines), store_url, on_event, per_class=per_class)


@dataclass
class _Found:
    """What the workers have posted."""

    budget: dict = field(default_factory=dict)
    measured: dict[tuple[int, str], dict[int, Measured]] = field(default_factory=dict)
    skipped: dict[tuple[int, str], str] = field(default_factory=dict)
    through: dict[int, str] = field(default_factory=dict)

    def take(self, event: dict) -> bool:
        """Note an event; whether it was one of these."""
        if event["kind"] == "budget":
            self.budget = {
                "budget_floats": event["floats"],
                "budget_ipc": event["per_class"],
                "real_ipc": event["real"],
            }
        elif event["kind"] == "measured":
            row = self.measured.setdefault((event["network"], event["row"]), {})
            row[event["i"]] = Measured(**event["measured"])
            if event["through"]:
                self.through[event["network"]] = event["through"]
        elif event["kind"] == "skipped":
            self.skipped[event["network"], event["row"]] = event["reason"]
        return event["kind"] in ("budget", "measured", "skipped")

    def score(self, network: int, row: str) -> Score | None:
        measured = self.measured.get((network, row))
        return headline([measured[i] for i in sorted(measured)]) if measured else None


def _figures(
    asked: Asked,
    rows: list[str],
    store_url: str,
    on_event: group.Event,
    published: Published | None = None,
    per_class: float | None = None,
) -> list[dict]:
    found, e = _Found(), asked.recipe.evaluation
    work = judging.items(len(asked.networks), rows, e.networks)
    state = {name: tensor.numpy() for name, tensor in published.state.items()} if published else None
    config = {
        "recipe": asked.recipe.model_dump(mode="json"),
        "networks": [network.model_dump(mode="json") for network in asked.networks],
        "store": store_url,
        "ray_storage": group.scratch_url(store_url),
        "items": [asdict(item) for item in work],
        "state": state,
        "student_lr": published.lr if published else None,
        "per_class": per_class,
        "data_seed": asked.recipe.seed if asked.data_seed is None else asked.data_seed,
        "trainings": e.networks * len([row for row in rows if row != "full"]),
        "full": asked.full,
    }

    def on(event: dict) -> None:
        if not found.take(event):
            on_event(event)

    workers = min(e.workers, len(work))
    if workers == 1:
        group.run_one(judging.work, config, asked.recipe, on, range(len(work)))
    else:
        group.run(judging.work, config, asked.recipe, workers, on, range(len(work)))
    return [_assembled(asked, found, k, rows) for k in range(len(asked.networks))]


def _assembled(asked: Asked, found: _Found, k: int, rows: list[str]) -> dict:
    """The figures of network k."""
    e = asked.recipe.evaluation
    scored = {row: score for row in rows if (score := found.score(k, row))}
    by_name = {row: score.as_dict() for row, score in scored.items()}
    figures = by_name.pop("distilled", {}) | {"protocol": e.label, "network": asked.networks[k].label}
    figures |= found.budget | by_name
    figures["skipped"] = {row: found.skipped[k, row] for row in rows if (k, row) in found.skipped}
    figures["selected_through"] = found.through.get(k)
    figures["evaluation"] = e.model_dump(mode="json")
    figures["data"] = asked.data
    if asked.scores and "random" in scored:
        means = {row: score.mean for row, score in scored.items()}
        figures["scores"] = scores({"distilled" + HARD: means["distilled"], **means})
        figures["scored_with"] = {row: figures.pop(row) for row in (*EXTRA, "distilled" + HARD) if row in figures}
    return figures


# ---------------------------------------------------------------- results that are kept with a run


def run_of(what: str, store_url: str, tracking_uri: str) -> Run | None:
    """The run of the store that a set is of, if it can be told: by its name, or by its registered version."""
    store = open_store(store_url)
    runs = run_ids(store)
    if what in runs:
        return Run(store, what)
    if Path(what).exists():
        return None
    run_id = registry.tags(what, tracking_uri).get("run_id")
    return Run(store, run_id) if run_id in runs else None


def kept(run: Run, asked: Asked, network: Settings) -> dict | None:
    """The figures that an earlier evaluation kept with the run, if there was one like this."""
    return run.evaluation(asked.digest(network))


def keep(run: Run, asked: Asked, network: Settings, figures: dict) -> dict:
    """Keep figures with the run; where another process was first, its figures are returned and stay."""
    recipe = asked.recipe.model_copy(update={"network": network})
    try:
        run.keep_evaluation({**figures, "recipe": recipe.model_dump(mode="json")}, asked.digest(network))
    except ConflictError:
        return kept(run, asked, network)
    return figures


def track(run: Run, results: list[dict], tracking_uri: str) -> None:
    """Figures as metrics and a file of the run in MLflow, if it is there. Raises StoreError where MLflow is not."""
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
