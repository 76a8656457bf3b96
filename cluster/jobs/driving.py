"""Episode scores of drivers on the same tracks: the scripted one, and networks trained on a set and on real frames.

figures = measure(plan, on_note)

The networks are trained here, one process; those on the set and on random frames exactly as the judge trains them.
"""

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.jobs import experts
from cluster.results.runs import Run
from cluster.tracking.run import Tracker
from distill import synthetic, train
from distill.accuracy import hits, probe
from distill.carracing.driving import NetworkDriver, drive, track_seeds
from distill.carracing.expert import Expert
from distill.carracing.simulator import Simulator
from distill.context import Context
from distill.engine.inner import InnerStep
from distill.errors import ConflictError
from distill.evaluate.judge import TrainedNetwork
from distill.evaluate.rows import Rows
from distill.published import Published
from distill.recipe import digest

DRIVES = "drives"
"""Folder of the figures beside those of evaluations."""
EXPERT = "expert"


@dataclass(frozen=True)
class Plan:
    """What is to be driven."""

    context: Context
    """Data and network; evaluation.networks and evaluation.baselines count."""
    published: Published
    store_url: str
    episodes: int
    """Episodes of each row, on tracks that no recording contains and that all rows share. Episode i is driven by
    network i of the row, starting over after the last."""

    @property
    def rows(self) -> list[str]:
        """Training sets of networks that drive."""
        return ["distilled", *self.context.recipe.evaluation.baselines]

    @property
    def seeds(self) -> list[int]:
        return track_seeds(self.context.seed, "drive", self.episodes)

    def digest(self) -> str:
        """Name of the figures: all that they depend on besides the set."""
        e, r = self.context.recipe.evaluation, self.context.recipe
        return digest({
            "evaluation": e.model_dump(mode="json", exclude={"workers"}), "seed": r.seed, "episodes": self.episodes,
            "network": r.network.model_dump(mode="json"), "experts": r.experts.model_dump(mode="json"),
            "data": self.published.data,
        })  # fmt: skip


def measure(plan: Plan, note: Callable[[str], None]) -> dict:
    """The figures of docs/formats.md: of each row mean, std and n of its episodes' scores, and each of the scores."""
    size, test = plan.context.data.shape[1], plan.context.data.test
    expert = [drive(Simulator(track, size), Expert()).score for track in plan.seeds]
    figures = {EXPERT: summary(expert, 1)}
    note(f"scripted driver: {_said(figures[EXPERT])}")
    for row in plan.rows:
        networks, step = networks_of(plan, row)
        scores = []
        for i, track in enumerate(plan.seeds):
            one = networks[i % len(networks)]
            scores.append(drive(Simulator(track, size), driver(plan.context, one)).score)
            note(f"{row}, episode {i + 1} of {plan.episodes}: {scores[-1]:.0f}")
        right = [hits(step, one.theta, test, statistics=one.statistics) for one in networks]
        figures[row] = summary(scores, len(networks), figures[EXPERT]["mean"])
        figures[row]["accuracy"] = statistics.mean(right) / len(test)
    r = plan.context.recipe
    about = {"network": r.network.label, "protocol": r.evaluation.label, "episodes": plan.episodes}
    return about | {"rows": figures, "recipe": r.model_dump(mode="json"), "data": plan.published.data}


def networks_of(plan: Plan, row: str) -> tuple[list[TrainedNetwork], InnerStep]:
    """The networks of a row, and the step that runs them. `full`: the store's experts, else networks trained so now."""
    c = plan.context
    if row == "full":
        return _full(plan)
    made = synthetic.restore(c, plan.published.state)
    rows = Rows(c, made.budget().pixels, made, plan.published.lr, c.recipe.evaluation.networks)
    rows.use(c.recipe.network)
    networks = rows.trained(row)
    return networks, rows.judges[False].step


def driver(context: Context, one: TrainedNetwork) -> NetworkDriver:
    """The driver that a network is."""
    return NetworkDriver(context.network, one.theta, one.statistics, context.data.preprocess)


def _full(plan: Plan) -> tuple[list[TrainedNetwork], InnerStep]:
    c, wanted = plan.context, range(plan.context.recipe.evaluation.networks)
    step, reader = train.expert_step(c), experts.find_reader(c, plan.store_url)
    if reader:
        thetas = [reader.snapshot(k, reader.epochs[-1]).to(c.device) for k in wanted if k < reader.count]
    else:
        thetas = []
        for k in wanted:
            *_, (_, theta) = train.expert_epochs(c, step, k)
            thetas.append(theta)
    seen = probe(c.data.train).x.split(c.recipe.experts.batch)
    return [TrainedNetwork(theta, c.network.statistics(theta, seen)) for theta in thetas], step


def summary(scores: list[float], networks: int, expert: float | None = None) -> dict:
    """Mean, std and n of episodes' scores, and the mean relative to the `expert`'s."""
    std = statistics.stdev(scores) if len(scores) > 1 else 0.0
    figures = {"mean": statistics.mean(scores), "std": std, "n": len(scores), "networks": networks, "scores": scores}
    return figures | ({"relative": figures["mean"] / expert} if expert else {})


def _said(figures: dict) -> str:
    return f"{figures['mean']:.0f} ± {figures['std']:.0f}"


# ---------------------------------------------------------------- figures that are kept with a run


def kept(run: Run, plan: Plan) -> dict | None:
    """The figures that an earlier drive kept with the run, if there was one like this."""
    return run.evaluation(plan.digest(), DRIVES)


def keep(run: Run, plan: Plan, figures: dict) -> dict:
    """Keep figures with the run; if another process was first, its figures are returned and stay."""
    try:
        run.keep_evaluation(figures, plan.digest(), DRIVES)
    except ConflictError:
        return kept(run, plan)
    return figures


def track(run: Run, figures: dict, tracking_uri: str) -> None:
    """Figures as metrics and a file of the run in MLflow, if it has one. Raises StoreError if MLflow cannot be used."""
    tracker = Tracker.find(tracking_uri, "distill", run.run_id)
    if tracker is None:
        return
    tracker.log(0, {f"drive/{row}": own["mean"] for row, own in figures["rows"].items()})
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "drive.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf8")
        tracker.artifacts(Path(scratch), DRIVES)
    tracker.flush()
