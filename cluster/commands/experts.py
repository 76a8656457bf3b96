"""`stillhouse experts RECIPE`: train expert networks in parallel and write their trajectories to the store."""

import time
from pathlib import Path

from cluster.commands import common, dry_run


def main(source: str, overrides: list[str], store: str | None, dry: bool, json: Path | None) -> None:
    recipe = common.read(source, overrides)
    url, tracking, _ = common.places(store)
    if dry:
        return dry_run.show(recipe, url, json)
    common.log_to_console()
    context = common.prepared(recipe, url)
    figures = train(context, url, tracking)
    common.write_json(json, figures)


def train(context, url: str, tracking: str) -> dict:
    """Train a recipe's experts and say what is there; returns the figures."""
    from cluster.jobs import experts
    from cluster.jobs.progress import Bar
    from cluster.jobs.session import session

    started = time.monotonic()
    with session(), Bar(common.console) as bar:
        trained = experts.train_experts(context, url, bar, tracking)
    seconds = time.monotonic() - started
    reader = experts.TrajectorySet(experts.open_store(url), trained.name).open()
    accuracies = [reader.test_accuracy(i)[-1] for i in range(trained.count)]
    common.console.print(
        f"{trained.count} experts in {url}/experts/{trained.name}: {trained.new} new, {trained.bytes / 1e6:.1f} MB, "
        f"test accuracy {100 * sum(accuracies) / len(accuracies):.1f} %, {seconds:.0f} s\n"
        f"curves    run {trained.name} of the experiment experts in {tracking}",
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
