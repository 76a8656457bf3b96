"""Reading recipes: a shipped name or a TOML file, with dotted overrides; all errors are reported at once."""

import json
import tomllib
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from distill.errors import RecipeError
from distill.recipe.dataset import Dataset
from distill.recipe.network import Network
from distill.recipe.objective import ObjectiveSettings
from distill.recipe.outer import REPLACED
from distill.recipe.settings import Settings, members
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
        raise RecipeError(f"no recipe {source!r}: neither a file nor one of {', '.join(shipped())}")
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
    # These come first: they reset settings that the other overrides may set.
    first = ("evaluation.protocol=", "objective=", "objective.kind=")
    for assignment in sorted(overrides, key=lambda text: not text.startswith(first)):
        _override(table, assignment)
    return parse(table, source)


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
        _drop_rates_of_another_objective(table, value)
    for block in blocks:
        table = table.setdefault(block, {})
        if not isinstance(table, dict):
            raise RecipeError(f"override {assignment!r}: {block} is a value, not a table")
    for replaced in REPLACED.get(key, ()) if blocks == ["evaluation"] else ():
        table.pop(replaced, None)
    if key == "kind" and ".".join(blocks) in UNIONS:
        _drop_settings_of_other_kinds(table, members(UNIONS[blocks[0]]), value)
    table[key] = value


def _drop_rates_of_another_objective(table: dict, chosen: object) -> None:
    """Drop the outer learning rate chosen for another objective, if one of the two has a default of its own."""
    kinds = {kind.model_fields["kind"].default: kind for kind in members(ObjectiveSettings)}
    objective, outer = table.get("objective", {}), table.get("outer", {})
    if not isinstance(objective, dict) or not isinstance(outer, dict) or chosen not in kinds:
        return  # to be refused by parse()
    before = objective.get("kind", "trajectory")
    if before != chosen and any(kinds[kind].outer_defaults({}) for kind in (before, chosen) if kind in kinds):
        for key in ("optimizer", "lr_img"):
            outer.pop(key, None)


def _drop_settings_of_other_kinds(table: dict, kinds: tuple[type[Settings], ...], chosen: object) -> None:
    """Drop settings that only other kinds have. Unknown ones stay, so that parse() reports them."""
    fields = {kind.model_fields["kind"].default: kind.model_fields.keys() for kind in kinds}
    others = set().union(*fields.values()) - fields.get(chosen, table.keys())
    for key in others & table.keys():
        del table[key]


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
    message = error["msg"].removeprefix("Value error, ")
    return message if isinstance(error["input"], dict) else f"{message} (got {error['input']!r})"
