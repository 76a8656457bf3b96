"""What the commands share: reading a recipe, preparing data with every check, the store, figures as JSON."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler

from cluster.cli.options import LogFormat
from cluster.home import home, store_url, tracking_uri

if TYPE_CHECKING:
    from cluster.jobs.progress import Bar, JsonLines
    from cluster.jobs.session import Session
    from distill.context import Context
    from distill.data import Dataset
    from distill.recipe import DatasetSettings, Recipe

console = Console(highlight=False)


def log_to_console(log: LogFormat = LogFormat.TEXT) -> None:
    """The project's own notes (what compiles, what is skipped) on the terminal; events in this format."""
    console.stderr = log is LogFormat.JSON
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    logging.getLogger("stillhouse").addHandler(handler)
    logging.getLogger("stillhouse").setLevel(logging.INFO)


def read(source: str, overrides: list[str] | None) -> "Recipe":
    """The recipe with its overrides, and the path of its dataset made absolute so that every worker finds it.

    The path or url of a dataset is a recipe too, with the defaults of all other settings.
    """
    from distill import recipe as recipes

    if not is_data(source):
        return absolute(recipes.load(source, overrides or []))
    from distill.data.detect import settings_at

    overrides = overrides or []
    kind = next((text.partition("=")[2] for text in overrides if text.startswith("dataset.kind=")), "")
    dataset = {"kind": kind, "path": source} if kind else settings_at(source).model_dump(exclude_unset=True)
    name = recipes.slug(Path(source.rstrip("/")).name.partition(".")[0])
    return absolute(recipes.override({"name": name, "dataset": dataset}, overrides, source))


def is_data(source: str) -> bool:
    """Whether the argument of a command is the path or url of a dataset, not the name or file of a recipe."""
    from distill import recipe as recipes

    if "://" in source:
        return True
    if source in recipes.shipped() or source.endswith(".toml"):
        return False
    from distill.data.detect import detect
    from distill.data.places import locate
    from distill.errors import DataError

    try:
        place = locate(source)
        return place.is_dir() or bool(detect(place))
    except DataError:
        return False


def absolute(recipe: "Recipe") -> "Recipe":
    """The same recipe with its paths absolute; a url stays, as each machine fetches from it for itself."""
    from distill.recipe import Files

    recipe = recipe.model_copy(
        update={"synthetic": recipe.synthetic.absolute(), "objective": recipe.objective.absolute()}
    )
    if not isinstance(recipe.dataset, Files) or "://" in recipe.dataset.path:
        return recipe
    from distill.data.places import local

    return recipe.model_copy(update={"dataset": local(recipe.dataset)})


def dataset_settings(what: str, overrides: list[str]) -> "DatasetSettings":
    """Settings of the dataset at a path or url, or of a recipe; `size=64` is `dataset.size=64`."""
    from distill import recipe as recipes

    keys = [text if text.partition("=")[0].startswith("dataset.") else f"dataset.{text}" for text in overrides]
    if what in recipes.shipped() or what.endswith(".toml"):
        return absolute(recipes.load(what, overrides)).dataset
    if any(key.startswith("dataset.kind=") for key in keys):
        return recipes.override({"name": "check", "dataset": {"path": what}}, keys, what).dataset
    from distill.data.detect import settings_at

    dataset = settings_at(what).model_dump(exclude_unset=True)
    return recipes.override({"name": "check", "dataset": dataset}, keys, what).dataset


def prepared(recipe: "Recipe", store: str, outline: bool = False, dataset: "Dataset | None" = None) -> "Context":
    """Context of a recipe on the CPU, after every check that needs no worker: device, data, start images, store.

    As an `outline`, for estimates, its images are zeros: preprocessing them takes longest. A `dataset` that is there
    already is not read again.
    """
    import torch

    from cluster.jobs.progress import Reading
    from cluster.store import open_store
    from distill import context, data, synthetic

    cpu = torch.device("cpu")
    with Reading(console) as reading:
        if outline:
            dataset = data.outline(recipe.dataset, recipe.seed, reading)
        elif dataset is None:
            dataset = data.load(recipe.dataset, recipe.seed, cpu, reading)
    made = context.prepare(recipe, device=cpu, dataset=dataset)
    open_store(store).check_writable()
    synthetic.check(made)
    return made


def shown(run: str) -> "Bar | JsonLines":
    """What shows the events of a job of a run, in the format that log_to_console() was called with."""
    from cluster.jobs.progress import Bar, JsonLines

    return JsonLines(run) if console.stderr else Bar(console)


@contextmanager
def session() -> "Iterator[Session]":
    """Ray for the length of the block; it starts in the background, while data are read."""
    from cluster.jobs import session as ray

    with ray.session() as opened:
        yield opened


def with_threads(context: "Context") -> "Context":
    """The context, with as many CPU threads for this process as its recipe says: bits depend on their number."""
    import torch

    torch.set_num_threads(context.recipe.threads or torch.get_num_threads())
    return context


def places(store: str | None) -> tuple[str, str, str]:
    """(store URL, tracking URI, home folder) of this command, absolute."""
    url = store_url(store)
    if url.startswith("file:"):
        url = f"file:{Path(url.removeprefix('file:')).expanduser().absolute()}"
    return url, tracking_uri(), str(home())


def tracked(track: Callable[[], None]) -> None:
    """Do it, or say why MLflow does not take it."""
    from distill.errors import StoreError

    try:
        track()
    except StoreError as error:
        console.print(f"[yellow]not tracked in MLflow[/]: {error}", soft_wrap=True)


def write_json(path: Path | None, figures: dict | list) -> None:
    """Write figures to a file, if the command line names one."""
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf8")


def print_recipe(recipe: "Recipe") -> None:
    """The resolved recipe as dotted lines."""
    from distill.recipe import dotted

    for path, value in dotted(recipe.model_dump(mode="json")).items():
        console.print(f"[cyan]{path}[/] = {json.dumps(value)}", soft_wrap=True)
