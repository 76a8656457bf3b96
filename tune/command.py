"""`stillhouse sweep SWEEP`: checks, trials, report."""

import time
from pathlib import Path

from rich.table import Table

from cluster.cli import common
from cluster.stopping import Stopped
from distill.errors import RecipeError
from tune import reading
from tune.reading import Plan
from tune.space import describe


def main(
    source: str, overrides: list[str], store: str | None, resume: bool, listed: bool, dry: bool, json: Path | None
) -> None:
    if listed:
        return _list()
    if not source:
        raise RecipeError(f"which sweep? A TOML file, or one of {', '.join(reading.shipped())}")
    plan = reading.load(source, overrides)
    plan = Plan(plan.sweep, common.absolute(plan.base))
    url, tracking, home = common.places(store)
    common.log_to_console()
    context = checked_context(plan, url)
    if dry:
        return _dry_run(plan, context, url, json)
    started = time.monotonic()
    figures = _run(plan, context, (url, tracking, home), resume)
    figures["seconds"] = time.monotonic() - started
    common.write_json(json, figures)


def checked_context(plan: Plan, url: str):
    """The context of the recipe, after every check that needs no worker: each set at a corner is built once."""
    from distill import synthetic
    from distill.context import prepare

    context = common.prepared(plan.base, url)
    seen = set()
    for values in plan.corners():
        recipe = plan.recipe(values)
        block = recipe.synthetic.model_dump_json()
        same_data = (recipe.dataset, recipe.seed) == (plan.base.dataset, plan.base.seed)
        if block not in seen and same_data:
            seen.add(block)
            synthetic.check(prepare(recipe, device=context.device, dataset=context.data))
    return context


def _run(plan: Plan, context, urls: tuple[str, str, str], resume: bool) -> dict:
    from cluster.jobs.session import session
    from cluster.results.claims import claimed
    from tune import report, sweep
    from tune.live import Screen

    store, tracking, home = urls
    places = sweep.Places(store, tracking, Path(home))
    journal = sweep.open_journal(plan, context, store, resume)
    try:
        with claimed(journal.store, journal.folder), sweep.killed_if_stopped(journal, places):
            with session() as ray:
                ray.wait()
                result = sweep.run(plan, context, journal, places, Screen(common.console))
            return report.finish(plan, journal, places, result, common.console)
    except Stopped as stop:
        stop.options = () if resume else ("--resume",)
        raise


def _list() -> None:
    table = Table("sweep", "recipe", "trials", "about", title="Shipped sweeps", title_justify="left")
    for name in reading.shipped():
        sweep = reading.load(name).sweep
        table.add_row(name, sweep.recipe, str(sweep.trials()), sweep.about)
    common.console.print(table)


def _dry_run(plan: Plan, context, url: str, json: Path | None) -> None:
    from tune.sweep import expert_recipes, sweep_id

    sweep = plan.sweep
    table = Table("path", "values", title=f"{sweep.name}: {sweep.about}".rstrip(": "), title_justify="left")
    for path, d in sweep.search.items():
        table.add_row(path, describe(d))
    common.console.print(table)
    name = sweep_id(plan, context.data.fingerprint)
    combinations, sets = sweep.combinations(), {r.experts_id(context.data.fingerprint) for r in expert_recipes(plan)}
    common.console.print(
        f"recipe    {sweep.recipe}, {plan.base.outer.steps} outer steps\n"
        f"metric    {sweep.metric} ({sweep.mode}), on held-out training images\n"
        f"trials    {sweep.trials()}" + (f" of {combinations} combinations" if combinations else "") + "\n"
        f"searcher  {sweep.searcher.kind}, scheduler {sweep.scheduler.kind}\n"
        f"each      {sweep.resources.cpus:g} CPUs, {sweep.resources.gpus:g} GPUs\n"
        f"experts   {len(sets)} distinct set{'s' * (len(sets) != 1)} before the trials\n"
        f"store     {url}/sweeps/{name}",
        soft_wrap=True,
    )
    common.write_json(json, {"sweep": sweep.model_dump(mode="json"), "id": name, "trials": sweep.trials()})
