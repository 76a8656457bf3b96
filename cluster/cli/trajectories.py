"""`stillhouse trajectories list|show|verify|delete`: the sets of experts in a store."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli import common
from cluster.cli.options import Json, Store, app
from distill.errors import StillhouseError, TrajectoryError
from distill.text import byte_size, percent

if TYPE_CHECKING:
    from cluster.trajectories import TrajectorySet
    from cluster.trajectories.summary import Summary

trajectories = typer.Typer(help="The sets of experts in a store.", no_args_is_help=True)
app.add_typer(trajectories, name="trajectories")

SetName = Annotated[str, typer.Argument(metavar="NAME", help="A set, as `stillhouse trajectories list` names it.")]


@trajectories.command(name="list")
def list_(store: Store = None, json: Json = None):
    """List the sets of experts: of which data and network, how many experts and epochs, size, test accuracy."""
    from cluster.store import open_store
    from cluster.trajectories.summary import summaries

    url, _, _ = common.places(store)
    found = summaries(open_store(url))
    table = Table(title=f"Experts in {escape(url)}", title_justify="left", box=None)
    table.add_column("set", no_wrap=True)
    table.add_column("data, network", overflow="fold")
    for column in ("experts", "epochs", "size", "test, %"):
        table.add_column(column, justify="right", no_wrap=column != "experts")
    for s in found:
        what = "\n".join(filter(None, (str(s.about.get("dataset", s.data)), s.network)))
        table.add_row(s.name, escape(what), _count(s), _epochs(s), byte_size(s.bytes), _accuracy(s))
    common.console.print(table if found else f"no experts in {escape(url)}: `stillhouse experts RECIPE` trains some")
    common.write_json(json, [s.json() for s in found])


@trajectories.command()
def show(
    name: SetName,
    store: Store = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw accuracy per epoch.")] = None,
    json: Json = None,
):
    """Show a set: data, network, sizes, and accuracy per epoch on training and test images."""
    from cluster.trajectories.summary import summarize

    summary = summarize(_existing(name, store))
    common.console.print("\n".join(_lines(summary)), soft_wrap=True)
    if summary.experts:
        common.console.print(_curve(summary))
    if plot:
        if not summary.experts:
            raise TrajectoryError(f"set {name} has no finished expert to plot; run `stillhouse experts` first")
        from cluster.trajectories.plot import plot as draw

        draw(summary, plot)
        common.console.print(f"plot      {escape(str(plot))}", soft_wrap=True)
    common.write_json(json, {**summary.json(), "curve": [asdict(epoch) for epoch in summary.curve()]})


@trajectories.command()
def verify(name: SetName, store: Store = None, json: Json = None):
    """Read every expert of a set and compare it with its SHA-256; exit code 2 and its name when one is damaged."""
    from cluster.trajectories.reader import verify_object
    from cluster.trajectories.summary import summarize

    experts = _existing(name, store)
    summary, damaged = summarize(experts), {}
    for number, index in sorted(summary.experts.items()):
        try:
            verify_object(experts.store, name, number, index)
        except TrajectoryError as error:
            damaged[number] = str(error)
    intact = len(summary.experts) - len(damaged)
    common.write_json(json, {"name": name, "sealed": summary.sealed, "intact": intact, "damaged": damaged})
    if damaged:
        found = "\n".join(f"  {message}" for message in damaged.values())
        raise TrajectoryError(f"set {name}: {len(damaged)} of {len(summary.experts)} experts are damaged:\n{found}")
    size = byte_size(sum(index.size for index in summary.experts.values()))
    common.console.print(f"{name}: {intact} experts read ({size}), all as they were written; {summary.sealed} sealed")


@trajectories.command()
def delete(
    name: SetName,
    store: Store = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
):
    """Delete a set of experts, after asking."""
    experts = _existing(name, store)
    entries = experts.entries()
    if dry_run:
        for entry in entries:
            common.console.print(f"would delete {entry.key} ({byte_size(entry.size)})", soft_wrap=True)
        return
    what = f"{len(entries)} objects, {byte_size(sum(entry.size for entry in entries))}, of {experts.where}"
    if not yes and not _agreed(f"delete {what}?"):
        raise StillhouseError(f"nothing was deleted; to delete {what}, say yes or add --yes")
    common.console.print(f"deleted {len(experts.delete(dry_run=False))} objects of {escape(name)}")


def _agreed(question: str) -> bool:
    """Ask; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    return common.console.input(f"{escape(question)} [y/N] ").strip().lower() in ("y", "yes")


def _existing(name: str, store: str | None) -> "TrajectorySet":
    from cluster.store import open_store
    from cluster.trajectories import TrajectorySet

    url, _, _ = common.places(store)
    experts = TrajectorySet(open_store(url), name)
    if not experts.entries():
        raise TrajectoryError(
            f"{experts.where}: there is no such set; `stillhouse trajectories list` shows those there are"
        )
    return experts


def _lines(s: "Summary") -> list[str]:
    lines = [("set", s.name), ("data", s.data), ("network", s.network)]
    if "images" in s.about:
        lines.append(("trained", f"on {s.about['images']} images of {s.about['classes']} classes"))
    if "recipe" in s.about:
        lines.append(("recipe", str(s.about["recipe"])))
    lines.append(("experts", _count(s)))
    if s.spec:
        part = f"{s.spec.size:,} parameters, {byte_size(s.spec.snapshot_bytes)} as {s.spec.dtype}"
        lines += [("epochs", _epochs(s)), ("snapshot", part)]
    return [f"{key:9} {escape(value)}" for key, value in [*lines, ("size", byte_size(s.bytes))]]


def _curve(s: "Summary") -> Table:
    table = Table(title=f"Accuracy of {len(s.experts)} experts, %", title_justify="left")
    for column in ("epoch", "training images", "test images"):
        table.add_column(column, justify="right")
    for e in s.curve():
        n = len(s.experts)
        parts = ({"mean": e.train_mean, "std": e.train_std, "n": n}, {"mean": e.test_mean, "std": e.test_std, "n": n})
        table.add_row(str(e.epoch), *map(percent, parts))
    return table


def _count(s: "Summary") -> str:
    finished = len(s.experts)
    return f"{finished}" if finished == s.sealed else f"{finished}, {s.sealed or 'none'} sealed"


def _epochs(s: "Summary") -> str:
    if not s.spec:
        return ""
    last, saved = s.spec.epochs[-1], len(s.spec.epochs)
    return f"{last}" if saved == last + 1 else f"{last}, {saved} saved"


def _accuracy(s: "Summary") -> str:
    last = s.curve()[-1] if s.experts else None
    return percent({"mean": last.test_mean, "std": last.test_std, "n": len(s.experts)}) if last else ""
