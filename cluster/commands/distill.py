"""`stillhouse distill RECIPE`: experts if they are missing, then the loop, then publication. Run again, it goes on."""

import time
from dataclasses import replace
from pathlib import Path

from cluster.commands import common, dry_run


def main(source: str, overrides: list[str], store: str | None, dry: bool, json: Path | None) -> None:
    recipe = common.read(source, overrides)
    url, tracking, _ = common.places(store)
    if dry:
        return dry_run.show(recipe, url, json)
    common.log_to_console()
    context = common.prepared(recipe, url)
    started = time.monotonic()
    result = run(context, url, tracking)
    result["seconds"] = time.monotonic() - started
    show(result, url, tracking)
    common.write_json(json, result)


def run(context, url: str, tracking: str) -> dict:
    """Train experts where they are needed and missing, distill, and return the run's result."""
    from cluster.jobs import distilling
    from cluster.jobs.session import session
    from distill.errors import ExpertsMissing

    if result := distilling.finished(context, url):
        common.console.print("this run has ended before; nothing is left to do")
        return result
    missing = _experts_missing(context, url)
    with session():
        if missing:
            _train_first(context, url, tracking)
        try:
            return _distill(context, url, tracking)
        except ExpertsMissing:
            if context.recipe.objective.trajectories:
                raise
            common.console.print("all experts are needed from here on, and nobody trains them: training them here")
            _train(context, url, tracking)
            return _distill(context, url, tracking)


def _distill(context, url: str, tracking: str) -> dict:
    from cluster.jobs import distilling
    from cluster.jobs.progress import Bar

    with Bar(common.console) as bar:
        return distilling.distill(context, url, tracking, bar)


def _experts_missing(context, url: str) -> bool:
    """Whether experts must be trained first; those that may come from another process meanwhile are waited for.

    Raises TrajectoryError when those that the recipe names are not there or do not fit.
    """
    from cluster.jobs import experts
    from distill.errors import TrajectoryError

    o = context.recipe.objective
    if context.recipe.expert_use != "required":
        return False
    try:
        if getattr(o, "first_experts", 0):
            experts.wait_for_first(context, url)
        experts.open_reader(context, url)
    except TrajectoryError:
        if o.trajectories:
            raise
        return True
    return False


def _train_first(context, url: str, tracking: str) -> None:
    """Train the experts that the recipe begins with."""
    from cluster.jobs.experts import experts_to_begin

    common.console.print("the store does not hold this recipe's experts: training them first")
    settings = context.recipe.experts.model_copy(update={"count": experts_to_begin(context.recipe)})
    _train(replace(context, recipe=context.recipe.model_copy(update={"experts": settings})), url, tracking)


def _train(context, url: str, tracking: str) -> None:
    from cluster.commands.experts import train

    train(context, url, tracking)


def show(result: dict, url: str, tracking: str) -> None:
    """Where the result is and how good."""
    chosen = "held-out training images" if result["selection"] == "validation" else "the TEST images (best-on-test)"
    score = {"mean": result["test_mean"], "std": result["test_std"]}
    common.console.print(
        f"[bold]{common.percent(score)} %[/] on the test images (n={result['test_n']}, protocol {result['protocol']}, "
        f"{result['network']}); step {result['step']} was chosen on {chosen}.\n"
        f"run       {result['run_id']}\n"
        f"set       {url}/runs/{result['run_id']}/published (sha256 {result['sha256'][:16]})\n"
        f"model     models:/{result['model']}/{result['version']} in {tracking}\n"
        "look      stillhouse ui",
        soft_wrap=True,
    )
