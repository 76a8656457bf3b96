"""`stillhouse experts RECIPE`: train expert networks in parallel and write their trajectories to the store."""

import time

from cluster.cli import common, estimate, planning
from cluster.cli.options import DryRun, Full, Json, Log, LogFormat, Overrides, RecipeName, Store, app


@app.command()
def experts(
    recipe: RecipeName,
    overrides: Overrides = None,
    store: Store = None,
    dry_run: DryRun = False,
    full: Full = False,
    json: Json = None,
    log: Log = LogFormat.TEXT,
):
    """Train expert networks on the real data and write their trajectories to the store.

    Run again after it was stopped, it continues, inside an expert too; with a larger experts.count the set grows.
    """
    loaded = planning.read(recipe, overrides or [])
    url, tracking, _ = common.places(store)
    if dry_run:
        return estimate.show(loaded, url, json, full)
    common.log_to_console(log)
    with common.session() as ray:
        context = common.prepared(loaded, url)
        figures = train(context, url, tracking, ray.share(context.data))
    common.write_json(json, figures)


def train(context, url: str, tracking: str, dataset, deadline: float | None = None) -> dict:
    """Train a recipe's experts on the shared data and print what is in the store; returns the figures.

    With a `deadline` (time.monotonic()) there may be fewer.
    """
    from cluster.jobs.experts import own_set, train_experts
    from distill.text import byte_size, public

    started, name = time.monotonic(), own_set(context, url).name
    with common.shown(name) as bar:
        trained = train_experts(context, url, dataset, bar, tracking, deadline)
    seconds = time.monotonic() - started
    reader = own_set(context, url).open()
    accuracies = [reader.test_accuracy(i)[-1] for i in range(trained.count)]
    common.console.print(
        f"{trained.count} experts in {url}/experts/{trained.name}: {trained.new} new, {byte_size(trained.bytes)}, "
        f"test accuracy {100 * sum(accuracies) / len(accuracies):.1f} %, {seconds:.0f} s\n"
        f"curves    run {trained.name} of the experiment experts in {public(tracking)}",
        soft_wrap=True,
    )
    return {
        "set": trained.name,
        "count": trained.count,
        "new": trained.new,
        "bytes": trained.bytes,
        "seconds": seconds,
        "train_accuracy": [reader.train_accuracy(i)[-1] for i in range(trained.count)],
        "test_accuracy": accuracies,
    }
