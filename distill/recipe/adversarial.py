"""Settings of training against a discriminator (distill/objectives/adversarial.py)."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distill.recipe.experts import Augment, ExpertUse
from distill.recipe.objective_base import Compute, ObjectiveBase
from distill.recipe.settings import Count, Positive


class Adversarial(ObjectiveBase):
    """Train the set against a discriminator that sees features of a frozen network (Projected GANs, Sauer et al. 2021).
    With synthetic.kind = "generator" it is a GAN."""

    own: ClassVar[frozenset[str]] = frozenset({"batch_real", "batch_syn", "layers", "features", "augment"})
    loss_falls: ClassVar[bool] = False
    kind: Literal["adversarial"] = "adversarial"
    features: Annotated[str, Field(pattern=r"^(random|experts|file:.+)$")] = "random"
    """The frozen network, which has the recipe's architecture. random: with random weights; experts: the first expert
    of the recipe at its last epoch; file:PATH: with the weights in a safetensors file (docs/generators.md)."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Blocks of the network whose maps the discriminator sees, counted from 1, in ascending order; 0 is the image
    itself, without which instance norm would hide contrast and brightness. Empty: the image and all blocks."""
    channels: Count = 64
    """Channels of each map after mixing, and of the discriminator."""
    batch_syn: Count = 64
    """Synthetic images per step, spread evenly over the set."""
    batch_real: Count = 64
    """Real images per step, of all classes together."""
    lr_disc: Positive = 0.002
    """Learning rate of the discriminator, with Adam."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.0, 0.99)
    """Decay rates of Adam, for the discriminator and the set."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay per step of the moving average of the set, which is what is judged and published (0: the set itself)."""
    collapse: Annotated[float, Field(ge=0)] = 0.3
    """Warn of mode collapse if images of a class are on average less than this times as far apart as real ones."""
    augment: Augment = Augment(strategies=("color", "crop", "cutout"))
    """Differentiable augmentation of all that the discriminator sees (Zhao et al. 2020). What it mirrors or rotates, a
    generator may learn to draw mirrored or rotated."""
    segments: Count = 1
    """Independent batches averaged per outer step, over all workers."""

    @property
    def method(self) -> str:
        return "gan"

    @classmethod
    def outer_defaults(cls, outer: dict[str, Any]) -> dict[str, Any]:
        """Adam at StyleGAN2's rate."""
        rates = {"optimizer": "adam", "lr_img": 0.002}
        return rates if outer.get("optimizer", "adam") == "adam" else {"lr_img": 0.1}

    @property
    def expert_use(self) -> ExpertUse:
        """Whether it reads experts."""
        return "required" if self.features == "experts" else "none"

    @property
    def most_experts(self) -> int | None:
        return 1

    @property
    def engine_settings(self) -> Compute:
        return Compute(compile="off")

    @property
    def file(self) -> Path | None:
        """The file that `features` names, if any."""
        kind, _, path = self.features.partition(":")
        return Path(path).expanduser() if kind == "file" else None

    def absolute(self) -> Self:
        return self.model_copy(update={"features": f"file:{self.file.absolute()}"}) if self.file else self

    def decisive(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        if self.file and self.file.is_file():
            values["features"] = f"file:{hashlib.sha256(self.file.read_bytes()).hexdigest()}"
        return values

    def memory_levers(self, images: int) -> list[str]:
        return [f"objective.{name}={max(1, getattr(self, name) // 2)}" for name in ("batch_syn", "channels")]

    @model_validator(mode="after")
    def _in_order(self):
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError("layers must be in ascending order, each once")
        return self
