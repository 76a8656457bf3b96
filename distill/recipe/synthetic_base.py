"""What the settings of all synthetic sets have, and labels."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distill.recipe.experts import ExpertUse
from distill.recipe.settings import Settings

if TYPE_CHECKING:
    from distill.recipe.whole import Recipe

Selector = Literal["herding", "kmeans-nearest", "kmeans-farthest", "forgetting", "entropy-high", "entropy-low"]
"""Ways to choose real images: distill/selectors/."""


ClassKey = str | Annotated[int, Field(strict=True)]
"""A class by name or number."""


LABEL_EXPERTS = 10
"""Experts whose answers are averaged into labels, at most."""
FORGETTING_EXPERTS = 3
"""Experts over which forgetting is counted, at most."""


class Labels(Settings):
    """Labels of the synthetic images."""

    mode: Literal["hard", "learned", "expert"] = "hard"
    """hard: one-hot; learned: learned from a one-hot start; expert: mean probabilities of trained networks, fixed."""
    init: Literal["one-hot", "expert"] = "one-hot"
    """Start of learned labels. one-hot: probabilities, learned as such; expert: the mean probabilities of trained
    networks, learned as logits (DATM)."""
    lr: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate of learned labels; 0.001 if it is left out."""

    @model_validator(mode="before")
    @classmethod
    def _learned_at_some_rate(cls, block: Any) -> Any:
        learned = isinstance(block, dict) and block.get("mode") == "learned"
        return {"lr": 1e-3, **block} if learned else block

    @model_validator(mode="after")
    def _agrees(self):
        if self.init == "expert" and self.mode != "learned":
            raise ValueError(f'init = "expert" is where learned labels start, but mode = "{self.mode}": leave it out')
        return self

    @property
    def by_experts(self) -> bool:
        """Whether they are, or start as, answers of trained networks."""
        return self.mode == "expert" or self.init == "expert"


class SyntheticBase(Settings):
    """Base of the settings of every synthetic set."""

    @property
    def expert_use(self) -> ExpertUse:
        """Whether the initialisation or the labels use trained networks."""
        return "none"

    @property
    def most_experts(self) -> int:
        """Maximum number of experts that it uses, if it requires them."""
        return 1

    from_file: ClassVar[str] = ""
    """Name of the setting that may be file:PATH, if there is one."""

    @property
    def file(self) -> Path | None:
        """The file, or folder, of a published set that this one starts from."""
        kind, _, path = getattr(self, self.from_file, "").partition(":")
        return Path(path) if kind == "file" and path else None

    def check(self, recipe: "Recipe") -> None:
        """Raise ValueError if the rest of the recipe does not fit these settings."""

    def before(self, recipe: "Recipe") -> "Recipe | None":
        """The recipe of a run that must have ended before one of `recipe` begins, as the set starts from what it
        published; None if there is no such run."""
        return None

    def after(self, steps: int) -> Self:
        """The same settings with as many outer steps of the run before."""
        raise NotImplementedError(f"{type(self).__name__} has no run before it")

    def absolute(self) -> Self:
        """The same settings with absolute file paths."""
        if self.file is None:
            return self
        return self.model_copy(update={self.from_file: f"file:{self.file.expanduser().absolute()}"})

    def decisive(self) -> dict[str, Any]:
        """The settings that the result depends on, as JSON values; files by digest, not by path."""
        values = self.model_dump(mode="json")
        if self.file is not None:
            found = self.file / "synthetic.safetensors" if self.file.is_dir() else self.file
            if found.is_file():
                values[self.from_file] = f"file:{hashlib.sha256(found.read_bytes()).hexdigest()}"
        return values
