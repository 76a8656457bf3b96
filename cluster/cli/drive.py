"""`stillhouse drive RUN`: networks trained on a distilled set of CarRacing frames drive, beside the scripted driver.

stillhouse drive carracing-dm@best --episodes 5 --animate drive.webp
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli import common
from cluster.cli.evaluate import Baselines, with_baselines
from cluster.cli.options import Json, Overrides, RunName, Store, app
from distill.errors import DataError, StoreError

TITLES = {"expert": "scripted driver", "distilled": "the distilled set"}


@app.command()
def drive(
    run: RunName,
    overrides: Overrides = None,
    store: Store = None,
    episodes: Annotated[
        int, typer.Option(min=1, help="Episodes of each row: one track each, driven by the row's networks in turn.")
    ] = 5,
    baselines: Baselines = None,
    animate: Annotated[
        Path | None, typer.Option(metavar="WEBP", help="Also a film of the first network's first episode.")
    ] = None,
    json: Json = None,
):
    """Judge a distilled set of CarRacing frames by the scores of networks that it taught to drive."""
    from cluster.jobs import driving, evaluating
    from cluster.jobs.progress import Reading
    from cluster.jobs.request import check_data
    from distill import context as contexts
    from distill import data
    from distill.recipe import override

    url, tracking, _ = common.places(store)
    common.log_to_console()
    published = evaluating.find(run, url, tracking)
    if (kind := published.recipe["dataset"]["kind"]) != "carracing":
        raise DataError(f'{run} is a set of "{kind}" images, which nothing can be driven by: it must be of CarRacing '
                        'frames, dataset.kind = "carracing" (the recipes carracing-...)')  # fmt: skip
    recipe = override(published.recipe, with_baselines(overrides or [], baselines), run)
    with Reading(common.console) as reading:
        dataset = data.load(recipe.dataset, published.recipe["seed"], contexts.device_of(recipe.device), reading)
    check_data(published, recipe, dataset.parts)
    plan = driving.Plan(common.with_threads(contexts.prepare(recipe, dataset=dataset)), published, url, episodes)
    figures = figures_of(plan, evaluating.run_of(run, url, tracking), tracking)
    show(run, figures)
    common.write_json(json, figures)
    if animate:
        animate.write_bytes(film(plan))
        common.console.print(f"film      {escape(str(animate.absolute()))}", soft_wrap=True)


def figures_of(plan, run, tracking: str) -> dict:
    """The figures that an earlier drive kept with the run, else measured now, kept and tracked."""
    from cluster.jobs import driving

    if run and (known := driving.kept(run, plan)):
        common.console.print(f"shown from {run.store.url}/{run.folder}/{driving.DRIVES}", soft_wrap=True)
        return known
    figures = driving.measure(plan, lambda text: common.console.print(text, soft_wrap=True))
    if run:
        figures = driving.keep(run, plan, figures)
        try:
            driving.track(run, figures, tracking)
        except StoreError as error:
            common.console.print(f"[yellow]not tracked in MLflow[/]: {error}", soft_wrap=True)
    return figures


def show(what: str, figures: dict) -> None:
    """The figures as a table."""
    from cluster.results.baselines import title

    heading = f"{what}: {figures['network']}, {figures['protocol']}, the same {figures['episodes']} tracks for all"
    common.console.print(f"[bold]{escape(heading)}[/]", soft_wrap=True)
    table = Table()
    table.add_column("driver trained on")
    for name in ("score", "relative, %", "n", "networks", "frames, %"):
        table.add_column(name, justify="right")
    for row, own in figures["rows"].items():
        relative, accuracy = (f"{100 * own[key]:.0f}" if key in own else "" for key in ("relative", "accuracy"))
        score, counts = f"{own['mean']:.0f} ± {own['std']:.0f}", (str(own["n"]), str(own["networks"]))
        table.add_row(TITLES.get(row) or title(row), score, relative, *counts, accuracy)
    common.console.print(table)


def film(plan) -> bytes:
    """An animated WebP of the first network on the first track."""
    from cluster.jobs import driving
    from distill.carracing.driving import drive as run_episode
    from distill.carracing.film import Film
    from distill.carracing.simulator import Simulator

    (first, *_), _ = driving.networks_of(plan, "distilled")
    made = Film(plan.published.pixels, plan.published.labels, plan.published.classes)
    driver = made.watched(driving.driver(plan.context, first))
    run_episode(Simulator(plan.seeds[0], plan.context.data.shape[1]), driver, made)
    return made.webp()
