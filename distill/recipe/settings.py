"""The base of every block of a recipe, and the types their fields share."""

from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every block of a recipe: frozen, refuses unknown keys, and shows field docstrings as `--help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    own: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that other kinds of the same block use for something else: they are not carried over when
    `kind` changes."""


def by_default(kind: str) -> BeforeValidator:
    """Validator of a registry: a block without a kind has this one."""
    return BeforeValidator(lambda block: {"kind": kind, **block} if isinstance(block, dict) else block)


def dotted(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested blocks as one flat dict whose keys are the dotted paths of overrides."""
    flat: dict[str, Any] = {}
    for key, value in block.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def members(union: Any) -> tuple[type[Settings], ...]:
    """The settings classes of a registry, which is a discriminated union or a single class."""
    return (union,) if isinstance(union, type) else get_args(get_args(union)[0])
