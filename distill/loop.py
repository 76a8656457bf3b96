"""The outer loop: the same for every Synthetic and every Objective.

Each step: loss of the objective, gradients summed over workers, one step of the outer optimisers. At intervals the set
is evaluated on held-out images, and the best one is published. A checkpoint contains the whole state: a loop that
resumes from one gives the same bytes as a loop that was never interrupted.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from distill import objectives, rng, synthetic
from distill.checkpoint import Checkpoint, pack, pack_optimizers, unpack, unpack_optimizers
from distill.context import Context
from distill.errors import DivergedError, StopRequested
from distill.evaluate import Judge, Score
from distill.published import Published
from distill.recipe import Outer
from distill.synthetic import Group, learned_of


class Watcher:
    """Callbacks of the loop; the application implements progress, tracking and storage with them."""

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Outer step `step` (counted from 1) is done."""

    def judged(self, step: int, score: Score, best: bool) -> None:
        """The set after `step` steps was scored on the images that select."""

    def measured(self, step: int, measures: dict[str, float]) -> None:
        """Figures of the set's own after `step` steps."""

    def picture(self, step: int, pictures: dict[str, Image.Image]) -> None:
        """Pictures of the set after `step` steps, by name."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Store this checkpoint."""

    def stopping(self) -> bool:
        """Whether to save now and stop. Asked after every step, of the first worker alone."""
        return False

    def last_saved(self) -> str:
        """Name of the last saved checkpoint, for error messages."""
        return "none"


@dataclass
class Best:
    """The set with the best score on the images that select."""

    step: int = -1
    score: float = -1.0
    state: dict[str, Tensor] = field(default_factory=dict)
    student_lr: float | None = None


LATE = 0.05
"""Part of the time given by which the final judgement may be late before it makes do with fewer networks."""
SAVE_SECONDS = 120.0
"""Time without a checkpoint after which one is made, so that slow steps are not lost by the hundred."""


