"""What a synthetic set is asked to do. An Objective gives a loss whose gradients reach the synthetic parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from distill.context import Context
from distill.engine.inner import Optimizer
from distill.recipe import Augment, ObjectiveBase
from distill.synthetic.base import Group, Synthetic


@dataclass(frozen=True)
class Inner:
    """Training of a student on the set inside an outer step."""

    images: int
    """Synthetic images per step."""
    differentiated: int
    """Steps that are differentiated."""
    plain: float = 0.0
    """Steps before them, on average."""
    optimizer: Optimizer = field(kw_only=True)
    augment: Augment = field(kw_only=True)
    side_by_side: int = 1
    """Students trained in one batched computation."""


@dataclass(frozen=True)
class Pass:
    """Images that go through a network once, outside of inner training."""

    images: int
    chunk: int = 0
    """Images of one forward pass (0: all)."""
    gradient: bool = False
    """Whether it is differentiated, by the parameters or by the images."""
    waits: bool = False
    """Whether its graph waits for the backward pass of the whole outer step."""
    features: bool = False
    """Up to the features, without the last layer."""


@dataclass(frozen=True)
class Work:
    """What one worker computes in one outer step: the one truth for engine, memory and time estimate."""

    segments: int
    """Terms, each of which does all of the following."""
    inner: Inner | None = None
    passes: tuple[Pass, ...] = ()


class Objective(nn.Module):
    """Base of every objective; a new one is one file with a class named `Objective` that takes (settings, context).

    It never asks which Synthetic it was given. Its own learned values are parameters, what it must remember between
    steps are buffers; both are in the checkpoint.
    """

    def __init__(self, settings: ObjectiveBase, context: Context):
        super().__init__()
        self.settings, self.context = settings, context

    @property
    def segments(self) -> int:
        """Independent terms of each outer step's loss, which workers share between them."""
        return self.settings.segments

    @property
    def segments_per_worker(self) -> int:
        """Terms that each worker computes."""
        return self.segments // self.context.recipe.outer.workers

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        """Sum of the terms numbered `segments` of outer step `step`, divided by the number of all terms."""
        raise NotImplementedError

    def work(self, synthetic: Synthetic) -> Work:
        """What loss() computes for one worker's share."""
        raise NotImplementedError

    def parameter_groups(self) -> list[Group]:
        """What the outer optimisers move besides the set."""
        return []

    def after_backward(self, parameters: list[nn.Parameter]) -> None:
        """Change gradients, already summed over workers, before the outer optimisers use them."""

    def after_step(self, synthetic: Synthetic, step: int) -> None:
        """What follows an outer step: keep own parameters in their range, train a network on the updated set."""

    def metrics(self) -> dict[str, float]:
        """Figures worth a curve besides the loss."""
        return {}

    @property
    def student_lr(self) -> float | None:
        """The learned rate at which students train on the set, if there is one."""
        return None
