"""`stillhouse range RUN...`: how close training on distilled sets comes to experts M epochs later."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cluster.cli import common
from cluster.cli.options import Json, Store, app

SHOWN = 8
"""Distances that the table shows; the plot and --json have all."""


@app.command(name="range")
def range_(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs, exported folders, or models such as digits@best.")
    ],
    store: Store = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each student on the distilled set.")] = 1000,
    start: Annotated[int, typer.Option(min=0, help="Expert epoch the students start from.")] = 0,
    experts: Annotated[int, typer.Option(min=1, help="Experts the distances are averaged over.")] = 3,
    plot: Annotated[Path, typer.Option(metavar="PNG", help="Path of the plot.")] = Path("range.png"),
    json: Json = None,
):
    """Show how close training on distilled sets comes to experts at growing distance (MTT, figure 5, right)."""
    url, tracking, _ = common.places(store)
    found = {what: measure(what, url, tracking, steps, start, experts) for what in runs}
    _draw(found, steps, plot)
    common.console.print(_table(found))
    common.console.print(f"plot      {plot.absolute()}", soft_wrap=True)
    rows = {
        what: {
            "epochs_ahead": r.ahead,
            "closest": r.mean.tolist(),
            "closest_by_expert": r.closest.tolist(),
            "step_by_expert": r.at.tolist(),
        }
        for what, r in found.items()
    }
    common.write_json(json, {"steps": steps, "start": start, "runs": rows})


def measure(what: str, url: str, tracking: str, steps: int, start: int, experts: int):
    """The Reach of one set, on this machine, towards every later epoch of its experts."""
    import torch

    from cluster.jobs.experts import open_reader
    from distill import context, synthetic
    from distill.errors import RecipeError
    from distill.reach import reach
    from distill.recipe import override

    values, state, student_lr = _selected(what, url, tracking)
    recipe = common.absolute(override(values, [], what))
    if recipe.objective.expert_use != "required":
        raise RecipeError(f"{what}: its objective {recipe.objective.kind} has no experts to compare with")
    torch.set_num_threads(recipe.threads or torch.get_num_threads())
    made = context.prepare(recipe)
    made = made.with_experts(open_reader(made, url))
    student = synthetic.build(made)
    student.load_learned_state(state)
    ahead = list(range(1, made.experts.epochs[-1] - start + 1))
    return reach(made, student, student_lr or recipe.evaluation.lr, steps, ahead, start, experts)


def _selected(what: str, url: str, tracking: str):
    """(recipe, state, learned rate) of a run, published or not as most trials of a sweep, or of what is published."""
    from cluster.jobs import evaluating
    from cluster.results.runs import Run, run_ids
    from cluster.store import open_store

    store = open_store(url)
    if what in run_ids(store):
        return Run(store, what).selected()
    published = evaluating.find(what, url, tracking)
    return published.recipe, published.state, published.lr


def _table(found: dict) -> Table:
    table = Table("epochs ahead", *found, title="Closest normalised squared distance", title_justify="left")
    ahead = max((r.ahead for r in found.values()), key=len)
    for i in range(0, len(ahead), -(-len(ahead) // SHOWN)):
        cells = [_cell(r, i) for r in found.values()]
        table.add_row(str(ahead[i]), *cells)
    return table


def _cell(r, i: int) -> str:
    return f"{r.mean[i]:.3f} at step {r.at[:, i].float().mean():.0f}" if i < len(r.ahead) else ""


def _draw(found: dict, steps: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=140, layout="constrained")
    ax = figure.subplots()
    for what, r in found.items():
        (line,) = ax.plot(r.ahead, r.mean, marker="o", markersize=3, label=what)
        low, high = r.closest.min(0).values, r.closest.max(0).values
        ax.fill_between(r.ahead, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    ax.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    ax.set_xlabel("expert epochs from start to target")
    ax.set_ylabel(f"closest distance in {steps} steps")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    figure.savefig(path)
