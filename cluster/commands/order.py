"""`stillhouse order DATASET`: the order of classes on a poster, printed and drawn, with its score.

stillhouse order cifar100 --layout optimal --out order.png
stillhouse order digits --embedding expert --distance cosine
"""

import json
import textwrap
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.style import Style
from rich.table import Table
from rich.text import Text

from cluster.commands import common
from distill import order
from distill.context import Context
from distill.errors import RecipeError, StoreError
from distill.order.embeddings import FROM_IMAGES, clip_table, default_kind, resolve
from distill.recipe import Recipe

RANDOM_GRIDS = 100  # whose mean score the others are held against
NAME_WIDTH, NAME_LINES = 14, 2


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; see `stillhouse order --help`."""

    dataset: str
    overrides: list[str]
    layout: str | None
    embedding: str | None
    distance: str | None
    rows: int | None
    columns: int | None
    given: str | None
    seed: int | None
    store: str | None
    listed: tuple[str | int, ...] = ()
    """The order that is asked for, row by row, where the layout is `given`."""


def main(asked: Asked, out: Path | None, json_file: Path | None) -> None:
    if out and not (out.suffix == ".png" and out.absolute().parent.is_dir()):
        raise StoreError(f"--out {out}: name a .png in a folder that exists")
    asked, classes, source, context = _subject(_with_order(asked))
    distances = order.distances(classes, source, asked.distance, context)
    rows, columns = _shape(len(classes), asked.rows, asked.columns)
    if asked.layout == "given":
        grid = order.given(asked.listed or range(len(classes)), classes, rows, columns)
    else:
        grid = order.layout(distances, rows, columns, asked.layout, asked.seed)
    figures = _figures(asked, classes, distances, grid, source)
    _print(figures, classes, distances)
    if out:
        from distill.order.picture import draw

        draw(grid, classes, distances, _title(figures)).save(out)
    common.write_json(json_file, figures)


# ---------------------------------------------------------------- what is ordered


def _subject(asked: Asked) -> tuple[Asked, tuple[str, ...], str, Context | None]:
    """What is asked for with the recipe's defaults, class names, embedding, and a context if it looks at images."""
    if asked.dataset in clip_table.tables():
        if asked.overrides:
            raise RecipeError(f"{asked.dataset} is a shipped table, which has no settings: name a recipe to override")
        classes, _ = clip_table.table(asked.dataset)
        asked = _with_defaults(asked, "greedy", "auto", 0)
        return asked, classes, resolve(asked.embedding, classes), None
    from distill import context as contexts
    from distill import data

    recipe = common.read(asked.dataset, asked.overrides)
    asked = _with_recipe(asked, recipe)
    if asked.embedding in FROM_IMAGES:
        context = contexts.prepare(recipe)
        if asked.embedding == "expert":
            context = _with_experts(context, asked.store)
        return asked, context.data.classes, asked.embedding, context
    classes = data.read(recipe.dataset).classes
    source = resolve(asked.embedding, classes)
    return asked, classes, source, contexts.prepare(recipe) if source in FROM_IMAGES else None


def _with_recipe(asked: Asked, recipe: Recipe) -> Asked:
    """A poster's recipe says what the command line leaves open: the order that a run would have."""
    poster = recipe.synthetic
    if poster.kind != "poster":
        return _with_defaults(asked, "greedy", "auto", recipe.seed)
    if poster.grid and not (asked.rows or asked.columns):
        asked = replace(asked, rows=poster.grid[0], columns=poster.grid[1])
    if poster.order_list and not asked.layout:
        asked = replace(asked, listed=poster.order_list)
    return _with_defaults(asked, "given" if poster.order_list else poster.order, poster.embedding, recipe.seed)


def _with_defaults(asked: Asked, layout: str, embedding: str, seed: int) -> Asked:
    return replace(
        asked,
        layout=asked.layout or layout,
        embedding=asked.embedding or embedding,
        seed=seed if asked.seed is None else asked.seed,
    )


def _with_experts(context: Context, store: str | None) -> Context:
    """The context with the experts that the store holds for its recipe. TrajectoryError where there are none."""
    from cluster.jobs.experts import set_name
    from cluster.store import open_store
    from cluster.trajectories import TrajectorySet

    url, _, _ = common.places(store)
    recipe = context.recipe
    named = getattr(recipe.objective, "trajectories", "") or set_name(context)
    reader = TrajectorySet(open_store(url), named).open()
    reader.check(context.data.fingerprint, recipe.network.model_dump(mode="json"), context.network.layout.entries)
    return context.with_experts(reader)


