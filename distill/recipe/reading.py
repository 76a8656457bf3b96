"""Reading recipes: a shipped name or a TOML file, with dotted overrides; all errors are reported at once."""

import json
import tomllib
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distill.errors import RecipeError
from distill.recipe.dataset import Dataset
from distill.recipe.network import Network
from distill.recipe.objective import ObjectiveSettings
from distill.recipe.outer import REPLACED, Outer
from distill.recipe.settings import Settings, in_words, members
from distill.recipe.synthetic import SyntheticSettings
from distill.recipe.whole import Recipe

REMOVED = ("first_experts", "first_steps")
"""Settings of the objective that earlier versions had: starting before all experts are trained."""
UNIONS = {"dataset": Dataset, "network": Network, "synthetic": SyntheticSettings, "objective": ObjectiveSettings}


def shipped() -> list[str]:
    """Names of the shipped recipes, sorted."""
    names = (entry.name for entry in resources.files("distill.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load(source: str, overrides: list[str] = ()) -> Recipe:
    """Read a shipped recipe by name, or a TOML file, apply `dotted.path=value` overrides and check everything.

    Raises RecipeError that lists all errors, each with its dotted path.
    """
    if source in shipped():
        text = (resources.files("distill.recipes") / f"{source}.toml").read_text(encoding="utf8")
    elif Path(source).is_file():
        text = Path(source).read_text(encoding="utf8")
    else:
        near = get_close_matches(source, shipped(), 3)
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise RecipeError(f"no recipe {source!r}{meant}: no dataset, no file and none of {', '.join(shipped())}")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {source}: not TOML: {error}") from None
    return override(table, overrides, source)


def parse(table: dict, source: str) -> Recipe:
    """A Recipe from a nested dict; errors name `source`."""
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        lines = [f"  {_path(e['loc'])}: {_message(e)}" for e in error.errors()]
        raise RecipeError(f"recipe {source}:\n" + "\n".join(lines)) from None


def override(table: dict, overrides: list[str], source: str) -> Recipe:
    """A Recipe from a nested dict, such as the resolved recipe stored with a result, with overrides."""
    table = json.loads(json.dumps(table))
    for assignment in sorted(overrides, key=_rank):
        _override(table, assignment)
    return parse(table, source)


def _rank(assignment: str) -> int:
    """Whole blocks come first, then protocol and kinds, which reset settings that the other overrides may set."""
    path = assignment.partition("=")[0]
    if "." not in path:
        return 0
    return 1 if path == "evaluation.protocol" or path.endswith(".kind") else 2


def current(values: dict) -> dict:
    """A recipe that an earlier version stored, without the settings that were removed since."""
    objective = {k: v for k, v in values.get("objective", {}).items() if k not in REMOVED}
    return {**values, "objective": objective} if "objective" in values else values


def _override(table: dict, assignment: str) -> None:
    """Apply `dotted.path=value` to the nested dict in place."""
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise RecipeError(f"override {assignment!r}: write it as dotted.path=value")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text  # a string without quotes, as one writes it in a shell
    *blocks, key = path.replace("-", "_").split(".")
    if path == "objective.kind":
        _leave_outer_to(table, value)
    for block in blocks:
        table = table.setdefault(block, {})
        if not isinstance(table, dict):
            raise RecipeError(f"override {assignment!r}: {block} is a value, not a table")
    for replaced in REPLACED.get(key, ()) if blocks == ["evaluation"] else ():
        table.pop(replaced, None)
    if key == "kind" and ".".join(blocks) in UNIONS:
        _change_kind(table, blocks[0], value)
    table[key] = value


def _leave_outer_to(table: dict, chosen: object) -> None:
    """Drop what another objective than the present one has its own defaults for: the rate, and unchanged defaults."""
    kinds = {kind.model_fields["kind"].default: kind for kind in members(ObjectiveSettings)}
    objective, outer = table.get("objective", {}), table.get("outer", {})
    if not isinstance(objective, dict) or not isinstance(outer, dict) or chosen not in kinds:
        return  # to be refused by parse()
    before = objective.get("kind", Recipe.model_fields["objective"].default.kind)
    if before == chosen or not any(kinds[kind].outer_defaults({}) for kind in (before, chosen) if kind in kinds):
        return
    usual = Outer().model_dump() | (kinds[before].outer_defaults(outer) if before in kinds else {})
    for key in [key for key, value in outer.items() if key in ("optimizer", "lr_img") or usual.get(key) == value]:
        del outer[key]


def _change_kind(table: dict, block: str, chosen: object) -> None:
    """Leave behind what belongs to a block's present kind; unknown settings stay, so that parse() reports them.

    A setting that both kinds have is carried over if it was changed from its default, means the same (Settings.own),
    and is valid for the chosen kind; in tables such as `augment` this holds for each entry.
    """
    kinds = {kind.model_fields["kind"].default: kind for kind in members(UNIONS[block])}
    if chosen not in kinds:
        return
    usual = getattr(Recipe.model_fields[block].default, "kind", None)
    old, new = kinds.get(table.get("kind", usual)), kinds[chosen]
    known = set().union(*(kind.model_fields for kind in kinds.values())) - {"kind"}
    for key in known & table.keys():
        if key not in new.model_fields:
            del table[key]
        elif old not in (None, new) and key in old.model_fields and not _refuses(old, key, table[key]):
            carried = _carried(table.pop(key), _default(old, key), _default(new, key))
            if carried is not None and key not in old.own | new.own and not _refuses(new, key, carried):
                table[key] = carried


def _carried(value: Any, old: Any, new: Any) -> Any:
    """What a value means for a kind with the default `new`; None if it is the default `old`."""
    if isinstance(value, dict) and isinstance(old, dict) and isinstance(new, dict):
        changed = {k: v for k, v in value.items() if k in new and v != old.get(k)}
        return changed or None
    return None if value == old else value


def _default(kind: type[Settings], key: str) -> Any:
    """The default of a setting as it stands in a table."""
    default = kind.model_fields[key].get_default(call_default_factory=True)
    return TypeAdapter(Any).dump_python(default, mode="json")


def _refuses(kind: type[Settings], key: str, value: Any) -> bool:
    """Whether the value is invalid by itself."""
    try:
        kind.model_validate({key: value})
    except ValidationError as error:
        return any(fault["loc"][:1] == (key,) for fault in error.errors())
    return False


def _path(location: tuple) -> str:
    """Dotted path without the tag that pydantic adds after the block of a discriminated union."""
    kinds = {member.model_fields["kind"].default for union in UNIONS.values() for member in members(union)}
    return ".".join(str(p) for i, p in enumerate(location) if not (i == 1 and p in kinds)) or "recipe"


def _message(error: dict) -> str:
    """What is wrong and how to fix it, for one error of pydantic."""
    if error["type"] == "union_tag_not_found":
        return 'add kind = "..." (`stillhouse recipes --fields` lists the kinds)'
    if error["type"] == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    if error["type"] == "string_pattern_mismatch":
        return f"{in_words(error['ctx']['pattern'], error['input'])} (got {error['input']!r})"
    message = error["msg"].removeprefix("Value error, ")
    return message if isinstance(error["input"], dict) else f"{message} (got {error['input']!r})"
