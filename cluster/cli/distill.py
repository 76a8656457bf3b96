"""`stillhouse distill RECIPE`: experts if they are missing, then the loop, then publication. Run again, it resumes."""

import time

from cluster.cli import common, estimate
from cluster.cli.options import DryRun, Full, Json, Overrides, RecipeName, Store, app


@app.command()
def distill(
    recipe: RecipeName, overrides: Overrides = None, store: Store = None, dry_run: DryRun = False,
    full: Full = False, json: Json = None
):
    """Distill a synthetic set; run again after it was stopped, it continues."""
    loaded = common.read(recipe, overrides)
    url, tracking, _ = common.places(store)
    if dry_run:
        return estimate.show(loaded, url, json, full)
    common.log_to_console()
    with common.session() as ray:
        context = common.prepared(loaded, url)
        started = time.monotonic()
        result = run(context, url, tracking, ray)
    result["seconds"] = time.monotonic() - started
    show(result, url, tracking)
    common.write_json(json, result)


def run(context, url: str, tracking: str, ray) -> dict:
    """Train experts if they are needed and missing, distill, and return the run's result."""
    from cluster.results.runs import Run
    from cluster.store import open_store

    saved = Run(open_store(url), context.run_id)
    if result := saved.result():
        common.console.print("this run has ended before; nothing is left to do")
        return result
    missing = _experts_missing(context, url)
    dataset = ray.share(context.data)
    if missing:
        from cluster.cli.experts import train
        from cluster.jobs.experts import needed_part

        common.console.print("the store does not hold this recipe's experts: training them first")
        train(needed_part(context), url, tracking, dataset)

    from cluster.jobs.distilling import distill
    from cluster.jobs.progress import Bar

    with Bar(common.console) as bar:
        return distill(context.recipe, saved, dataset, tracking, bar)


def _experts_missing(context, url: str) -> bool:
    """Whether experts must be trained first.

    Raises TrajectoryError if they are damaged, or if a set that the recipe names is missing or does not fit.
    """
    from cluster.jobs.experts import open_reader
    from distill.errors import ExpertsMissing

    if context.recipe.expert_use != "required":
        return False
    try:
        open_reader(context, url)
    except ExpertsMissing:
        if context.recipe.objective.expert_set:
            raise
        return True
    return False


def show(result: dict, url: str, tracking: str) -> None:
    """Print where the result is and how good it is."""
    from distill.text import percent

    chosen = "held-out training images" if result["selection"] == "validation" else "the TEST images (best-on-test)"
    score = {"mean": result["test_mean"], "std": result["test_std"], "n": result["test_n"]}
    common.console.print(
        f"[bold]{percent(score)} %[/] on the test images (n={result['test_n']}, protocol {result['protocol']}, "
        f"{result['network']}); step {result['step']} was chosen on {chosen}.\n"
        f"budget    {result['budget_ipc']:.4g} images or {result['budget_bits_per_class']:,.0f} bits per class\n"
        f"run       {result['run_id']}\n"
        f"set       {url}/runs/{result['run_id']}/published (sha256 {result['sha256'][:16]})\n"
        f"model     models:/{result['model']}/{result['version']} in {tracking}\n"
        "look      stillhouse ui",
        soft_wrap=True,
    )
