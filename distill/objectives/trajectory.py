"""Trajectory matching: a student trained on the synthetic set should reach the expert's parameters M epochs later.

Cazenavette et al. 2022 (MTT), algorithm 1 and equation 3. L1 distance: Generative Dataset Distillation, section 3.
Pruning of parameters that are hard to match: Li et al. 2022.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.engine.batches import Batches, Stacked
from distill.engine.compiling import engine
from distill.engine.inner import SGD
from distill.engine.unroll import Unroll
from distill.objectives import base
from distill.objectives.base import Inner, Work
from distill.synthetic.base import Group, Synthetic, learned_of

LEAST_LR = 1e-6
"""Lower bound of the student's learning rate; in the published code it can become negative."""


class Objective(base.Objective):
    def __init__(self, settings: recipe.Trajectory, context: Context):
        super().__init__(settings, context)
        self.lr = nn.Parameter(torch.tensor(settings.lr_teacher), requires_grad=settings.lr_lr > 0)
        self.unroll: Unroll | None = None

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        if self.unroll is None:
            self.unroll = engine(self.context, self.work(synthetic))
        upcoming = [self._segment(step + 1, s) for s in segments]  # read from the store while this step computes
        self.context.experts.prefetch([(expert, epoch) for expert, *ends in upcoming for epoch in ends])
        if len(segments) > 1 and self._vectorized:
            return self._distances(synthetic, step, segments).sum() / self.segments
        return sum(self._distances(synthetic, step, [s]).sum() for s in segments) / self.segments

    def work(self, synthetic: Synthetic) -> Work:
        o, segments = self.settings, self.segments_per_worker
        inner = Inner(
            min(o.batch_syn or len(synthetic), len(synthetic)),
            o.syn_steps,
            optimizer=SGD(),
            augment=o.augment,
            side_by_side=segments if self._vectorized else 1,
        )
        return Work(segments, inner)

    def parameter_groups(self) -> list[Group]:
        return [Group([self.lr], self.settings.lr_lr)] if self.lr.requires_grad else []

    def after_step(self, synthetic: Synthetic, step: int) -> None:
        with torch.no_grad():
            self.lr.clamp_(min=LEAST_LR)

    def metrics(self) -> dict[str, float]:
        return {"student_lr": self.lr.item()}

    @property
    def student_lr(self) -> float:
        return self.lr.item()

    def _distances(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        """Normalised distance (s,) between student and expert at the end of each segment."""
        o, c = self.settings, self.context
        drawn = [self._segment(step, s) for s in segments]
        start = torch.stack([c.experts.snapshot(expert, epoch) for expert, epoch, _ in drawn]).to(c.device)
        target = torch.stack([c.experts.snapshot(expert, epoch) for expert, _, epoch in drawn]).to(c.device)
        batches = [Batches(synthetic, o.batch_syn, o.augment, c.seed, ("student", step, s)) for s in segments]
        one = len(batches) == 1
        theta = self.unroll(
            start[0] if one else start,
            self.lr,
            batches[0] if one else Stacked(batches),
            o.syn_steps,
            learned_of(synthetic),
        )
        return self._normalised(theta.view_as(start), start, target)

    def _normalised(self, student: Tensor, start: Tensor, target: Tensor) -> Tensor:
        """Equation 3: the distance from student to target, divided by that from start to target."""
        near, far = student - target, start - target
        if self.settings.prune:
            kept = near.detach().abs() <= self.settings.prune
            near, far = near * kept, far * kept
        size = torch.abs if self.settings.distance == "l1" else torch.square
        # `far` can be zero: pruning may leave no parameter, and an expert may stop changing
        return size(near).sum(1) / size(far).sum(1).clamp(min=torch.finfo(far.dtype).tiny)

    def _segment(self, step: int, segment: int) -> tuple[int, int, int]:
        """(expert, start epoch, target epoch) of one term of one outer step."""
        o = self.settings
        g = rng.generator(self.context.seed, "segment", step, segment)
        expert = int(torch.randint(self.context.recipe.experts.count, (), generator=g))
        below = o.max_start_epoch
        if o.widen_from and step < o.widen_steps:  # DATM: late, hard segments come late in the run
            below = o.widen_from + (o.max_start_epoch - o.widen_from) * step // o.widen_steps
        starts = o.start_epochs(self.context.experts.epochs, below)
        start = starts[int(torch.randint(len(starts), (), generator=g))]
        return expert, start, start + o.expert_epochs

    @property
    def _vectorized(self) -> bool:
        choice = self.settings.engine.vectorize
        return choice == "on" or (choice == "auto" and self.context.device.type == "cuda")
