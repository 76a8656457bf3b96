"""`stillhouse trajectories list|show|verify|delete`: the sets of experts in a store."""

import sys
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from cluster.commands import common
from cluster.store import open_store
from cluster.trajectories import TrajectorySet
from cluster.trajectories.reader import verify_object
from cluster.trajectories.summary import Summary, summaries, summarize
from distill.errors import StillhouseError, TrajectoryError


def list_sets(store: str | None, json: Path | None) -> None:
    """A table of all sets."""
    url, _, _ = common.places(store)
    found = summaries(open_store(url))
    table = Table(title=f"Experts in {escape(url)}", title_justify="left", box=None)
    table.add_column("set", no_wrap=True)
    table.add_column("data, network", overflow="fold")
    for column in ("experts", "epochs", "size", "test, %"):
        table.add_column(column, justify="right", no_wrap=column != "experts")
    for s in found:
        what = "\n".join(filter(None, (str(s.about.get("dataset", s.data)), s.network)))
        table.add_row(s.name, escape(what), _count(s), _epochs(s), common.size(s.bytes), _accuracy(s))
    common.console.print(table if found else f"no experts in {escape(url)}: `stillhouse experts RECIPE` trains some")
    common.write_json(json, [s.json() for s in found])


def show(name: str, store: str | None, plot: Path | None, json: Path | None) -> None:
    """All about one set, and its accuracy per epoch."""
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


def verify(name: str, store: str | None, json: Path | None) -> None:
    """Read every object of a set; TrajectoryError, naming all that are damaged, unless they are what was written."""
    experts = _existing(name, store)
    summary, damaged = summarize(experts), {}
    for number, index in sorted(summary.experts.items()):
        try:
            verify_object(experts.store, name, number, index)
        except TrajectoryError as error:
            damaged[number] = str(error)
    sound = len(summary.experts) - len(damaged)
    common.write_json(json, {"name": name, "sealed": summary.sealed, "sound": sound, "damaged": damaged})
    if damaged:
        found = "\n".join(f"  {message}" for message in damaged.values())
        raise TrajectoryError(f"set {name}: {len(damaged)} of {len(summary.experts)} experts are damaged:\n{found}")
    size = common.size(sum(index.size for index in summary.experts.values()))
    common.console.print(f"{name}: {sound} experts read ({size}), all as they were written; {summary.sealed} sealed")


def delete(name: str, store: str | None, dry: bool, yes: bool) -> None:
    """Delete a set, after asking; manifests first, so that it is never there in part."""
    experts = _existing(name, store)
    entries = experts.entries()
    if dry:
        for entry in entries:
            common.console.print(f"would delete {entry.key} ({common.size(entry.size)})", soft_wrap=True)
        return
    what = f"{len(entries)} objects, {common.size(sum(entry.size for entry in entries))}, of {experts.where}"
    if not yes and not _agreed(f"delete {what}?"):
        raise StillhouseError(f"nothing was deleted; to delete {what}, say yes or add --yes")
    common.console.print(f"deleted {len(experts.delete(dry_run=False))} objects of {escape(name)}")


def _agreed(question: str) -> bool:
    """Ask; nobody at the terminal is a no."""
    if not sys.stdin.isatty():
        return False
    return common.console.input(f"{escape(question)} [y/N] ").strip().lower() in ("y", "yes")


def _existing(name: str, store: str | None) -> TrajectorySet:
    url, _, _ = common.places(store)
    experts = TrajectorySet(open_store(url), name)
    if not experts.entries():
        raise TrajectoryError(
            f"{experts.where}: there is no such set; `stillhouse trajectories list` shows those there are"
        )
    return experts


def _lines(s: Summary) -> list[str]:
    lines = [("set", s.name), ("data", s.data), ("network", s.network)]
    if "images" in s.about:
        lines.append(("trained", f"on {s.about['images']} images of {s.about['classes']} classes"))
    if "recipe" in s.about:
        lines.append(("recipe", str(s.about["recipe"])))
    lines.append(("experts", _count(s) + (", being trained or interrupted" if s.trained_now else "")))
    if s.spec:
        part = f"{s.spec.size:,} parameters, {common.size(s.spec.snapshot_bytes)} as {s.spec.dtype}"
        lines += [("epochs", _epochs(s)), ("snapshot", part)]
    return [f"{key:9} {escape(value)}" for key, value in [*lines, ("size", common.size(s.bytes))]]


def _curve(s: Summary) -> Table:
    table = Table(title=f"Accuracy of {len(s.experts)} experts, %", title_justify="left")
    for column in ("epoch", "training images", "test images"):
        table.add_column(column, justify="right")
    for e in s.curve():
        parts = ({"mean": e.train_mean, "std": e.train_std}, {"mean": e.test_mean, "std": e.test_std})
        table.add_row(str(e.epoch), *map(common.percent, parts))
    return table


def _count(s: Summary) -> str:
    finished = len(s.experts)
    return f"{finished}" if finished == s.sealed else f"{finished}, {s.sealed or 'none'} sealed"


def _epochs(s: Summary) -> str:
    if not s.spec:
        return ""
    last, saved = s.spec.epochs[-1], len(s.spec.epochs)
    return f"{last}" if saved == last + 1 else f"{last}, {saved} saved"


def _accuracy(s: Summary) -> str:
    last = s.curve()[-1] if s.experts else None
    return common.percent({"mean": last.test_mean, "std": last.test_std}) if last else ""
