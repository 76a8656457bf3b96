"""The report of a sweep: one static page, the winner's recipe, figures; on disk and in MLflow.

The page is self-contained: styles, plots and pictures are embedded, nothing is fetched from a network.
"""

import base64
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
import tomlkit
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from cluster.tracking.run import Tracker
from distill.recipe import Recipe
from distill.text import percent
from tune import plots
from tune.journal import BUDGET, FINISHED, STOPPED, End, Journal, SweepTrial
from tune.live import brief, heads
from tune.reading import Plan, format_values
from tune.space import describe
from tune.sweep import Places, best, open_parent

PAGE, WINNER = "report.html", "winner.toml"
SHOWN_ON_TERMINAL = 12


@dataclass(frozen=True)
class Results:
    """Everything that a report shows."""

    plan: Plan
    sweep_id: str
    trials: list[SweepTrial]
    winner: SweepTrial | None
    published: dict
    """Results on the test images, from publishing the winner; empty if nothing was published."""

    @property
    def ranked(self) -> list[SweepTrial]:
        """Trials whose metric counts, best first, then the others."""
        sign = -1 if self.plan.sweep.mode == "max" else 1

        def rank(trial: SweepTrial) -> tuple:
            score = trial.score(self.plan.sweep.metric)
            return score is None, sign * (score or 0.0), trial.number

        return sorted(self.trials, key=rank)

    @property
    def recipe(self) -> Recipe | None:
        """The winner's recipe."""
        return self.plan.recipe(self.winner.best.values) if self.winner else None


def finish(plan: Plan, journal: Journal, places: Places, published: dict, console: Console) -> dict:
    """Write the page and the winner's recipe, add them to MLflow and print where they are; returns the figures."""
    trials = [replace(t, end=t.end or End(BUDGET, t.best.step if t.best else 0)) for t in journal.trials()]
    results = Results(plan, journal.sweep_id, trials, best(trials, plan), published)
    folder = places.home / "sweeps" / journal.sweep_id
    write_report(results, journal, folder)
    parent = open_parent(plan, journal, places)
    parent.artifacts(folder)
    _close(parent, results)
    console.print(_table(results))
    _say(results, folder, places, console)
    return as_json(results, folder)


def write_report(results: Results, journal: Journal, folder: Path) -> None:
    """The files of a report."""
    folder.mkdir(parents=True, exist_ok=True)
    if results.winner:
        (folder / WINNER).write_text(winner_toml(results), encoding="utf8")
    (folder / PAGE).write_text(page(results, journal), encoding="utf8")


def page(results: Results, journal: Journal) -> str:
    """The page as HTML."""
    loader = jinja2.PackageLoader("tune", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"brief": brief, "describe": describe}
    return environment.get_template("report.html.j2").render(
        results=results,
        sweep=results.plan.sweep,
        counts=Counter(trial.status for trial in results.trials),
        seconds=sum(seconds_of(trial) for trial in results.trials),
        toml=winner_toml(results) if results.winner else "",
        plots={  # matplotlib escapes the text of its SVG
            name: Markup(svg)  # noqa: S704
            for name, svg in plots.all_of(results.plan, results.trials, results.winner).items()
        },
        pictures=[
            (title, trial, "data:image/png;base64," + base64.b64encode(journal.picture(trial)).decode())
            for title, trial in _extremes(results)
        ],
    )


def winner_toml(results: Results) -> str:
    """The winner's whole recipe, for `stillhouse distill`."""
    recipe, trial = results.recipe, results.winner
    document = tomlkit.document()
    for line in (
        f"Trial {trial.number} of sweep {results.sweep_id}: {format_values(trial.best.values)}",
        f"validation accuracy {100 * trial.best.best_accuracy:.2f} % at step {trial.best.best_step}",
    ):
        document.add(tomlkit.comment(line))
    if results.plan.sweep.scheduler.kind == "pbt":
        document.add(
            tomlkit.comment(
                "pbt changed these values during the trial: a run with them from the start gives another set"
            )
        )
    for key, value in recipe.model_dump(mode="json", exclude_none=True).items():
        document.add(key, value)
    return tomlkit.dumps(document)


