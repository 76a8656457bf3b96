"""`stillhouse matrix RECIPE`: the cells, their sizes and what is refused; then all of them, and a heat map."""

import time
from pathlib import Path

from rich.markup import escape

from cluster.cli import common, planning
from cluster.cli.evaluate import with_baselines
from distill import recipe as recipes
from distill.errors import RecipeError
from tune import reading


def main(
    source: str,
    overrides: list[str],
    sets: str | None,
    objectives: str | None,
    budget: float,
    baselines: str,
    store: str | None,
    out: Path | None,
    dry: bool,
    json: Path | None,
) -> None:
    from tune.matrix import cells

    if not 0 < budget < float("inf"):
        raise RecipeError(f"--budget {budget:g}: give images per class, above 0")
    set_kinds = cells.chosen("--sets", sets, recipes.SyntheticSettings)
    objective_kinds = cells.chosen("--objectives", objectives, recipes.ObjectiveSettings)
    own = [text for text in overrides if text.partition("=")[0].split(".")[0] in reading.OWN_BLOCKS]
    for_all, of_kinds = cells.split([text for text in overrides if text not in own])
    recipe = planning.read(source, with_baselines(for_all, baselines))
    url, tracking, home = common.places(store)
    common.log_to_console()
    context = _prepared(recipe, url)
    grid = cells.build(context, set_kinds, objective_kinds, budget, of_kinds, for_all)
    plan = cells.plan(grid, own)
    if dry:
        return _dry_run(grid, plan, url, json)
    started = time.monotonic()
    figures = _run(grid, plan, (url, tracking, home), out)
    common.write_json(json, figures | {"seconds": time.monotonic() - started})


def _prepared(recipe, url: str):
    """The data and the store, without building the recipe's own set, which need not be one of the cells."""
    import torch

    from cluster.jobs.progress import Reading
    from cluster.store import open_store
    from distill import context, data

    cpu = torch.device("cpu")
    with Reading(common.console) as shown:
        dataset = data.load(recipe.dataset, recipe.seed, cpu, shown)
    open_store(url).check_writable()
    return context.prepare(recipe, device=cpu, dataset=dataset)


def _run(grid, plan, urls: tuple[str, str, str], out: Path | None) -> dict:
    from cluster.jobs.session import session
    from cluster.results.claims import claimed
    from tune import sweep
    from tune.live import Screen
    from tune.matrix import results, run

    store, tracking, home = urls
    places = sweep.Places(store, tracking, Path(home))
    journal = run.open_journal(plan, grid.context, store)
    with claimed(journal.store, journal.folder), sweep.killed_if_stopped(journal, places):
        found = run.finished(grid, journal, store)
        if found is None:
            with session() as ray:
                ray.wait()
                found = run.run(grid, plan, journal, places, Screen(common.console))
        folder = out or Path(home) / "sweeps" / journal.sweep_id
        figures = results.write(found, folder)
        run.track(plan, journal, places, found, folder)
    results.show(found, common.console)
    for what, name in (("picture", results.PICTURE), ("table", results.TABLE), ("figures", results.FIGURES)):
        common.console.print(f"{what:9} {folder / name}", soft_wrap=True)
    return figures


def _dry_run(grid, plan, url: str, json: Path | None) -> None:
    """The cells with their sizes and times, and what is refused; starts nothing."""
    from distill import context as contexts
    from distill.cost.estimate import Timed, estimate
    from distill.engine import allocator
    from tune.matrix import results
    from tune.sweep import sweep_id

    allocator.settle()  # as workers do: it changes how long a step takes
    costs, timed = {}, Timed()
    for cell in grid.accepted:
        made = contexts.prepare(cell.recipe, device=grid.context.device, dataset=grid.context.data)
        costs[cell.set, cell.objective] = estimate(made, timed)
    experts = max((e.experts_seconds for e in costs.values()), default=0.0)
    seconds = sum(e.distill_seconds for e in costs.values())
    times = {pair: e.distill_seconds for pair, e in costs.items()}
    common.console.print(results.sizes_table(grid, times))
    for line in results.refusals([(cell.set, cell.objective, cell.refusal) for cell in grid.cells if cell.refusal]):
        common.console.print(escape(line), soft_wrap=True)
    tight = [f"{s} x {o}: {e.advice[0]}" for (s, o), e in costs.items() if e.advice]
    for line in tight:
        common.console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    name = sweep_id(plan, grid.context.data.fingerprint)
    common.console.print(
        f"recipe    {plan.sweep.recipe}, {plan.base.outer.steps} outer steps\n"
        f"budget    {grid.floats:,} floats, {grid.per_class:g} images per class\n"
        f"cells     {len(grid.accepted)} of {len(grid.cells)} run, each on {plan.sweep.resources.cpus:g} CPUs and "
        f"{plan.sweep.resources.gpus:g} GPUs\n"
        f"time      {results.duration(experts)} for the experts, {results.duration(seconds)} for the cells one after "
        "another, on this machine, without the baselines\n"
        f"store     {url}/sweeps/{name}",
        soft_wrap=True,
    )
    cells = [results.about(cell) | {"seconds": times.get((cell.set, cell.objective))} for cell in grid.cells]
    common.write_json(json, {"id": name, "budget_floats": grid.floats, "experts_seconds": experts, "cells": cells})
