"""The outer loop: the same for every Synthetic and every Objective.

Each step: loss of the objective, gradients summed over workers, one step of the outer optimiser. Every so often the set
is judged on the held-out part; the best one is what is published. A checkpoint holds all of it, and a loop that starts
from a checkpoint makes the same bytes as one that was never stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor, nn

from distill import objectives, synthetic
from distill.checkpoint import Checkpoint, pack, pack_optimizer, unpack, unpack_optimizer
from distill.context import Context
from distill.errors import DivergedError
from distill.evaluate import Judge, Score
from distill.recipe import Outer


class Watcher:
    """What the loop tells whoever watches; the application adds progress, tracking and storage here."""

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Outer step `step` is done (counted from 1)."""

    def judged(self, step: int, score: Score, best: bool) -> None:
        """The set after `step` steps was scored on the part that selects."""

    def picture(self, step: int, pictures: dict[str, Image.Image]) -> None:
        """What the set looks like after `step` steps, by name."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep this checkpoint."""

    def last_saved(self) -> str:
        """Name of the last good checkpoint, for errors."""
        return "none"


@dataclass
class Best:
    """The set that did best on the part that selects."""

    step: int = -1
    score: float = -1.0
    state: dict[str, Tensor] = field(default_factory=dict)
    student_lr: float | None = None


class Loop:
    """One run. `rank` and `world` say which of the segments are this worker's; `reduce` sums a tensor over workers.

    `wait` returns when every worker has called it: rank 0 judges while the others wait, however long that takes.
    """

    def __init__(
        self,
        context: Context,
        watcher: Watcher,
        rank: int = 0,
        world: int = 1,
        reduce: Callable[[Tensor], None] = lambda tensor: None,
        wait: Callable[[], None] = lambda: None,
    ):
        self.context, self.watcher, self.rank, self.reduce, self.wait = context, watcher, rank, reduce, wait
        self.synthetic = synthetic.build(context)
        self.objective = objectives.build(context)
        groups = self.synthetic.parameter_groups(context.recipe.outer) + self.objective.parameter_groups()
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = _optimizer(groups, context.recipe.outer)
        self.segments = range(rank, self.objective.segments, world)
        self.judge = Judge(context)
        self.best = Best()
        self.done = 0

    def run(self) -> Best:
        """Go on to the last step; returns the selected set. Raises DivergedError on NaN or Inf."""
        outer = self.context.recipe.outer
        if self.done == 0:
            self._judge_and_show(force=True)
        while self.done < outer.steps:
            metrics = self._step()
            self.done += 1
            self.watcher.step(self.done, metrics)
            last = self.done == outer.steps
            self._judge_and_show(force=last)
            due = last or self.done % outer.checkpoint_every == 0 or self.done == self.objective.milestone
            if self.rank == 0 and due:
                self.watcher.save(self.checkpoint())
        return self.best

    def _step(self) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=False)
        for p in self.parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        loss = self.objective.loss(self.synthetic, self.done, self.segments)
        loss.backward()
        total = loss.detach().clone()
        for tensor in (total, *(p.grad for p in self.parameters)):
            self.reduce(tensor)
        self.objective.after_backward(self.parameters)
        self.optimizer.step()
        self.synthetic.project()
        self.objective.project()
        self._refuse_nan(total)
        return {"loss": total.item(), **self.objective.metrics()}

    def _refuse_nan(self, loss: Tensor) -> None:
        named = {"loss": loss, **dict(self.synthetic.named_parameters()), **dict(self.objective.named_parameters())}
        bad = [name for name, t in named.items() if not torch.isfinite(t).all()]
        if bad:
            raise DivergedError(
                f"NaN or Inf in {', '.join(bad)} at step {self.done + 1}; last good checkpoint: "
                f"{self.watcher.last_saved()}. Lower outer.lr_img or the learning rate's own step size"
            )

    def _judge_and_show(self, force: bool) -> None:
        outer, e, c = self.context.recipe.outer, self.context.recipe.evaluation, self.context
        due = force or self.done % outer.evaluate_every == 0
        if self.rank != 0:
            return self.wait() if due else None
        if force or self.done % outer.picture_every == 0:
            self.watcher.picture(self.done, self.synthetic.pictures(c.data.to_pixels, c.data.classes))
        if due:
            split = c.data.validation if e.selection == "validation" else c.data.test
            score = self.judge.score(self.synthetic, self.rate, split, e.selection_networks, "selection", self.done)
            better = score.mean > self.best.score
            if better:
                self.best = Best(self.done, score.mean, _copy(self.synthetic), self.objective.student_lr)
            self.watcher.judged(self.done, score, better)
            self.wait()

    @property
    def rate(self) -> float:
        """The rate at which networks train on the set."""
        return self.objective.student_lr or self.context.recipe.evaluation.lr

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on."""
        tensors = (
            pack("synthetic", self.synthetic.state_dict())
            | pack("objective", self.objective.state_dict())
            | pack_optimizer(self.optimizer)
            | pack("best", self.best.state)
        )
        notes = {"best_step": self.best.step, "best_score": self.best.score, "best_lr": self.best.student_lr}
        return Checkpoint(self.done, self.context.run_id, tensors, notes)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up where the checkpoint was made."""
        t, notes = checkpoint.tensors, checkpoint.notes
        self.synthetic.load_state_dict(unpack("synthetic", t))
        self.objective.load_state_dict(unpack("objective", t))
        unpack_optimizer(self.optimizer, t)
        self.best = Best(notes["best_step"], notes["best_score"], unpack("best", t), notes["best_lr"])
        self.done = checkpoint.step


def _optimizer(groups: list[dict], outer: Outer) -> torch.optim.Optimizer:
    if outer.optimizer == "adam":
        return torch.optim.Adam(groups, lr=outer.lr_img)
    return torch.optim.SGD(groups, lr=outer.lr_img, momentum=outer.momentum)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