def as_json(results: Results, folder: Path) -> dict:
    """The content of the --json file."""
    trials = [
        {
            "number": trial.number,
            "values": trial.best.values if trial.best else trial.values,
            "status": trial.status,
            "step": trial.best.step if trial.best else 0,
            "validation_accuracy": trial.best.best_accuracy if trial.best else None,
            "budget_floats": trial.best.budget_floats if trial.best else None,
            "seconds": seconds_of(trial),
            "message": trial.end.message if trial.end else "",
        }
        for trial in results.trials
    ]
    winner = results.winner.number if results.winner else None
    return {"sweep": results.sweep_id, "winner": winner, "result": results.published, "trials": trials,
            "report": str(folder / PAGE)}  # fmt: skip


def seconds_of(trial: SweepTrial) -> float:
    """Time that a trial took."""
    return trial.end.seconds if trial.end else (trial.best.seconds if trial.best else 0.0)


def _extremes(results: Results) -> list[tuple[str, SweepTrial]]:
    """The best and the worst of the trials that have a picture."""
    shown = [trial for trial in results.ranked if trial.score(results.plan.sweep.metric) is not None]
    if not shown:
        return []
    first = results.winner or shown[0]
    return [("Best", first)] + ([("Worst", shown[-1])] if shown[-1] is not first else [])


def _close(parent: Tracker, results: Results) -> None:
    """Finish the MLflow runs of the sweep and of trials that the scheduler or the budget ended."""
    counts = Counter(trial.status for trial in results.trials)
    parent.log(0, {f"trials_{status}": count for status, count in counts.items()})
    if results.winner:
        parent.tag({"stillhouse.winner": str(results.winner.number)})
        parent.log(0, {"best_accuracy": results.winner.best.best_accuracy})
        parent.log(0, {"test_accuracy": results.published["test_mean"]})
    ended = {str(trial.number): trial.status for trial in results.trials if trial.status in (STOPPED, BUDGET)}
    parent.end_children("stillhouse.trial", ended)
    parent.finish()


def _table(results: Results) -> Table:
    sweep = results.plan.sweep
    table = Table("trial", *heads(list(sweep.search)), "steps", "acc., %", "floats", "status", title_justify="left")
    table.title = f"{sweep.name}: the best of {len(results.trials)} trials, on held-out training images"
    for trial in results.ranked[:SHOWN_ON_TERMINAL]:
        b, values = trial.best, (trial.best.values if trial.best else trial.values)
        figures = [str(b.step), f"{100 * b.best_accuracy:.1f}", f"{b.budget_floats:,}"] if b else ["0", "", ""]
        style = "bold green" if trial is results.winner else None
        cells = [brief(values[path], 20) for path in sweep.search]
        table.add_row(str(trial.number), *cells, *figures, trial.status, style=style)
    return table


def _say(results: Results, folder: Path, places: Places, console: Console) -> None:
    for trial in results.trials:
        if trial.end and trial.end.message:
            console.print(f"trial {trial.number} {trial.status}: {trial.end.message}", soft_wrap=True)
    if results.winner:
        r = results.published
        score = percent({"mean": r["test_mean"], "std": r["test_std"], "n": r.get("test_n")})
        console.print(
            f"[bold]trial {results.winner.number}[/]: {score} % on the test images (n={r['test_n']}), used once\n"
            f"model     models:/{r['model']}/{r['version']} in {places.tracking}\n"
            f"rerun     stillhouse distill {folder / WINNER}",
            soft_wrap=True,
        )
    elif not any(trial.status == FINISHED for trial in results.trials):
        console.print("[yellow]no trial ran to its end: nothing is published[/]")
    console.print(f"report    {folder / PAGE}", soft_wrap=True)
