"""The base of every block of a recipe, and the types their fields share."""

import re
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

ABSOLUTE = re.compile(r"(?P<kind>[a-z]+:)?(?:[A-Za-z]:)?[/\\\\](?!/)(?:.*[/\\\\])?(?P<last>[^/\\\\]+)[/\\\\]*", re.S)
"""A path from the root, with or without a kind such as `file:`; not a URL, whose slash is followed by another."""
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
Device = Annotated[str, StringConstraints(pattern=DEVICE)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every block of a recipe: frozen, refuses unknown keys, and shows field docstrings as `--help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    own: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that other kinds of the same block use for something else: they are not carried over when
    `kind` changes."""


def slug(text: str) -> str:
    """The nearest valid Name of a text, such as a file's name: my-photos of "My Photos"."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")[:63].rstrip("-_") or "mine"


def in_words(pattern: str, given: Any) -> str:
    """What a text that does not match the pattern of a setting should be, in words."""
    if "|file:.+)" in pattern:
        kinds = pattern.strip("^($)").replace("file:.+", "file:PATH").split("|")
        return f"use {', '.join(kinds[:-1])} or {kinds[-1]}"
    if NAME.strip("^$") in pattern:
        return f"use a-z, 0-9, - and _, at most 63 of them, the first a letter or digit: {slug(str(given))!r}"
    if pattern == DEVICE:
        gpu = "; a GPU is cuda, or cuda:0 for the first" if "gpu" in str(given).lower() else ""
        return f"use auto, cpu, cuda or cuda:0, cuda:1, ...{gpu}"
    raise AssertionError(pattern)


def by_default(kind: str) -> BeforeValidator:
    """Validator of a registry: a block without a kind has this one."""
    return BeforeValidator(lambda block: {"kind": kind, **block} if isinstance(block, dict) else block)


def dotted(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested blocks as one flat dict whose keys are the dotted paths of overrides."""
    flat: dict[str, Any] = {}
    for key, value in block.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def chosen(settings: Settings, always: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings that are not their defaults, every kind, and those at or below the paths `always`; as dotted()."""
    changed = dotted(settings.model_dump(mode="json", exclude_defaults=True))
    below = tuple(f"{path}." for path in always)
    return {
        path: value
        for path, value in dotted(settings.model_dump(mode="json")).items()
        if path in changed or path.endswith(".kind") or path in always or path.startswith(below)
    }


def portable(values: Any) -> Any:
    """JSON values, such as a recipe's, whose absolute paths are cut to their last part, also after `file:`.

    What is published must not say where its maker keeps files; whoever uses it has the same data under other folders.
    """
    if isinstance(values, dict):
        return {key: portable(value) for key, value in values.items()}
    if isinstance(values, list):
        return [portable(value) for value in values]
    found = ABSOLUTE.fullmatch(values) if isinstance(values, str) else None
    return f"{found['kind'] or ''}{found['last']}" if found else values


def with_paths_of(values: Any, own: Any) -> Any:
    """JSON values with the paths of `own` for those that portable() made of them."""
    if isinstance(values, dict) and isinstance(own, dict):
        return {key: with_paths_of(value, own.get(key)) for key, value in values.items()}
    return own if isinstance(own, str) and values == portable(own) else values


def members(union: Any) -> tuple[type[Settings], ...]:
    """The settings classes of a registry, which is a discriminated union or a single class."""
    return (union,) if isinstance(union, type) else get_args(get_args(union)[0])
