"""How far training on a distilled set follows training on real data, in parameter space.

Cazenavette et al. 2022 (MTT), figure 5, right: a student starts from an expert's parameters at epoch t and takes many
steps on the set; for several M, this measures the least distance to the expert's parameters at epoch t + M. Distances
are those of equation 2, ||theta - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2: 1 is no closer than the start.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill import objectives
from distill.context import Context
from distill.engine.batches import Batches
from distill.engine.inner import SGD, InnerStep
from distill.errors import TrajectoryError
from distill.synthetic.base import Synthetic


@dataclass(frozen=True)
class Reach:
    """Least distances to expert targets; row e is expert e."""

    ahead: list[int]
    """Expert epochs M from start to target."""
    closest: Tensor
    """(experts, targets): minimum of the normalised squared distance over all student steps."""
    at: Tensor
    """(experts, targets): the student step of that minimum; 0 is the start."""

    @property
    def mean(self) -> Tensor:
        """(targets,) over experts."""
        return self.closest.mean(0)


def reach(
    context: Context, synthetic: Synthetic, lr: float, steps: int, ahead: list[int], start: int = 0, experts: int = 3
) -> Reach:
    """Train students for `steps` steps on a set at rate `lr`, from the first `experts` experts at epoch `start`.

    `context` has the experts. Batches and augmentation are those of the objective's inner training, or, if it has none,
    the whole set with the augmentation of the evaluation. Raises TrajectoryError if a target is beyond the last epoch.
    """
    last = context.experts.epochs[-1]
    if start + max(ahead) > last:
        raise TrajectoryError(f"epoch {start} + {max(ahead)} is beyond the {last} epochs of these experts: lower one")
    count = min(experts, context.experts.count)
    rows = [_closest(context, synthetic, lr, steps, ahead, start, expert) for expert in range(count)]
    return Reach(ahead, torch.stack([distance for distance, _ in rows]), torch.stack([step for _, step in rows]))


def _closest(
    context: Context, synthetic: Synthetic, lr: float, steps: int, ahead: list[int], start: int, expert: int
) -> tuple[Tensor, Tensor]:
    """Least distance (targets,) of one student to each target, and its step (targets,)."""
    theta = context.experts.snapshot(expert, start).to(context.device)
    targets = torch.stack([context.experts.snapshot(expert, start + m) for m in ahead]).to(context.device)  # (m, p)
    whole = (theta - targets).square().sum(1)
    closest, at = torch.ones_like(whole), torch.zeros_like(whole, dtype=torch.int64)
    step, rate = InnerStep(context.network, SGD()), torch.tensor(lr, device=context.device)
    batches = _batches(context, synthetic, expert)
    state = step.optimizer.start(theta)
    with torch.no_grad():
        for i in range(steps):
            state = step.forward(state, *batches(i), rate, i)
            distance = (state[0] - targets).square().sum(1) / whole
            nearer = distance < closest
            closest, at = torch.where(nearer, distance, closest), torch.where(nearer, i + 1, at)
    return closest.cpu(), at.cpu()


def _batches(context: Context, synthetic: Synthetic, expert: int) -> Batches:
    inner = objectives.build(context).work(synthetic).inner
    augment = inner.augment if inner else context.recipe.evaluation.augment
    size = inner.images if inner and inner.images < len(synthetic) else 0
    return Batches(synthetic, size, augment, context.seed, ("reach", expert))
