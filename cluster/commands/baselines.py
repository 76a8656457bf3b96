"""`stillhouse baselines RECIPE --ipc 1,10`: what real images alone give, before anything is distilled."""

import time
from pathlib import Path

from cluster.commands import common, evaluation_table
from cluster.commands.evaluate import kinds, with_baselines
from distill.errors import RecipeError


def main(
    source: str,
    overrides: list[str],
    store: str | None,
    ipc: str | None,
    full: bool,
    baselines: str | None,
    networks: str | None,
    json: Path | None,
) -> None:
    from cluster.jobs import evaluating
    from cluster.jobs.asked import Asked
    from cluster.jobs.progress import Bar
    from cluster.jobs.session import session

    recipe = common.read(source, with_baselines(overrides, baselines))
    url, _, _ = common.places(store)
    common.log_to_console()
    asked = Asked(recipe, kinds(recipe, networks), full)
    budgets, found, started = _budgets(recipe, ipc), [], time.monotonic()
    with session(), Bar(common.console) as bar:
        for budget in budgets:
            found.append(evaluating.baselines(asked, budget, url, bar))
    title = f"{source}: {evaluation_table.settings(recipe.evaluation, None)}"
    for results in found:
        evaluation_table.show(title, results)
    seconds = time.monotonic() - started
    common.write_json(json, [{**result, "seconds": seconds} for results in found for result in results])


def _budgets(recipe, ipc: str | None) -> list[float]:
    """Images per class: those of the recipe, or the list given."""
    try:
        budgets = [float(part) for part in ipc.split(",")] if ipc else [float(recipe.synthetic.ipc)]
    except ValueError:
        raise RecipeError(f"--ipc {ipc}: write numbers with commas, as in --ipc 1,10") from None
    if bad := [budget for budget in budgets if not 0 < budget < float("inf")]:
        raise RecipeError(f"--ipc: {bad[0]:g} images per class; give numbers above 0")
    return budgets
