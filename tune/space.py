"""Search spaces: distributions of values for dotted recipe paths.

Each distribution knows its corners (the values that must all be valid), how a random number in [0, 1) becomes a value,
and its list of values if that is finite.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distill.recipe import Settings

Scalar = bool | int | float | str
Table = dict[str, Any]
"""A whole block of a recipe, such as `synthetic`, with its kind."""
Value = Scalar | Table | list[Scalar | Table]


class Choice(Settings):
    """One of these values."""

    kind: Literal["choice", "grid"] = "choice"
    """Both mean the same: searchers draw from the values, the searcher `grid` visits all of them."""
    values: Annotated[list[Value], Field(min_length=1)]

    def corners(self) -> list[Value]:
        return self.values

    def finite(self) -> list[Value] | None:
        return self.values

    def pick(self, u: float) -> Value:
        return self.values[int(u * len(self.values))]


class Range(Settings):
    """Real numbers between two ends."""

    kind: Literal["uniform", "loguniform"] = "uniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _ends_agree(self):
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.kind == "loguniform" and self.low <= 0:
            raise ValueError(f"a loguniform range needs low > 0 (got {self.low})")
        return self

    def corners(self) -> list[Value]:
        return [self.low, self.high]

    def finite(self) -> list[Value] | None:
        return None

    def pick(self, u: float) -> Value:
        if self.kind == "uniform":
            return self.low + u * (self.high - self.low)
        return math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))


class Whole(Settings):
    """Whole numbers from low to high, both included."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int
    log: bool = False
    """Uniform in the logarithm instead of in the value."""

    @model_validator(mode="after")
    def _ends_agree(self):
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.log and self.low < 1:
            raise ValueError(f"a logarithmic range needs low >= 1 (got {self.low})")
        return self

    def corners(self) -> list[Value]:
        return [self.low, self.high]

    def finite(self) -> list[Value] | None:
        return list(range(self.low, self.high + 1))

    def pick(self, u: float) -> Value:
        if not self.log:
            return self.low + int(u * (self.high - self.low + 1))
        low, high = math.log(self.low), math.log(self.high + 1)
        return min(self.high, int(math.exp(low + u * (high - low))))


class Permutation(Settings):
    """Any order of these items, such as the classes of a poster."""

    kind: Literal["permutation"] = "permutation"
    items: Annotated[list[int | str], Field(min_length=2)]
    """Classes by number or name, each once."""

    @model_validator(mode="after")
    def _items_differ(self):
        if len(set(self.items)) < len(self.items):
            raise ValueError("items are listed more than once")
        return self

    def corners(self) -> list[Value]:
        return [self.items, self.items[::-1]]

    def finite(self) -> list[Value] | None:
        return None

    def order(self, keys: list[float]) -> list[int | str]:
        """The items sorted by their keys: random keys give a random order (Bean 1994)."""
        return [item for _, item in sorted(zip(keys, self.items, strict=True), key=lambda pair: pair[0])]


Distribution = Annotated[Choice | Range | Whole | Permutation, Field(discriminator="kind")]
Space = dict[str, Distribution]


def flatten(table: dict, prefix: str = "") -> dict[str, dict]:
    """`[search]` with nested tables as dotted paths; a table with a `kind` is a distribution."""
    flat: dict[str, dict] = {}
    for key, value in table.items():
        if isinstance(value, dict) and "kind" not in value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def names(space: Space) -> list[str]:
    """Names of the numbers that a searcher chooses: one per path, one key per item of a permutation."""
    result = []
    for path, d in space.items():
        result += [f"{path}#{i}" for i in range(len(d.items))] if isinstance(d, Permutation) else [path]
    return result


def values_of(space: Space, point: dict) -> dict[str, Value]:
    """Recipe values of a searcher's point: choices by index, permutations by keys."""
    values: dict[str, Value] = {}
    for path, d in space.items():
        if isinstance(d, Permutation):
            values[path] = d.order([point[f"{path}#{i}"] for i in range(len(d.items))])
        elif isinstance(d, Choice):
            values[path] = d.values[point[path]]
        else:
            values[path] = point[path]
    return values


def describe(distribution: Choice | Range | Whole | Permutation) -> str:
    """A distribution in a few words."""
    d = distribution
    if isinstance(d, Choice):
        return ", ".join(map(str, d.values))
    if isinstance(d, Permutation):
        return f"any order of {len(d.items)}"
    return f"{d.low:g} to {d.high:g}" + (", logarithmic" if d.kind == "loguniform" or getattr(d, "log", False) else "")
