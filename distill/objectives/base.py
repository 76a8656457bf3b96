"""What a synthetic set is asked to do. An Objective gives a loss whose gradients reach the synthetic parameters."""

from collections.abc import Sequence

from torch import Tensor, nn

from distill.context import Context
from distill.synthetic.base import Synthetic


class Objective(nn.Module):
    """Base of every objective; a new one is one file with a class named `Objective` that takes (settings, context).

    It never asks which Synthetic it was given. Its own learned values are parameters, what it must remember between
    steps are buffers; both are in the checkpoint.
    """

    needs_experts = False

    def __init__(self, settings, context: Context):
        super().__init__()
        self.settings, self.context = settings, context

    @property
    def segments(self) -> int:
        """Independent terms of each outer step's loss, which workers share between them."""
        return getattr(self.settings, "segments", 1)

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        """Sum of the terms numbered `segments` of outer step `step`, divided by the number of all terms."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict]:
        """Groups for the outer optimiser."""
        return []

    def after_backward(self, parameters: list[nn.Parameter]) -> None:
        """Change gradients, already summed over workers, before the outer optimiser uses them."""

    def project(self) -> None:
        """Bring the objective's own parameters back to where they are allowed, after each outer step."""

    def metrics(self) -> dict[str, float]:
        """Figures worth a curve besides the loss."""
        return {}

    @property
    def milestone(self) -> int | None:
        """An outer step before which the run may have to wait for something, and is saved therefore; None if none."""
        return None

    @property
    def student_lr(self) -> float | None:
        """The learned rate at which students train on the set, if there is one."""
        return None


def learned_of(synthetic: Synthetic) -> list[nn.Parameter]:
    """The leaves that gradients go to."""
    return [p for p in synthetic.parameters() if p.requires_grad]
