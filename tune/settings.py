"""The settings of a sweep: a recipe, what to search, how, and the budget. Imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from distill.recipe import Name, Settings
from tune.space import Permutation, Space, flatten

Count = Annotated[int, Field(ge=1)]
MUTABLE = ("outer.lr_img", "outer.momentum", "objective.lr_lr", "synthetic.labels.lr")
"""Recipe values that may change during a run: rates of the outer optimiser, which are not in checkpoints."""


class TrialBudget(Settings):
    """When a sweep ends: as soon as one of these is used up."""

    trials: Count = 20
    hours: Annotated[float, Field(ge=0)] = 0.0
    """Wall time of one command, in hours (0: no limit)."""
    steps: Annotated[int, Field(ge=0)] = 0
    """Outer steps of all trials together (0: no limit)."""


class Asha(Settings):
    """Asynchronous successive halving (Li et al. 2020): only the best trials of each rung continue."""

    kind: Literal["asha"] = "asha"
    grace: Annotated[int, Field(ge=0)] = 0
    """Outer steps every trial gets (0: up to its first evaluation)."""
    reduction: Annotated[float, Field(gt=1)] = 3.0
    """One in `reduction` trials continues to the next rung, which is `reduction` times as many steps."""


class Median(Settings):
    """A trial stops when its best is below the median of the others' means at its step (Golovin et al. 2017)."""

    kind: Literal["median"] = "median"
    grace: Annotated[int, Field(ge=0)] = 0
    """Outer steps every trial gets (0: up to its first evaluation)."""
    least: Count = 3
    """Trials to compare with before one may be stopped."""


class Pbt(Settings):
    """Population based training (Jaderberg et al. 2017): the worst continue from the best, with rates changed."""

    kind: Literal["pbt"] = "pbt"
    every: Annotated[int, Field(ge=0)] = 0
    """Outer steps between changes (0: each evaluation)."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Fraction of the trials that is replaced, and fraction that is copied."""
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Probability that a value is drawn anew; otherwise it is multiplied by 0.8 or 1.2."""


class Never(Settings):
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"


class Optuna(Settings):
    """Tree-structured Parzen estimators (Bergstra et al. 2011)."""

    kind: Literal["optuna"] = "optuna"
    tradeoff: bool = False
    """Search the Pareto front of accuracy against stored floats instead of accuracy alone."""


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
    """What makes classes similar, as for `stillhouse order` (empty: the recipe's)."""


class Resources(Settings):
    """Resources of one trial. Trials run in parallel as long as these are free."""

    cpus: Annotated[float, Field(gt=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """0.25: four trials share a GPU."""


Scheduler = Annotated[Asha | Median | Pbt | Never, Field(discriminator="kind")]
Searcher = Annotated[Optuna | Random | Grid | Order, Field(discriminator="kind")]


class Sweep(Settings):
    """All settings of a sweep."""

    name: Name
    about: str = ""
    """Its purpose, in one line."""
    recipe: str
    """A shipped recipe or a TOML file; a relative path may also be relative to the sweep's file."""
    overrides: dict[str, Any] = {}
    """Recipe values that all trials share."""
    search: Annotated[Space, Field(min_length=1)]
    """Dotted recipe paths and the distributions of their values."""
    metric: Literal["validation_accuracy", "loss"] = "validation_accuracy"
    """How trials are compared, on held-out training images; the test images are used once, for the winner."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the draws."""
    budget: TrialBudget = TrialBudget()
    scheduler: Scheduler = Asha()
    searcher: Searcher = Optuna()
    resources: Resources = Resources()
    concurrency: Annotated[int, Field(ge=0)] = 0
    """Trials at a time (0: as many as resources allow)."""
    publish: Literal["winner", "all"] = "winner"
    """Sets that are judged on the test images and registered: the best trial's, or those of all that run to their
    end."""

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
        allowed = ", ".join(MUTABLE)
        faults = [f"scheduler pbt changes values during a run: replace search.{p} by any of {allowed}" for p in fixed]
        if self.searcher.kind != "random":
            faults.append("scheduler pbt needs searcher random: others would learn from values that pbt has changed")
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
        """Number of different trials; None if it is infinite."""
        total = 1
        for d in self.search.values():
            if d.finite() is None:
                return None
            total *= len(d.finite())
        return total

    def trials(self) -> int:
        """The most trials that are started."""
        return min(self.budget.trials, self.combinations()) if self.searcher.kind == "grid" else self.budget.trials
