"""What the commands share: reading a recipe, preparing data with every check, the store, figures as JSON, tables."""

import json
import logging
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from cluster.home import home, store_url, tracking_uri
from distill import recipe as recipes
from distill.recipe import Recipe

console = Console(highlight=False)


def log_to_console() -> None:
    """The project's own notes (what compiles, what is skipped) on the terminal."""
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    logging.getLogger("stillhouse").addHandler(handler)
    logging.getLogger("stillhouse").setLevel(logging.INFO)


def read(source: str, overrides: list[str]) -> Recipe:
    """The recipe with its overrides, and its dataset's place made absolute so that every worker finds it."""
    return absolute(recipes.load(source, overrides))


def absolute(recipe: Recipe) -> Recipe:
    """The same recipe with its paths absolute; a url stays, as each machine fetches from it for itself."""
    kind, _, path = getattr(recipe.synthetic, "embedding", "").partition(":")
    if kind == "file":
        place = f"file:{Path(path).expanduser().absolute()}"
        recipe = recipe.model_copy(update={"synthetic": recipe.synthetic.model_copy(update={"embedding": place})})
    if not isinstance(recipe.dataset, recipes.Files) or "://" in recipe.dataset.path:
        return recipe
    from distill.data.places import local

    return recipe.model_copy(update={"dataset": local(recipe.dataset)})


def prepared(recipe: Recipe, store: str):
    """Context of a recipe on the CPU, after every check that needs no worker: device, data, start images, store."""
    import torch

    from cluster.jobs.progress import Reading
    from cluster.store import open_store
    from distill import context, data, synthetic

    cpu = torch.device("cpu")
    with Reading(console) as reading:
        dataset = data.load(recipe.dataset, recipe.seed, cpu, reading)
    made = context.prepare(recipe, device=cpu, dataset=dataset)
    open_store(store).check_writable()
    synthetic.check(made)
    return made


def places(store: str | None) -> tuple[str, str, str]:
    """(store URL, tracking URI, home folder) of this command, absolute."""
    url = store_url(store)
    if url.startswith("file:"):
        url = f"file:{Path(url.removeprefix('file:')).expanduser().absolute()}"
    return url, tracking_uri(), str(home())


def write_json(path: Path | None, figures: dict | list) -> None:
    """Figures to a file, if one was asked for."""
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf8")


def size(n: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def percent(score: dict) -> str:
    """A score as the tables show it."""
    return f"{100 * score['mean']:.1f} ± {100 * score['std']:.1f}"


def accuracy_table(title: str, columns: list[str], rows: list[tuple[str, list[dict | None]]]) -> Table:
    """Rows of (what was trained on, its score for each column); a dash where there is none."""
    table = Table(title=title or None, title_justify="left")
    for name, justify in (("trained on", "left"), *((column, "right") for column in columns), ("n", "right")):
        table.add_column(name, justify=justify, overflow="fold")
    for name, scores in rows:
        n = "/".join(dict.fromkeys(str(score["n"]) for score in scores if score))
        table.add_row(name, *(percent(score) if score else "-" for score in scores), n)
    return table


def print_recipe(recipe: Recipe) -> None:
    """The resolved recipe as dotted lines."""
    from distill.recipe import dotted

    for path, value in dotted(recipe.model_dump(mode="json")).items():
        console.print(f"[cyan]{path}[/] = {json.dumps(value)}", soft_wrap=True)
