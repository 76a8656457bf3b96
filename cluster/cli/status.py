"""`stillhouse status [RUN]`: where runs are, how fast they are and how long they still take; from any machine.

STILLHOUSE_STORE=s3://bucket/stillhouse MLFLOW_TRACKING_URI=http://server:5000 stillhouse status
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cluster.cli import common
from cluster.cli.options import Json, Store, app
from distill.errors import StoreError
from distill.text import duration

if TYPE_CHECKING:
    from cluster.results.status import Status


@app.command()
def status(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="A run [default: all that have not ended]")] = "",
    store: Store = None,
    json: Json = None,
):
    """Show where runs are: step, speed, last checkpoint, time left, machine."""
    url, tracking, _ = common.places(store)
    found = _found(run, url, tracking)
    table = Table("run", "state", "step", "steps/s", "left", "checkpoint", "last step", "where")
    for one in found:
        table.add_row(*_row(one))
    common.console.print(table if found else f"no run in {url} that has not ended")
    common.write_json(json, [asdict(one) | {"left": one.left} for one in found])


def _found(run: str, url: str, tracking: str) -> "list[Status]":
    """How one run stands, or all that have not ended. The store alone says less, but enough."""
    from cluster.results import status as stands
    from cluster.results.runs import Run, run_ids
    from cluster.store import open_store
    from cluster.tracking import progress

    opened, known = open_store(url), {}
    names = {one.run_id for one in stands.unfinished(opened)} if not run else {run}
    try:
        names |= set() if run else set(progress.running(tracking))
        known = {name: progress.tracked(tracking, name) for name in names}
    except StoreError as error:
        common.console.print(f"{error}; shown is what the store says", soft_wrap=True)
    if run and not known.get(run) and run not in run_ids(opened):
        raise StoreError(f"{url} has no run {run!r}, and neither has MLflow; `stillhouse status` lists those under way")
    return [stands.status(Run(opened, name), known.get(name)) for name in sorted(names)]


def _row(one: "Status") -> tuple[str, ...]:
    steps = f"{one.step}/{one.steps}" if one.steps else str(one.step)
    return (
        one.run,
        one.state,
        steps,
        f"{one.rate:.3g}" if one.rate and one.state == "running" else "",
        duration(one.left) if one.left is not None else "",
        "" if one.checkpoint is None else f"step {one.checkpoint}",
        "" if one.seen is None else f"{duration(one.seen)} ago",
        one.place,
    )
