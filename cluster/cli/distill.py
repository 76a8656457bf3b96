"""`stillhouse distill RECIPE`: experts if they are missing, then the loop, then publication. Run again, it resumes."""

import time
from dataclasses import replace

from rich.markup import escape

from cluster.cli import common, estimate, planning
from cluster.cli.options import DryRun, Full, Json, Log, LogFormat, Overrides, RecipeName, Store, Within, app

EXPERTS_SHARE = 0.6
"""Part of the time given after which no expert is begun."""
BEFORE_SHARE = 0.4
"""Part of the time given by which the run must have ended that this one starts from."""


@app.command()
def distill(
    recipe: RecipeName,
    overrides: Overrides = None,
    store: Store = None,
    within: Within = None,
    dry_run: DryRun = False,
    full: Full = False,
    json: Json = None,
    log: Log = LogFormat.TEXT,
):
    """Distill a synthetic set; run again after it was stopped, it continues.

    RECIPE may also be a dataset's file or folder: with --within the settings are planned (`stillhouse plan`). A run
    that would take longer than --within is published with the steps that it has done by then.
    """
    began, given = time.monotonic(), planning.seconds(within) if within else None
    loaded = planning.read(recipe, overrides or [], given)
    url, tracking, _ = common.places(store)
    if dry_run:
        return estimate.show(loaded, url, json, full)
    common.log_to_console(log)
    with common.session() as ray:
        context = common.prepared(loaded, url)
        started = time.monotonic()
        result = run(context, url, tracking, ray, began, given)
    result["seconds"] = time.monotonic() - started
    show(result, url, tracking)
    common.write_json(json, result)


def run(context, url: str, tracking: str, ray, began: float = 0.0, given: float | None = None) -> dict:
    """Train experts if they are needed and missing, distill, and return the run's result.

    With `given` seconds from `began` (time.monotonic()) the run ends in time, with fewer experts or steps if it must.
    """
    from cluster.jobs.group import uses_gpu
    from cluster.results.claims import claimed
    from cluster.results.runs import Run
    from cluster.store import open_store

    if context.recipe.device.startswith("cuda"):  # refused before anything is written
        ray.wait()
        uses_gpu(context.recipe.device)
    saved = Run(open_store(url), context.run_id)
    if (result := saved.result()) and _registered(result, tracking):  # claims nothing: the store stays as it is
        return _ended(result, saved, context, tracking)
    with claimed(saved.store, saved.folder):
        return _run(context, saved, url, tracking, ray, began, given)


def _run(context, saved, url: str, tracking: str, ray, began: float, given: float | None) -> dict:
    """What run() does once no other command works on the run."""
    if result := saved.result():
        return _ended(result, saved, context, tracking)
    if context.recipe.before:
        context, saved = _after_run_before(context, url, tracking, ray, began, given)
        if result := saved.result():
            return _ended(result, saved, context, tracking)
    for line in _memory_is_short(context):
        common.console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    missing = _experts_missing(context, url)
    dataset = ray.share(context.data)
    if missing:
        from cluster.cli.experts import train
        from cluster.jobs.experts import needed_part

        common.console.print("the store does not hold this recipe's experts: training them first")
        begun_by = began + EXPERTS_SHARE * given if given else None
        trained = train(needed_part(context), url, tracking, dataset, begun_by)
        if trained["count"] < context.recipe.experts_needed:
            context, saved = _with_fewer_experts(context, trained["count"], url)

    from cluster.jobs.distilling import distill

    with common.shown(context.run_id) as bar:
        end, before = began + given if given else None, context.before_id
        result = distill(context.recipe, saved, dataset, tracking, bar, deadline=end, before=before)
    if result["run_id"] != saved.run_id:
        common.console.print(f"to continue to step {context.recipe.outer.steps}: the same command without --within")
    return result


def _after_run_before(context, url: str, tracking: str, ray, began: float, given: float | None):
    """(context, run) once the run has ended that this one starts from, which is continued, or begun, if it has not.

    Cut short, it is the start of another run, which says how many steps it took.
    """
    from cluster.results.runs import Run
    from cluster.store import open_store
    from distill.errors import RecipeError

    before, store = context.recipe.before, open_store(url)
    if given and before.before:
        raise RecipeError("--within: a GAN that grows in several stages cannot be cut short; leave --within out")
    if not Run(store, context.before_id).result():
        common.console.print(f"starts from what {context.before_id} publishes: bringing that run to its end first")
        same = (before.dataset, before.seed) == (context.recipe.dataset, context.seed)
        first = common.prepared(before, url, dataset=context.data if same else None)
        result = run(first, url, tracking, ray, began, given and BEFORE_SHARE * given)
        show(result, url, tracking)
        if result["run_id"] != context.before_id:
            context = replace(context, recipe=context.recipe.after(int(result["run_id"].rpartition("-")[2])))
    return context, Run(store, context.run_id)


def _memory_is_short(context) -> list[str]:
    """What distilling needs, what is free, and the settings that save memory; empty if it fits or runs elsewhere."""
    from cluster.jobs.session import is_private
    from distill.context import device_of
    from distill.cost.estimate import shortage

    return shortage(replace(context, device=device_of(context.recipe.device))) if is_private() else []


def _with_fewer_experts(context, count: int, url: str):
    """(context, run) with as many experts as there was time for."""
    from cluster.results.runs import Run
    from cluster.store import open_store

    wanted = context.recipe.experts.count
    common.console.print(f"time for {count} of {wanted} experts: going on with these, as with experts.count={count}")
    experts = context.recipe.experts.model_copy(update={"count": count, "workers": 1})
    context = replace(context, recipe=context.recipe.model_copy(update={"experts": experts}))
    return context, Run(open_store(url), context.run_id)


def _ended(result: dict, saved, context, tracking: str) -> dict:
    """The result of a run that ended before, published again if its version is gone from the registry."""
    if _registered(result, tracking):
        common.console.print("this run has ended before; nothing is left to do")
        return result
    from cluster.jobs.distilling import publish_again

    gone = f"{result['model']} version {result['version']}"
    common.console.print(f"this run has ended before, but {gone} is not in the registry: publishing it again")
    return publish_again(context, saved, tracking)


def _registered(result: dict, tracking: str) -> bool:
    from cluster.tracking import registry

    return registry.holds(result["model"], result["version"], result["sha256"], tracking)


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
    from distill.text import percent, public

    chosen = "held-out training images" if result["selection"] == "validation" else "the TEST images (best-on-test)"
    score = {"mean": result["test_mean"], "std": result["test_std"], "n": result["test_n"]}
    common.console.print(
        f"[bold]{percent(score)} %[/] on the test images (n={result['test_n']}, protocol {result['protocol']}, "
        f"{result['network']}); step {result['step']} was chosen on {chosen}.\n"
        f"budget    {result['budget_ipc']:.4g} images or {result['budget_bits_per_class']:,.0f} bits per class\n"
        f"run       {result['run_id']}\n"
        f"set       {url}/runs/{result['run_id']}/published (sha256 {result['sha256'][:16]})\n"
        f"model     models:/{result['model']}/{result['version']} in {public(tracking)}\n"
        f'load      distill.load("models:/{result["model"]}@best")\n'
        "look      stillhouse ui",
        soft_wrap=True,
    )
    for line in result.get("warnings", ()):
        common.console.print(f"[yellow]{line}[/]", soft_wrap=True)
