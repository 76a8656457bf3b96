"""Reading sweeps: a shipped name or a TOML file, overrides, and every fault of any trial at once, before one starts.

The search space is checked at its corners: each choice, both ends of each range, and all their combinations, or all
pairs if there are too many combinations.
"""

import itertools
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from distill import recipe as recipes
from distill.errors import RecipeError
from distill.recipe import Recipe
from tune.settings import Sweep
from tune.space import Value, flatten

MOST_COMBINATIONS = 2048
"""Up to this many combinations of corners are all checked; beyond it, only pairs."""
OWN_BLOCKS = ("budget", "scheduler", "searcher", "resources", "concurrency", "metric")
"""Overrides of these blocks change the sweep; all others change the recipe."""
FAULTS_SHOWN = 20


@dataclass(frozen=True)
class Plan:
    """A sweep and the recipe it varies."""

    sweep: Sweep
    base: Recipe

    def recipe(self, values: dict[str, Value]) -> Recipe:
        """The recipe of a trial. Raises RecipeError for values that do not fit together."""
        return with_values(self.base.model_dump(mode="json"), values)

    def corners(self) -> Iterator[dict[str, Value]]:
        """Values at the corners of the search space, one dictionary per trial to check."""
        ends = {path: d.corners() for path, d in self.sweep.search.items()}
        count = 1
        for values in ends.values():
            count *= len(values)
        if count <= MOST_COMBINATIONS:
            yield from (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
            return
        first = {path: values[0] for path, values in ends.items()}
        for (a, a_values), (b, b_values) in itertools.combinations(ends.items(), 2):
            yield from ({**first, a: x, b: y} for x, y in itertools.product(a_values, b_values))

    def starts(self) -> Iterator[Recipe]:
        """One recipe for each distinct run that a trial may start from (`recipe.before`).

        Raises RecipeError if these are infinitely many: each is a whole run, which must end before any trial.
        """
        ends, seen = {path: d.corners() for path, d in self.sweep.search.items()}, set()
        for corner in self.corners():
            before = self.recipe(corner).before
            if before is None or repr(before) in seen:
                continue
            lists = {}
            for path, values in ends.items():
                if len({repr(self.recipe({**corner, path: value}).before) for value in values}) > 1:
                    lists[path] = self.sweep.search[path].finite()
            if infinite := [path for path, values in lists.items() if values is None]:
                raise RecipeError(f"{infinite[0]}: every value is a start of its own, a whole run: list the values")
            for values in itertools.product(*lists.values()):
                recipe = self.recipe({**corner, **dict(zip(lists, values, strict=True))})
                if recipe.before and repr(recipe.before) not in seen:
                    seen.add(repr(recipe.before))
                    yield recipe


def shipped() -> list[str]:
    """Names of the sweeps inside the package, sorted."""
    files = (entry.name for entry in resources.files("tune.sweeps").iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def load(source: str, overrides: list[str] = ()) -> Plan:
    """Read a sweep, apply `dotted.path=value` overrides to it and to its recipe, and check every corner.

    Raises RecipeError that lists every fault at once.
    """
    table, folder = _read(source)
    own = [text for text in overrides if text.partition("=")[0].split(".")[0] in OWN_BLOCKS]
    for text in own:
        set_value(table, text)
    sweep = sweep_of(table, source)
    rest = [text for text in overrides if text not in own]
    plan = Plan(sweep, _base(sweep, folder, rest))
    check(plan, source)
    return plan


def check(plan: Plan, source: str) -> None:
    """Raise RecipeError, each fault once, unless every corner of the space is a valid recipe."""
    faults: dict[str, str] = {}
    if plan.base.evaluation.selection != "validation":
        faults["  evaluation.selection: a sweep chooses on held-out training images, never on the test images"] = ""
    invalid = _try_corners(plan, faults, leave_out=frozenset())
    if invalid:  # invalid values hide what else is wrong with the combinations
        _try_corners(plan, faults, leave_out=invalid)
    if not faults:
        try:
            list(plan.starts())
        except RecipeError as error:
            faults[f"  {error}"] = ""
    if faults:
        shown = [line + why for line, why in faults.items()][:FAULTS_SHOWN]
        more = [f"  ... and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
        raise RecipeError(f"sweep {source}: trials would be refused:\n" + "\n".join(shown + more))


def _try_corners(plan: Plan, faults: dict[str, str], leave_out: frozenset[str]) -> frozenset[str]:
    """Add the faults of all corners; returns each `path = value` that is invalid by itself, to be left out."""
    invalid = set()
    for corner in plan.corners():
        values = {path: value for path, value in corner.items() if format_values({path: value}) not in leave_out}
        try:
            plan.recipe(values)
        except RecipeError as error:
            for line in str(error).splitlines()[1:] or [str(error)]:
                own = {format_values({path: value}) for path, value in values.items() if _names(line, path)}
                invalid |= own
                faults.setdefault(line, "" if own else f" (with {format_values(values)})")
    return frozenset(invalid)


def format_values(values: dict[str, Value]) -> str:
    """`path = value` of all values, on one line."""
    return ", ".join(f"{path} = {json.dumps(value)}" for path, value in values.items())


def _names(line: str, path: str) -> bool:
    place = line.strip().partition(":")[0]
    paths = [path, *(part.strip() for part in path.split(","))]
    return any(place == p or place.startswith(f"{p}.") or p.startswith(f"{place}.") for p in paths)


def with_values(
    table: dict, values: dict[str, Value], overrides: list[str] = (), source: str = "of the sweep"
) -> Recipe:
    """The recipe of `table` with values at dotted paths, then overrides; a table as a value replaces a whole block.

    `a.b, a.c` with a list of two values sets both. JSON scalars and lists are TOML, too.
    """
    single = {}
    for key, value in values.items():
        paths = [path.strip() for path in key.split(",")]
        each = [value] if len(paths) == 1 else value
        if not isinstance(each, list) or len(each) != len(paths):
            raise RecipeError(f"{key}: give one value for each of the {len(paths)} paths (got {json.dumps(value)})")
        single |= dict(zip(paths, each, strict=True))
    blocks = {path: value for path, value in single.items() if isinstance(value, dict)}
    if nested := [path for path in blocks if "." in path]:
        raise RecipeError(f"{nested[0]}: only a whole block such as synthetic may be a table")
    own = [f"{path}={json.dumps(value)}" for path, value in single.items() if path not in blocks]
    return recipes.override({**table, **blocks}, [*own, *overrides], source)


def _read(source: str) -> tuple[dict, Path | None]:
    """The table of a sweep and the folder of its file; None for a shipped sweep."""
    if source in shipped():
        text, folder = (resources.files("tune.sweeps") / f"{source}.toml").read_text(encoding="utf8"), None
    elif Path(source).is_file():
        text, folder = Path(source).read_text(encoding="utf8"), Path(source).parent
    else:
        raise RecipeError(f"no sweep {source!r}: neither a file nor one of {', '.join(shipped())}")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"sweep {source}: not TOML: {error}") from None
    return {"name": Path(source).stem, **table}, folder


def _base(sweep: Sweep, folder: Path | None, overrides: list[str]) -> Recipe:
    """The recipe with the overrides that all trials share; a table with a `kind` replaces a whole block."""
    table = recipes.load(_recipe_source(sweep.recipe, folder)).model_dump(mode="json")
    return with_values(table, flatten(sweep.overrides), overrides, sweep.recipe)


def _recipe_source(name: str, folder: Path | None) -> str:
    beside = folder / name if folder else None
    return str(beside) if beside and name not in recipes.shipped() and beside.is_file() else name


def set_value(table: dict, text: str) -> None:
    """Apply `dotted.path=value` to the table of a sweep in place."""
    path, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"override {text!r}: write it as dotted.path=value")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *blocks, key = path.split(".")
    for block in blocks:
        table = table.setdefault(block, {})
    table[key] = parsed


def sweep_of(table: dict, source: str) -> Sweep:
    """A Sweep from a nested dict; errors name `source`."""
    try:
        return Sweep.model_validate(table)
    except ValidationError as error:
        lines = [f"  {_place(e['loc'])}: {_say(e)}" for e in error.errors()]
        raise RecipeError(f"sweep {source}:\n" + "\n".join(lines)) from None


def _place(location: tuple) -> str:
    """Dotted path without the tags that discriminated unions add."""
    blocks = ("scheduler", "searcher")
    kept = [str(p) for i, p in enumerate(location) if not (i and location[i - 1] in blocks)]
    if location[:1] == ("search",) and len(location) > 2:
        kept.pop(2)
    return ".".join(kept) or "sweep"


def _say(error: dict) -> str:
    if error["type"] == "union_tag_not_found":
        return 'add its kind, e.g. kind = "choice"'
    if error["type"] == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    message = error["msg"].removeprefix("Value error, ")
    return message if isinstance(error["input"], dict) else f"{message} (got {error['input']!r})"
