"""What a synthetic set is optimised for. An Objective gives a loss whose gradients reach the synthetic parameters."""

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
    """Steps that are differentiated, at the end of the training."""
    plain: float = 0.0
    """Mean number of steps before those."""
    optimizer: Optimizer = field(kw_only=True)
    augment: Augment = field(kw_only=True)
    side_by_side: int = 1
    """Students trained in one batched computation."""


@dataclass(frozen=True)
class Pass:
    """Images that pass through a network once, outside of inner training."""

    images: int
    chunk: int = 0
    """Images per forward pass (0: all)."""
    gradient: bool = False
    """Whether it is differentiated with respect to the parameters or the images."""
    waits: bool = False
    """Whether its graph is kept for the backward pass of the whole outer step."""
    features: bool = False
    """Whether it ends at the features, without the last layer."""
    second_order: bool = False
    """Whether a function of the gradient is differentiated with respect to the images."""


@dataclass(frozen=True)
class Work:
    """What one worker computes in one outer step; the engine and the estimates of memory and time all read it."""

    segments: int
    """Terms of the loss; each of them computes `inner` and `passes`."""
    inner: Inner | None = None
    passes: tuple[Pass, ...] = ()
    values: int = 0
    """Values, besides those of networks, that each segment keeps until the backward pass."""

    @property
    def images(self) -> float:
        """Images that pass through networks, each pass of one counted."""
        i = self.inner
        trained = i.images * (i.differentiated + i.plain) * i.side_by_side if i else 0
        return self.segments * (trained + sum(p.images for p in self.passes))


class Objective(nn.Module):
    """Base of every objective; a new one is one file with a class named `Objective` that takes (settings, context).

    It must not depend on the kind of Synthetic. Its own learned values are parameters, its state between steps is in
    buffers; checkpoints contain both.
    """

    def __init__(self, settings: ObjectiveBase, context: Context):
        super().__init__()
        self.settings, self.context = settings, context

    @property
    def segments(self) -> int:
        """Independent terms in the loss of each outer step, divided among the workers."""
        return self.settings.segments

    @property
    def segments_per_worker(self) -> int:
        """Terms that each worker computes, at most."""
        least, _ = self.context.recipe.outer.worker_range
        return -(-self.segments // least)

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        """Sum of the terms `segments` of outer step `step`, divided by the number of all terms."""
        raise NotImplementedError

    def work(self, synthetic: Synthetic) -> Work:
        """What loss() computes for one worker's share."""
        raise NotImplementedError

    def parameter_groups(self) -> list[Group]:
        """Parameters that the outer optimisers update in addition to those of the set."""
        return []

    def after_backward(self, parameters: list[nn.Parameter]) -> None:
        """Modify gradients, already summed over workers, before the outer optimisers use them."""

    def after_step(self, synthetic: Synthetic, step: int) -> None:
        """Called after each outer step, to project own parameters or train a network on the updated set."""

    def per_worker(self) -> list[Tensor]:
        """Buffers that each worker fills for its own segments, zero elsewhere; summed over workers after each step."""
        return []

    def metrics(self) -> dict[str, float]:
        """Metrics to log besides the loss."""
        return {}

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam, if the outer optimiser is Adam."""
    ema: float = 0.0
    """Decay, per step, of the moving average of the set that is judged, shown and published; 0: the set itself."""

    @property
    def student_lr(self) -> float | None:
        """The learned learning rate of students, if there is one."""
        return None
