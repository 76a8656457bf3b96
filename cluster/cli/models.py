"""`stillhouse models list|show|promote|fetch|compare`: the registry of distilled sets.

stillhouse models list cifar10
stillhouse models promote cifar10-mtt-pixels-1ipc/3
MLFLOW_TRACKING_URI=http://server:5000 stillhouse models fetch cifar10-mtt-pixels-1ipc@champion --out set
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli import common
from cluster.cli.options import Json, app
from distill.errors import StoreError
from distill.text import percent

if TYPE_CHECKING:
    from cluster.tracking.models import Version

models = typer.Typer(help="The registry of distilled sets.", no_args_is_help=True)
app.add_typer(models, name="models")

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="NAME@best, NAME@champion, NAME@latest or NAME/3 of a model; a recipe or a run may stand for NAME.",
    ),
]
SHOWN = (
    "protocol", "network", "selection", "selection_accuracy", "step", "fid", "class_fid", "fid_features", "student_lr",
    "budget_ipc", "budget_floats", "budget_bits", "shared_floats", "preprocess", "recipe", "seed", "data_train",
    "data_test", "run_id", "parent_run", "stillhouse_version", "git_commit", "stillhouse.sha256",
)  # fmt: skip


@models.command(name="list")
def list_(
    contains: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only models whose name contains this.")] = "",
    json: Json = None,
):
    """List the registered models: dataset, method, kind and budget, with the accuracies of best and champion."""
    from cluster.tracking.models import models as all_models
    from cluster.tracking.versions import BEST, CHAMPION

    _, tracking, _ = common.places(None)
    found = all_models(tracking, contains)
    table = Table(title=f"Models in {escape(tracking)}; test accuracy, %", title_justify="left", box=None)
    table.add_column("model", no_wrap=True)
    table.add_column("versions", justify="right")
    for column in ("best", "champion", "latest"):
        table.add_column(column, justify="right")
    for model in found:
        newest = model.versions[0] if model.versions else None
        cells = [_cell(version) for version in (model.at(BEST), model.at(CHAMPION), newest)]
        table.add_row(model.name, str(len(model.versions)), *cells)
    nothing = f"no such model in {escape(tracking)}: `stillhouse distill` registers what it makes"
    common.console.print(table if found else nothing, soft_wrap=not found)
    common.write_json(json, [asdict(model) for model in found])


@models.command()
def show(model: ModelName, json: Json = None):
    """Show a version: accuracy, how it was judged, what it stores, where it came from, and how to load it."""
    from cluster.tracking.models import version_of

    _, tracking, _ = common.places(None)
    version = version_of(model, tracking)
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    common.console.print(f"[bold]{version.name}[/]{escape(aliases)}  {_accuracy(version)}", soft_wrap=True)
    for tag in SHOWN:
        if tag in version.tags:
            common.console.print(f"{tag.removeprefix('stillhouse.'):18} {escape(version.tags[tag])}", soft_wrap=True)
    common.console.print(f'load               distill.load("models:/{version.name}")', soft_wrap=True)
    common.write_json(json, asdict(version))


@models.command()
def promote(
    model: ModelName,
    force: Annotated[
        bool, typer.Option("--force", help="Also if it was judged by other means than the present champion.")
    ] = False,
):
    """Make a version the champion of its model; one that was judged by other means is refused."""
    from cluster.tracking import models as registered

    _, tracking, _ = common.places(None)
    chosen, former = registered.promote(model, tracking, force)
    changed = former and former.number != chosen.number
    before = f"; before it was version {former.number}, {_accuracy(former)}" if changed else ""
    common.console.print(
        f"{chosen.model}@champion is version {chosen.number}, {_accuracy(chosen)}{before}", soft_wrap=True
    )


@models.command()
def fetch(
    model: ModelName,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for its files [default: NAME-VERSION].")
    ] = None,
    json: Json = None,
):
    """Download a version's files; its SHA-256 is checked. Only the tracking server must be reachable."""
    from cluster.tracking import registry
    from cluster.tracking.models import version_of
    from distill.text import byte_size

    _, tracking, _ = common.places(None)
    version = version_of(model, tracking)
    folder = out or Path(f"{version.model}-{version.number}")
    try:
        registry.fetch(version.name, folder, tracking)
        files = sorted(folder.iterdir())
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}; name a folder that can be written") from None
    for file in files:
        common.console.print(f"{byte_size(file.stat().st_size):>9}  {escape(str(file))}", soft_wrap=True)
    digest = version.tags[registry.SHA256]
    common.console.print(f"{version.name}: SHA-256 {digest[:16]} as published", soft_wrap=True)
    common.write_json(json, {"model": version.name, "folder": str(folder.absolute()), "sha256": digest})


@models.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Versions, as for `stillhouse models show`.")],
    json: Json = None,
):
    """Set versions side by side; what makes their accuracies incomparable is marked."""
    from cluster.tracking.models import JUDGED_BY, version_of

    _, tracking, _ = common.places(None)
    found = [version_of(name, tracking) for name in names]
    table = Table(title="Registered versions; test accuracy, %", title_justify="left")
    table.add_column("")
    for version in found:
        table.add_column(version.name, overflow="fold")
    table.add_row("accuracy", *(f"[bold]{percent(v.score)}[/] n={v.score['n']}" if v.score else "" for v in found))
    table.add_row("aliases", *(", ".join(v.aliases) for v in found))
    incomparable = []
    for tag in SHOWN:
        values = [version.tags.get(tag, "") for version in found]
        mark = tag in JUDGED_BY and len({*values}) > 1
        incomparable += [tag] * mark
        if any(values):
            table.add_row(f"[yellow]{tag}[/]" if mark else tag, *(escape(_short(value)) for value in values))
    common.console.print(table)
    if incomparable:
        what = ", ".join(incomparable)
        common.console.print(f"[yellow]not comparable: they differ in {what}[/]", soft_wrap=True)
    common.write_json(json, [asdict(version) for version in found])


def _cell(version: "Version | None") -> str:
    """Accuracy and number of a version in the list."""
    return f"{percent(version.score) or '?'} (v{version.number})" if version else ""


def _accuracy(version: "Version") -> str:
    if not version.score:
        return "accuracy unknown"
    return f"{percent(version.score)} % on the test images (n={version.score['n']})"


def _short(value: str) -> str:
    """Digests are cut: 16 letters tell them apart."""
    return value[:16] if len(value) == 64 else value