class Loop:
    """One run. `rank` and `world` determine which segments this worker computes.

    `reduce` sums a tensor over workers. `wait` is a barrier for all workers without a timeout: the first worker
    evaluates before it calls it. `deadline` is the time (time.monotonic()) by which the set must be published: run()
    ends before the last step if the final judgement would come too late.
    """

    def __init__(
        self,
        context: Context,
        watcher: Watcher,
        rank: int = 0,
        world: int = 1,
        reduce: Callable[[Tensor], None] = lambda tensor: None,
        wait: Callable[[], None] = lambda: None,
        deadline: float | None = None,
    ):
        self.context, self.watcher, self.rank, self.reduce, self.wait = context, watcher, rank, reduce, wait
        self.synthetic = synthetic.build(context)
        self.objective = objectives.build(context)
        groups = self.synthetic.parameter_groups(context.recipe.outer) + self.objective.parameter_groups()
        self.parameters = [p for group in groups for p in group.params]
        self.optimizers = _optimizers(groups, context.recipe.outer, self.objective.betas)
        self.average = [p.detach().clone() for p in learned_of(self.synthetic)] if self.objective.ema else []
        self.segments = range(rank, self.objective.segments, world)
        self.judge = Judge(context)
        self.best = Best()
        self.end: Best | None = None
        self.done = 0
        self.judged = -1
        self.saved_at = time.monotonic()
        self.deadline, self.judging_seconds = deadline, 0.0
        now = time.monotonic()
        self.at_last = math.inf if deadline is None else deadline + LATE * max(0.0, deadline - now)

    def run(self) -> Best:
        """Continue to the last step, or to the deadline; returns the selected set.

        After a deadline `context` is that of the run with as many steps as were done, and the last checkpoint is that
        of the longer one. Raises DivergedError on NaN or Inf, StopRequested after a checkpoint that the watcher asked
        for.
        """
        outer = self.context.recipe.outer
        if self.done == 0:
            self._show_and_judge()
        elif self.deadline is not None and self.done < outer.steps:
            self._time_a_judgement()
        while self.done < outer.steps:
            if self.done and self._late():
                self._stop()
                break
            metrics = self.step()
            self.done += 1
            self.watcher.step(self.done, metrics)
            self._show_and_judge()
            stopping = self.rank == 0 and self.watcher.stopping()
            if self.rank == 0 and (stopping or self._due()):
                self.watcher.save(self.checkpoint())
                self.saved_at = time.monotonic()
            if stopping and self.done < outer.steps:
                raise StopRequested(f"step {self.done}")
        if self.judged != self.done:  # after the last checkpoint: a longer run would not judge here
            self._judge(end=True)
        return self.selected

    def _due(self) -> bool:
        """Whether a checkpoint is to be made now, by the steps done or by the time since the last one."""
        outer = self.context.recipe.outer
        by_steps = self.done == outer.steps or self.done % outer.checkpoint_every == 0
        return by_steps or time.monotonic() - self.saved_at > SAVE_SECONDS

    def _late(self) -> bool:
        """Whether a step, a judgement and the final one may end after the deadline; the same on all workers."""
        if self.deadline is None:
            return False
        e = self.context.recipe.evaluation
        rest = self.judging_seconds * (1 + e.networks / e.selection_networks)
        late = self.rank == 0 and time.monotonic() + rest > self.deadline
        late = torch.tensor(float(late), device=self.context.device)
        self.reduce(late)
        return late.item() > 0

    def _stop(self) -> None:
        """End the run here: its recipe takes the steps that were done."""
        if self.rank == 0 and self.done % self.context.recipe.outer.checkpoint_every:
            self.watcher.save(self.checkpoint())
        recipe = self.context.recipe
        outer = recipe.outer.model_copy(update={"steps": self.done})
        self.context = replace(self.context, recipe=recipe.model_copy(update={"outer": outer}))

    def step(self) -> dict[str, float]:
        """One outer step; returns its metrics."""
        for p in self.parameters:  # never None: every worker must reduce the same tensors
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.zero_()
        loss = self.objective.loss(self.synthetic, self.done, self.segments)
        if self.rank == 0:  # added once: gradients are summed over workers
            loss = loss + self.synthetic.penalty(self.done, rng.generator(self.context.seed, "penalty", self.done))
        loss.backward()
        total = loss.detach().clone()
        for tensor in (total, *(p.grad for p in self.parameters)):
            self.reduce(tensor)
        self.objective.after_backward(self.parameters)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.synthetic.project()
        decay = min(self.objective.ema, (1 + self.done) / (10 + self.done))  # soon forgets what it started from
        for average, p in zip(self.average, learned_of(self.synthetic) if self.average else [], strict=True):
            average.lerp_(p.detach(), 1 - decay)
        self.objective.after_step(self.synthetic, self.done)
        for tensor in self.objective.per_worker():
            self.reduce(tensor)
        self._refuse_nan(total)
        return {"loss": total.item(), **self.objective.metrics()}

    def _refuse_nan(self, loss: Tensor) -> None:
        named = {"loss": loss, **dict(self.synthetic.named_parameters()), **dict(self.objective.named_parameters())}
        bad = [name for name, t in named.items() if not torch.isfinite(t).all()]
        if bad:
            raise DivergedError(
                f"NaN or Inf in {', '.join(bad)} at step {self.done + 1}; last good checkpoint: "
                f"{self.watcher.last_saved()}. Lower outer.lr_img, or objective.lr_lr if the learning rate is learned"
            )

    def _show_and_judge(self) -> None:
        """What the recipe asks for after this many steps."""
        outer, data = self.context.recipe.outer, self.context.data
        if self.rank == 0 and (self.done == outer.steps or self.done % outer.picture_every == 0):
            with self._averaged():
                self.watcher.picture(self.done, self.synthetic.pictures(data.preprocess, data.classes))
                self.watcher.measured(self.done, self.synthetic.measures(data.preprocess))
        if self.done % outer.evaluate_every == 0:
            self._judge()
        elif outer.brief_every and self.done < outer.steps and self.done % outer.brief_every == 0:
            self._judge(end=True)

    def _judge(self, end: bool = False) -> None:
        """Judge the set as it is now, on rank 0 while the others wait, and keep it if it is the best so far.

        At the `end` of a run between two scheduled judgements, and on the way of one that is shorter than the time to
        the first, the result is no part of the state of a longer run, which continues as if it had not been judged.
        """
        self.judged = self.done
        if self.rank == 0:
            best, score = self._better()
            if end:
                self.end = best
            else:
                self.best = best
            self.watcher.judged(self.done, score, best.step == self.done)
        self.wait()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The set is its moving average while the block runs, if the objective has one."""
        own = learned_of(self.synthetic) if self.average else []
        before = [p.detach().clone() for p in own]
        _set(own, self.average)
        try:
            yield
        finally:
            _set(own, before)

    def _better(self) -> tuple[Best, Score]:
        """The better of the best set so far and the set as it is now, and the score of the latter."""
        best = self.selected
        with self._averaged():
            score = self._score()
            if score.mean > best.score:
                state = {name: t.detach().cpu().clone() for name, t in self.synthetic.learned_state().items()}
                best = Best(self.done, score.mean, state, self.objective.student_lr)
        return best, score

    def _score(self) -> Score:
        """The score by which sets are chosen, of the set as it is now, timed."""
        e, data, started = self.context.recipe.evaluation, self.context.data, time.monotonic()
        split = data.validation if e.selection == "validation" else data.test
        score = self.judge.score(self.synthetic, self.rate, split, e.selection_networks, "selection", self.done)
        self.judging_seconds = time.monotonic() - started  # the first may include the compiler
        return score

    def _time_a_judgement(self) -> None:
        """Judge once for the time it takes: a run that is continued up to a deadline must know it from its start."""
        if self.rank == 0:
            with self._averaged():
                self._score()
        self.wait()

    @property
    def selected(self) -> Best:
        """The set that is published: the best of those that were judged."""
        return self.end or self.best

    @property
    def rate(self) -> float:
        """The learning rate at which networks train on the set."""
        return self.objective.student_lr or self.context.recipe.evaluation.lr

    def published(self) -> Published:
        """The best set, ready to publish; this also loads its state into the loop's set."""
        self.synthetic.load_learned_state(self.selected.state)
        data, stored = self.context.data, self.synthetic.stored().cpu()
        state = {name: t.detach().cpu().clone() for name, t in self.synthetic.published_state().items()}
        return Published(
            stored=stored,
            classes=data.classes,
            preprocess=data.preprocess,
            lr=self.selected.student_lr,
            recipe=self.context.recipe.model_dump(mode="json"),
            step=self.selected.step,
            state=state,
            shown=stored.shown(data.preprocess.to_pixels),
            data=data.parts,
            pictures=self.synthetic.pictures(data.preprocess, data.classes),
        )

    def checkpoint(self) -> Checkpoint:
        """Everything needed to resume."""
        tensors = (
            pack("synthetic", self.synthetic.learned_state())
            | pack("objective", self.objective.state_dict())
            | pack_optimizers(self.optimizers)
            | pack("best", self.best.state)
            | pack("average", {str(i): t for i, t in enumerate(self.average)})
        )
        notes = {"best_step": self.best.step, "best_score": self.best.score, "best_lr": self.best.student_lr}
        if self.end:
            tensors |= pack("end", self.end.state)
            notes |= {"end_step": self.end.step, "end_score": self.end.score, "end_lr": self.end.student_lr}
        return Checkpoint(self.done, self.context.run_id, tensors, notes)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint."""
        t, notes = checkpoint.tensors, checkpoint.notes
        self.synthetic.load_learned_state(unpack("synthetic", t))
        self.objective.load_state_dict(unpack("objective", t))
        unpack_optimizers(self.optimizers, t)
        _set(self.average, [unpack("average", t)[str(i)] for i in range(len(self.average))])
        self.best = Best(notes["best_step"], notes["best_score"], unpack("best", t), notes["best_lr"])
        if "end_step" in notes and checkpoint.run_id == self.context.run_id:
            self.end = Best(notes["end_step"], notes["end_score"], unpack("end", t), notes["end_lr"])
        self.done = checkpoint.step
        if self.done % self.context.recipe.outer.evaluate_every == 0:
            self.judged = self.done  # before it was saved


@torch.no_grad()
def _set(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _optimizers(groups: list[Group], outer: Outer, betas: tuple[float, float]) -> dict[str, torch.optim.Optimizer]:
    """One optimiser of each kind, for all groups of that kind."""
    by_kind: dict[str, list[dict]] = {}
    for group in groups:
        by_kind.setdefault(group.optimizer or outer.optimizer, []).append({"params": group.params, "lr": group.lr})
    make = {
        "adam": lambda own: torch.optim.Adam(own, betas=betas),
        "sgd": lambda own: torch.optim.SGD(own, outer.lr_img, outer.momentum),
    }
    return {kind: make[kind](own) for kind, own in by_kind.items()}
