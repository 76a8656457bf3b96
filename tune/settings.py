"""What a sweep is, written down: a recipe, what to search, how, and how much it may cost. Imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from distill.recipe import Name, Settings
from tune.space import Permutation, Space, flatten

Count = Annotated[int, Field(ge=1)]
MUTABLE = ("outer.lr_img", "outer.momentum", "objective.lr_lr", "synthetic.labels.lr")
"""Recipe values that may change while a run goes on: rates of the outer optimiser, which no checkpoint holds."""


class Budget(Settings):
    """When a sweep ends: as soon as the first of these is used up."""

    trials: Count = 20
    hours: Annotated[float, Field(ge=0)] = 0.0
    """Wall time of one command, in hours (0: no limit)."""
    steps: Annotated[int, Field(ge=0)] = 0
    """Outer steps of all trials together (0: no limit)."""


class Asha(Settings):
    """Asynchronous successive halving (Li et al. 2020): only the best part of each rung goes on."""

    kind: Literal["asha"] = "asha"
    grace: Annotated[int, Field(ge=0)] = 0
    """Outer steps every trial gets (0: up to its first evaluation)."""
    reduction: Annotated[float, Field(gt=1)] = 3.0
    """One of so many goes on to the next rung, which is so many times as far."""


class Median(Settings):
    """A trial stops when its best is below the median of the others' means at its step (Golovin et al. 2017)."""

    kind: Literal["median"] = "median"
    grace: Annotated[int, Field(ge=0)] = 0
    """Outer steps every trial gets (0: up to its first evaluation)."""
    least: Count = 3
    """Trials to compare with before one may be stopped."""


class Pbt(Settings):
    """Population based training (Jaderberg et al. 2017): the worst go on from the best, with rates changed."""

    kind: Literal["pbt"] = "pbt"
    every: Annotated[int, Field(ge=0)] = 0
    """Outer steps between changes (0: each evaluation)."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Part of the trials that is replaced, and part that is copied."""
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    """How often a value is drawn anew; else it becomes 0.8 or 1.2 times what it was."""


class Never(Settings):
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"


class Optuna(Settings):
    """Tree-structured Parzen estimators (Bergstra et al. 2011)."""

    kind: Literal["optuna"] = "optuna"
    tradeoff: bool = False
    """Search the front of accuracy against stored floats, instead of accuracy alone."""


class Random(Settings):
    """Independent draws."""

    kind: Literal["random"] = "random"


class Grid(Settings):
    """Every combination once, in order; the first path changes slowest."""

    kind: Literal["grid"] = "grid"


class Order(Settings):
    """Orders of classes: swaps and crossovers of good ones, ranked by a cheap score before they are distilled."""

    kind: Literal["order"] = "order"
    embedding: str = ""
    """What likeness is, as for `stillhouse order` (empty: as the recipe says)."""


class Resources(Settings):
    """What one trial gets. Trials run side by side while these are free."""

    cpus: Annotated[float, Field(gt=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """0.25: four trials share a GPU."""


Scheduler = Annotated[Asha | Median | Pbt | Never, Field(discriminator="kind")]
Searcher = Annotated[Optuna | Random | Grid | Order, Field(discriminator="kind")]


class Sweep(Settings):
    """Everything a sweep depends on."""

    name: Name
    about: str = ""
    """What it is for."""
    recipe: str
    """A shipped recipe or a TOML file; a relative path is looked up beside the sweep's own file, too."""
    overrides: dict[str, Any] = {}
    """Recipe values all trials share."""
    search: Annotated[Space, Field(min_length=1)]
    """Dotted recipe paths and the distributions of their values."""
    metric: Literal["validation_accuracy", "loss"] = "validation_accuracy"
    """What makes a trial good, on held-out training images; the test images are looked at once, for the winner."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Which trials are drawn."""
    budget: Budget = Budget()
    scheduler: Scheduler = Asha()
    searcher: Searcher = Optuna()
    resources: Resources = Resources()
    concurrency: Annotated[int, Field(ge=0)] = 0
    """Trials at a time (0: as many as resources allow)."""

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, table: Any) -> Any:
        """A scheduler or searcher that does not say its kind is the default one."""
        for block, kind in (("scheduler", "asha"), ("searcher", "optuna")):
            if isinstance(table, dict) and isinstance(table.get(block), dict):
                table = {**table, block: {"kind": kind, **table[block]}}
        return table

    @field_validator("search", mode="before")
    @classmethod
    def _flat(cls, table: Any) -> Any:
        return flatten(table) if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _parts_agree(self):
        faults = [*self._grid_faults(), *self._pbt_faults(), *self._order_faults()]
        if getattr(self.searcher, "tradeoff", False) and self.metric != "validation_accuracy":
            faults.append("searcher.tradeoff needs metric = validation_accuracy")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _grid_faults(self) -> list[str]:
        if self.searcher.kind != "grid":
            return []
        return [
            f"searcher grid: search.{path} has no list of values; give it kind = grid, choice or integer"
            for path, d in self.search.items()
            if d.finite() is None
        ]

    def _pbt_faults(self) -> list[str]:
        if self.scheduler.kind != "pbt":
            return []
        fixed = [path for path in self.search if path not in MUTABLE]
        faults = [f"scheduler pbt changes values while runs go on: search.{p} is none of {MUTABLE}" for p in fixed]
        if self.searcher.kind != "random":
            faults.append("scheduler pbt needs searcher random: trials end with other values than they were given")
        return faults

    def _order_faults(self) -> list[str]:
        if self.searcher.kind != "order":
            return []
        if len(self.search) != 1 or not isinstance(next(iter(self.search.values())), Permutation):
            return ["searcher order needs exactly one path to search, with kind = permutation"]
        return []

    @property
    def mode(self) -> Literal["max", "min"]:
        """Whether the metric is better when it is larger."""
        return "max" if self.metric == "validation_accuracy" else "min"

    def combinations(self) -> int | None:
        """How many different trials there are; None when they are not countable."""
        total = 1
        for d in self.search.values():
            if d.finite() is None:
                return None
            total *= len(d.finite())
        return total

    def trials(self) -> int:
        """How many trials are begun at most."""
        return min(self.budget.trials, self.combinations()) if self.searcher.kind == "grid" else self.budget.trials
