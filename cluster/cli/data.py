"""`stillhouse data check PATH-OR-RECIPE`: every fault of a dataset at once, its figures, and a picture of it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli import common
from cluster.cli.options import Json, app
from distill.errors import StoreError

if TYPE_CHECKING:
    from distill.recipe import DatasetSettings

SHOWN = 200


data = typer.Typer(help="Look at datasets before they are used.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command("check")
def check_(
    what: Annotated[
        str, typer.Argument(metavar="PATH-OR-RECIPE", help="A dataset's file or folder, its s3:// url, or a recipe.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the dataset, e.g. size=64 or kind=folder."),
    ] = None,
    sheet: Annotated[
        Path, typer.Option(metavar="PNG", help="Some images of each class are drawn into this file.")
    ] = Path("contact-sheet.png"),
    json: Json = None,
):
    """List all that is wrong with a dataset at once, its figures and a contact sheet; exit code 2 on faults."""
    from cluster.jobs.progress import Reading
    from distill.data import check

    started = time.monotonic()
    settings = settings_of(what, overrides or [])
    common.log_to_console()
    with Reading(common.console) as reading:
        report = check.inspect(settings, reading)
    seconds = time.monotonic() - started
    show(what, report, seconds)
    if report.raw is not None:
        try:
            check.sheet(report).save(sheet)
        except (OSError, ValueError) as error:
            raise StoreError(f"{sheet}: {error}; name a .png that can be written with --sheet") from None
        common.console.print(f"sheet     {escape(str(sheet))}", soft_wrap=True)
    common.write_json(json, figures(report, seconds))
    if report.faults:
        raise typer.Exit(2)


def settings_of(what: str, overrides: list[str]) -> "DatasetSettings":
    """Settings of the dataset at a path or url, or of a recipe; `size=64` is `dataset.size=64`."""
    from distill import recipe as recipes

    keys = [text if text.partition("=")[0].startswith("dataset.") else f"dataset.{text}" for text in overrides]
    if what in recipes.shipped() or what.endswith(".toml"):
        return common.absolute(recipes.load(what, overrides)).dataset
    if any(key.startswith("dataset.kind=") for key in keys):
        return recipes.override({"name": "check", "dataset": {"path": what}}, keys, what).dataset
    from distill.data.detect import settings_at

    dataset = settings_at(what).model_dump(exclude_unset=True)
    return recipes.override({"name": "check", "dataset": dataset}, keys, what).dataset


def show(what: str, report, seconds: float) -> None:
    """The figures as a table, then notes, then every fault."""
    shape = "{2}x{1}, {0} channel{s}".format(*report.shape, s="s" * (report.shape[0] > 1)) if report.shape else "none"
    header = f"{what}: {report.kind}, {shape}, {len(report.classes)} classes, read in {seconds:.1f} s"
    common.console.print(escape(header), soft_wrap=True)
    table = Table()
    for name, justify in (
        ("part", "left"),
        ("images", "right"),
        ("smallest class", "right"),
        ("largest class", "right"),
    ):
        table.add_column(name, justify=justify)
    for name, part in (("train", report.train), ("test", report.test)):
        table.add_row(name, str(part.images), _class(report, part, min), _class(report, part, max))
    common.console.print(table)
    for note in report.notes:
        common.console.print(f"[yellow]note[/]      {escape(note)}", soft_wrap=True)
    for fault in report.faults[:SHOWN]:
        common.console.print(f"[red]fault[/]     {escape(fault)}", soft_wrap=True)
    if len(report.faults) > SHOWN:
        common.console.print(f"and {len(report.faults) - SHOWN} more faults: --json writes them all")
    count = len(report.faults)
    common.console.print(f"{count} fault{'s' * (count != 1)}" if count else "no faults: it can be used")


def _class(report, part, which) -> str:
    if not part.per_class:
        return "-"
    n = which(part.per_class)
    return escape(f"{n} ({report.classes[part.per_class.index(n)]})")


def figures(report, seconds: float) -> dict:
    """The report as JSON values."""
    parts = {name: {"images": part.images, "per_class": part.per_class}
             for name, part in (("train", report.train), ("test", report.test))}  # fmt: skip
    return {
        "kind": report.kind, "classes": report.classes, "shape": report.shape, **parts, "notes": report.notes,
        "faults": report.faults, "fingerprint": report.raw.fingerprint if report.raw else None, "seconds": seconds,
    }  # fmt: skip
