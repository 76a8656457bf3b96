"""What the settings of all objectives have, and those that train students on the set."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ByteSize, model_validator

from distill.recipe.experts import ExpertUse
from distill.recipe.settings import Count, Settings

if TYPE_CHECKING:
    from distill.recipe.whole import Recipe


class Compute(Settings):
    """How networks are computed while distilling."""

    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of what an outer step computes; auto: on if the run is long enough to pay off."""
    bf16: bool = False
    """bfloat16 autocast of the networks."""


class Engine(Compute):
    """How inner training is differentiated (distill/engine/unroll.py)."""

    keep: Literal["auto", "device", "host", "thin"] = "auto"
    """Where the states of the inner steps are kept for the backward pass. device: in GPU memory; host: in CPU memory;
    thin: only every sqrt(N)-th, the others are recomputed; auto: the first of these that has room."""
    vectorize: Literal["auto", "on", "off"] = "auto"
    """Compute several segments as one batch; auto: on GPUs."""
    memory: Literal["auto"] | ByteSize = "auto"
    """What the forward pass may keep for the backward pass besides the states, such as "2GB"; what has no room is
    computed again, to the same bits. auto: a quarter of the memory that is free when the run begins. Estimates of
    memory are without it."""

    def memory_levers(self, segments: int) -> list[str]:
        """Overrides that save memory and change at most the last bits."""
        return ["objective.engine.keep=thin", "objective.engine.bf16=true"] + ["objective.engine.vectorize=off"] * (
            segments > 1
        )


class ObjectiveBase(Settings):
    """Base of the settings of every objective."""

    expert_use: ClassVar[ExpertUse] = "none"
    """Whether it reads the trajectories of experts."""
    segments: Count = 1
    """Independent terms averaged per outer step, each with its own network; divided among outer.workers."""

    @model_validator(mode="before")
    @classmethod
    def _augment_as_usual(cls, block: Any) -> Any:
        """An `augment` table that says only some settings leaves the others to this objective, not to Augment."""
        usual = cls.model_fields["augment"].default if "augment" in cls.model_fields else None
        if usual is None or not isinstance(block, dict) or not isinstance(block.get("augment"), dict):
            return block
        return {**block, "augment": {**usual.model_dump(), **block["augment"]}}

    @classmethod
    def outer_defaults(cls, outer: dict[str, Any]) -> dict[str, Any]:
        """Defaults of the outer loop with this objective, if they differ from those of Outer, for a block `outer`."""
        return {}

    @property
    def method(self) -> str:
        """Short name of the method in papers, [a-z0-9-]: a part of the name of registered models."""
        return self.kind

    @property
    def expert_set(self) -> str:
        """Name of the set of experts to read; empty: the recipe's own set."""
        return ""

    @property
    def most_experts(self) -> int | None:
        """Maximum number of experts that it reads, if it requires them; None: all."""
        return None

    @property
    def last_expert_epoch(self) -> int:
        """The latest epoch of an expert that is read."""
        return 0

    loss_falls: ClassVar[bool] = True
    """Whether the loss falls in a run that gets better."""

    def absolute(self) -> Self:
        """The same settings with absolute file paths."""
        return self

    def decisive(self) -> dict[str, Any]:
        """The settings that the result depends on, as JSON values; files by digest, not by path."""
        return self.model_dump(mode="json")

    @property
    def engine_settings(self) -> Compute:
        """How networks are computed; with inner training also how it is differentiated (Engine)."""
        return Compute()

    def memory_levers(self, images: int) -> list[str]:
        """Overrides that may save memory; `images` is the batch size of inner training, 0 without any."""
        return []

    @property
    def bf16(self) -> bool:
        """Whether networks run in bfloat16 autocast while distilling."""
        return self.engine_settings.bf16

    def check(self, recipe: "Recipe") -> None:
        """Raise ValueError if the rest of the recipe does not fit these settings."""


class InnerTraining(ObjectiveBase):
    """What the settings of objectives have that train a student on the set and differentiate through it."""

    engine: Engine = Engine()

    @property
    def engine_settings(self) -> Engine:
        return self.engine

    def decisive(self) -> dict[str, Any]:
        values = super().decisive()
        del values["engine"]["memory"]  # with any, the bits are the same
        return values

    def memory_levers(self, images: int) -> list[str]:
        return self.engine.memory_levers(self.segments) + [f"objective.batch_syn={max(1, images // 2)}"]