def _shape(classes: int, rows: int | None, columns: int | None) -> tuple[int, int]:
    """Rows and columns: what was asked for, the other following from it."""
    if rows is None and columns is None:
        return order.shape_of(classes)
    return rows or classes // columns, columns or classes // rows


def _with_order(asked: Asked) -> Asked:
    """With the order of --order, if there is one. RecipeError where the layout is unknown or does not fit it."""
    layout = asked.layout or ("given" if asked.given else None)
    if layout not in (*order.LAYOUTS, "given", None):
        raise RecipeError(f"--layout {layout}: use one of {', '.join(order.LAYOUTS)} or given")
    if (layout == "given") != bool(asked.given):
        raise RecipeError(
            f"--layout {layout} {'with' if asked.given else 'without'} --order: give --order '[\"cat\", ...]', or the "
            "JSON file of an earlier order, with --layout given alone"
        )
    return replace(asked, layout=layout, listed=_read_order(asked.given) if asked.given else ())


def _read_order(text: str) -> tuple[str | int, ...]:
    """The order in a list, flat or by rows, as TOML or JSON write it; or in a file, also what --json wrote."""
    if Path(text).suffix == ".json":
        if not Path(text).is_file():
            raise RecipeError(f"--order {text}: no such file")
        text = Path(text).read_text(encoding="utf8")
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(f"v = {text}")["v"]
    except ValueError:
        raise RecipeError(f"--order: not a list of class names or numbers: {text[:60]}") from None
    entries = value.get("order") if isinstance(value, dict) else value
    if isinstance(entries, list) and all(isinstance(entry, list) for entry in entries):
        entries = [c for row in entries for c in row]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str | int) for entry in entries):
        raise RecipeError("--order: write it as a list of class names or numbers, row by row")
    return tuple(entries)


# ---------------------------------------------------------------- what is shown


def _figures(asked: Asked, classes: tuple[str, ...], distances: np.ndarray, grid: order.Grid, source: str) -> dict:
    """The grid, its score, and the scores of the layouts it can be held against."""
    rows, columns = len(grid), len(grid[0])

    def score_of(method: str, seed: int = asked.seed) -> float:
        return order.score(distances, order.layout(distances, rows, columns, method, seed))

    score = order.score(distances, grid)
    return {
        "dataset": asked.dataset,
        "layout": asked.layout,
        "embedding": source,
        "distance": asked.distance or default_kind(source),
        "rows": rows,
        "columns": columns,
        "grid": grid,
        "order": [classes[k] for row in grid for k in row],
        "score": score,
        "scores": {
            "greedy": score_of("greedy"),
            "optimal": score if asked.layout == "optimal" else score_of("optimal"),
            "random": float(np.mean([score_of("random", seed) for seed in range(RANDOM_GRIDS)])),
        },
    }


def _title(figures: dict) -> str:
    scores = figures["scores"]
    return (
        f"{figures['dataset']}, {figures['layout']} by {figures['embedding']} ({figures['distance']}): score "
        f"{figures['score']:.4g}   (greedy {scores['greedy']:.4g}, optimal {scores['optimal']:.4g}, "
        f"random {scores['random']:.4g})"
    )


def _print(figures: dict, classes: tuple[str, ...], distances: np.ndarray) -> None:
    from distill.order.colours import colours, ink

    palette = colours(distances)
    columns = figures["columns"]
    width = min(NAME_WIDTH, max(4, common.console.width // columns - 1))
    table = Table.grid(padding=0)
    for row in figures["grid"]:
        table.add_row(*(_cell(classes[k], width, palette[k], ink(palette[k])) for k in row))
    common.console.print(_title(figures), soft_wrap=True, markup=False)
    common.console.print(table)
    listed = json.dumps(figures["order"], ensure_ascii=False)
    if (figures["rows"], columns) != order.shape_of(len(classes)):
        common.console.print(f"\nsynthetic.rows = {figures['rows']}\nsynthetic.columns = {columns}", end="")
    common.console.print(f"\nsynthetic.order = {listed}", soft_wrap=True, markup=False)


def _cell(name: str, width: int, colour: np.ndarray, letters: tuple[int, int, int]) -> Text:
    """A name in two lines on its colour."""
    short = name.partition(",")[0].replace("_", " ")
    lines = textwrap.wrap(short, width, max_lines=NAME_LINES, placeholder="…")
    lines += [""] * (NAME_LINES - len(lines))
    style = Style(color="rgb({},{},{})".format(*letters), bgcolor="rgb({},{},{})".format(*colour.tolist()))
    return Text("\n".join(f" {line:<{width}}" for line in lines), style, no_wrap=True)
