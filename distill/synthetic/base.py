"""What is learned. A Synthetic yields training images that are differentiable down to its parameters."""

import math
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from PIL import Image
from torch import Tensor, nn

from distill.context import Context
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.picture import sheet
from distill.published.forms import Images, Stored
from distill.recipe import Outer, Sampling, SyntheticBase

FLOAT_BITS = 32


@dataclass(frozen=True)
class Group:
    """Parameters that share an optimiser and a learning rate."""

    params: list[nn.Parameter]
    lr: float
    optimizer: Literal["", "sgd", "adam"] = ""
    """Empty: the recipe's outer.optimizer."""


@dataclass(frozen=True)
class Budget:
    """What a user must store to train on a set; shared or frozen parts are listed separately."""

    floats: dict[str, int]
    """Number of values in each part; labels count unless they are plain classes."""
    shared: dict[str, int] = field(default_factory=dict)
    """Number of values in parts that several sets share or that are not learned, such as a frozen generator."""
    bits: dict[str, int] = field(default_factory=dict)
    """Bits per value of the parts that are not stored as 32-bit floats."""

    @property
    def total(self) -> int:
        """32-bit floats of all parts except shared ones: a part with fewer bits counts as fewer floats."""
        return sum(-(-n * self._bits(part) // FLOAT_BITS) for part, n in self.floats.items())

    @property
    def bytes(self) -> int:
        """Bytes of all parts except shared ones."""
        return sum(-(-n * self._bits(part) // 8) for part, n in self.floats.items())

    @property
    def pixels(self) -> int:
        """Values of real images in the same bits, each stored as finely as the set stores its own: with 8 bits if it
        has a part in 8 bits."""
        bits = sum(n * self._bits(part) for part, n in self.floats.items())
        return bits // min(map(self._bits, self.floats), default=FLOAT_BITS)

    def bits_per_class(self, classes: int) -> float:
        """Bits of all parts per class, as DD-RUO counts budgets."""
        return sum(n * self._bits(part) for part, n in self.floats.items()) / classes

    def _bits(self, part: str) -> int:
        return self.bits.get(part, FLOAT_BITS)


class Synthetic(nn.Module):
    """Base of every synthetic set; a new one is one file with a subclass that names its kind.

        class Pixels(Synthetic, kind="pixels"): ...

    It must not depend on the Objective. The objective, the judge, the exporter, the cost estimate and the pictures use
    only what is declared here. An item is one training image of a pass; it is virtual if images are cut or generated.
    """

    kinds: dict[str, type["Synthetic"]] = {}
    classes: int
    remade: bool = False
    """Whether batches are always made again on the way back, since keeping what made them takes much memory."""

    def __init_subclass__(cls, kind: str = "", **more):
        super().__init_subclass__(**more)
        if kind:
            Synthetic.kinds[kind] = cls

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: SyntheticBase, context: Context) -> Self:
        """The initial set. Raises what blank() and check() raise, and RecipeError when experts are missing."""
        raise NotImplementedError

    @classmethod
    def blank(cls, settings: SyntheticBase, context: Context) -> Self:
        """A set with the recipe's shapes and arbitrary values: quick, and needs no experts."""
        return cls.build(settings, context)

    @classmethod
    def check(cls, settings: SyntheticBase, context: Context) -> None:
        """Raise the errors of build() that can be found quickly and without experts."""
        cls.blank(settings, context)

    @classmethod
    def restore(cls, settings: SyntheticBase, context: Context, state: dict[str, Tensor]) -> Self:
        """The set whose learned_state() was `state`."""
        restored = cls.blank(settings, context)
        restored.load_learned_state(state)
        return restored

    @classmethod
    def sized(cls, settings: SyntheticBase, context: Context, floats: int) -> SyntheticBase:
        """The settings with the size whose budget() comes closest to `floats` without exceeding it.

        The default changes the whole number `ipc`, with which the budget grows evenly; settings without one stay as
        they are. A kind whose size is another setting overrides this. Raises RecipeError if its smallest set is larger.
        """

        def total(settings: SyntheticBase) -> int:
            return cls.blank(settings, context).budget().total

        if isinstance(getattr(settings, "ipc", None), int):
            one, two = (total(settings.model_copy(update={"ipc": n})) for n in (1, 2))
            n = 1 + max(0, floats - one) // max(1, two - one)
            while n > 1 and total(settings.model_copy(update={"ipc": n})) > floats:  # budgets in bits are rounded up
                n -= 1
            settings = settings.model_copy(update={"ipc": n})
        if (least := total(settings)) > floats:
            raise too_large(context, least, floats)
        return settings

    # ------------------------------------------------------------ training images

    def __len__(self) -> int:
        """Number of items in one pass."""
        raise NotImplementedError

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Images (b, c, h, w) of the items `index` (b,). All randomness comes from the generator."""
        raise NotImplementedError

    def labels(self, index: Tensor) -> Tensor:
        """Label probabilities (b, classes) of the items `index` (b,)."""
        raise NotImplementedError

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images and labels of the items `index`."""
        return self.images(index, generator), self.labels(index)

    def sampled(self, settings: Sampling, generator: torch.Generator) -> "Synthetic":
        """The set that one network is trained on: itself, or a fixed one drawn from it."""
        return self

    # ------------------------------------------------------------ learning

    def parameter_groups(self, outer: Outer) -> list[Group]:
        """The parameters that the outer optimisers update."""
        return [Group([p for p in self.parameters() if p.requires_grad], outer.lr_img)]

    def penalty(self, step: int, generator: torch.Generator) -> Tensor | float:
        """A loss term of the set itself, added once per outer step."""
        return 0.0

    def project(self) -> None:
        """Project parameters back into their allowed range, after each outer step."""

    def learned_state(self) -> dict[str, Tensor]:
        """The state that checkpoints and the best set store: everything that blank() cannot reconstruct."""
        return self.state_dict()

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Load a state returned by learned_state() or published_state()."""
        self.load_state_dict(state)

    def published_state(self) -> dict[str, Tensor]:
        """The state that a published set contains: learned_state() less what only learning on would need."""
        return self.learned_state()

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        """What a user must store to train on this set."""
        raise NotImplementedError

    def stored(self) -> Stored:
        """The published form, without gradients."""
        index = torch.arange(len(self))
        with torch.no_grad():
            x, y = self.batch(index, torch.Generator().manual_seed(0))
        return Images(x.detach(), y.detach())

    def describe(self) -> str:
        """The set in one line."""
        return f"{len(self)} training images"

    def measures(self, preprocess: Preprocess) -> dict[str, float]:
        """Figures of the set's own that are worth a curve, logged with its pictures."""
        return {}

    def pictures(self, preprocess: Preprocess, classes: tuple[str, ...]) -> dict[str, Image.Image]:
        """Pictures of the set by name; `synthetic` is the main one."""
        stored = self.stored()
        return {"synthetic": sheet(preprocess.to_pixels(stored.images()), stored.y, classes)}


def learned_of(synthetic: Synthetic) -> list[nn.Parameter]:
    """The learned parameters of a set: the leaves that receive gradients."""
    return [p for p in synthetic.parameters() if p.requires_grad]


def too_large(context: Context, least: int, floats: int, hint: str = "") -> RecipeError:
    """The error of sized() for a set that has at least `least` floats."""
    image = math.prod(context.data.shape) * context.classes
    return RecipeError(
        f"synthetic: the smallest {context.recipe.synthetic.kind} has {least:,} floats, {least / image:.3g} images per "
        f"class, more than the budget of {floats:,}, {floats / image:.3g} per class: raise the budget{hint}"
    )
