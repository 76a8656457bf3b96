"""The cells of a matrix: each pair of a set and an objective, sized to the budget, or the reason why it is refused.

Nothing here names a kind: sets and objectives are the members of the recipe's unions, and a set says itself how it is
sized (`Synthetic.sized`).
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from distill import context as contexts
from distill import objectives, synthetic
from distill import recipe as recipes
from distill.context import Context
from distill.errors import RecipeError, StillhouseError
from distill.recipe import Recipe
from tune import reading
from tune.reading import Plan
from tune.settings import Grid as GridSearch
from tune.settings import Never, Sweep
from tune.space import Choice

BLOCKS = ("synthetic", "objective", "outer")
"""Blocks of a recipe in which cells may differ; data, network and evaluation are the same for all."""
PATH = ", ".join(BLOCKS)
OF_KIND = re.compile(r"([a-z][a-z0-9_]*):([a-z0-9_.-]+=.*)", re.S)


@dataclass(frozen=True)
class Cell:
    """One pair of a set and an objective."""

    set: str
    objective: str
    recipe: Recipe | None = None
    """None if the pair is refused."""
    size: str = ""
    """The set in one line."""
    floats: int = 0
    """What it stores."""
    refusal: str = ""

    @property
    def values(self) -> list[dict[str, Any]]:
        """The blocks of its recipe that are its own, as values of a sweep at PATH."""
        table = self.recipe.model_dump(mode="json")
        return [table[block] for block in BLOCKS]


@dataclass(frozen=True)
class Grid:
    """All cells, set by set, of one recipe at one budget."""

    context: Context
    """Of the recipe before it is varied, with its data."""
    sets: tuple[str, ...]
    objectives: tuple[str, ...]
    per_class: float
    """The budget in images per class."""
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def floats(self) -> int:
        """The budget in stored floats."""
        return budget_floats(self.context, self.per_class)

    @property
    def accepted(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.recipe]


def kinds(union: Any) -> list[str]:
    """Names of the members of a union of the recipe."""
    return [settings.model_fields["kind"].default for settings in recipes.members(union)]


def chosen(option: str, named: str | None, union: Any) -> tuple[str, ...]:
    """The kinds that a list with commas names; all without one. Raises RecipeError for others."""
    known = kinds(union)
    names = tuple(dict.fromkeys(part.strip() for part in named.split(",") if part.strip())) if named else (*known,)
    if unknown := [name for name in names if name not in known]:
        raise RecipeError(f"{option}: no {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def budget_floats(context: Context, per_class: float) -> int:
    """Floats of a budget in images per class; rounded down."""
    return math.floor(per_class * context.classes * math.prod(context.data.shape) + 1e-6)


def split(overrides: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides for all cells, and by kind those written as `KIND:path=value`, for cells with that set or objective.

    Raises RecipeError for an unknown kind, and for a path that is not in BLOCKS or not a setting of that kind.
    """
    unions = {"synthetic": recipes.SyntheticSettings, "objective": recipes.ObjectiveSettings}
    fields = {
        kind.model_fields["kind"].default: (block, kind.model_fields)
        for block, union in unions.items()
        for kind in recipes.members(union)
    }
    common, own = [], {}
    for text in overrides:
        match = OF_KIND.fullmatch(text)
        if match is None:
            common.append(text)
            continue
        kind, assignment = match.groups()
        block, _, key = assignment.partition("=")[0].partition(".")
        if kind not in fields:
            raise RecipeError(f"override {text!r}: no set or objective {kind!r}; there are {', '.join(fields)}")
        if block not in BLOCKS:
            raise RecipeError(f"override {text!r}: cells may differ in {', '.join(BLOCKS)}, not in {block}")
        if block == fields[kind][0] and key.partition(".")[0] not in fields[kind][1]:
            raise RecipeError(f"override {text!r}: {kind} has no setting {key!r}; it has {', '.join(fields[kind][1])}")
        own.setdefault(kind, []).append(assignment)
    return common, own


def build(
    context: Context,
    sets: tuple[str, ...],
    objectives: tuple[str, ...],
    per_class: float,
    own: dict[str, list[str]],
    common: list[str] = (),
) -> Grid:
    """Size every cell. `own` and `common` are those of split(). Raises RecipeError if all are refused, with reasons.

    What the recipe itself says of the outer loop may give way to an objective's own defaults; what is in `common` not.
    """
    floats, outer = budget_floats(context, per_class), [text for text in common if text.startswith("outer.")]
    pairs = [(s, o) for s in sets for o in objectives]
    cells = tuple(_cell(context, s, o, floats, outer + own.get(s, []) + own.get(o, [])) for s, o in pairs)
    grid = Grid(context, sets, objectives, per_class, cells)
    if not grid.accepted:
        why = "\n".join(f"  {reason}" for reason in dict.fromkeys(cell.refusal for cell in cells))
        raise RecipeError(f"no pair can run at {per_class:g} images per class:\n{why}")
    return grid


def _cell(context: Context, kind: str, objective: str, floats: int, own: list[str]) -> Cell:
    source = f"of {kind} x {objective}"
    overrides = [f"synthetic.kind={kind}", f"objective.kind={objective}", *own]
    try:
        recipe = recipes.override(context.recipe.model_dump(mode="json"), overrides, source)
        settings = synthetic.sized(_with(context, recipe), floats).model_dump(mode="json")
        recipe = recipes.parse({**recipe.model_dump(mode="json"), "synthetic": settings}, source)
        made = _with(context, recipe)
        synthetic.check(made)
        blank = synthetic.blank(made)
        objectives.build(made).work(blank)
    except StillhouseError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        return Cell(kind, objective, refusal=" ".join(lines[1:] or lines).removeprefix("recipe: "))
    return Cell(kind, objective, recipe, blank.describe(), blank.budget().total)


def _with(context: Context, recipe: Recipe) -> Context:
    return contexts.prepare(recipe, device=context.device, dataset=context.data)


def plan(grid: Grid, own: list[str] = ()) -> Plan:
    """The accepted cells as a sweep: every one runs to its end and is published.

    `own` are overrides of the sweep's blocks, such as `resources.gpus=1` (tune.reading.OWN_BLOCKS).
    """
    base = grid.context.recipe
    sweep = Sweep(
        name=f"{base.name[:56]}-matrix",
        about=f"Sets and objectives at {grid.per_class:g} images per class.",
        recipe=base.name,
        search={PATH: Choice(kind="grid", values=[cell.values for cell in grid.accepted])},
        scheduler=Never(),
        searcher=GridSearch(),
        budget={"trials": len(grid.accepted)},
        publish="all",
    )
    table = sweep.model_dump(mode="json")
    for text in own:
        reading.set_value(table, text)
    made = Plan(reading.sweep_of(table, "matrix"), base)
    reading.check(made, "matrix")
    return made
