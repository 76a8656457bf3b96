"""Position and length of the differentiated window of inner training: AT-BPTT (Li et al., NeurIPS 2025).

As in the paper: with |g_t| the norm of the gradient of inner step t, the window starts at a step drawn with
probability softmax(|g| / tau) in the early stage of the run, uniformly in the middle stage, and softmax(-|g| / tau) in
the late one; its length is W - d + 2 d eta(t), where eta grows with the change | |g_t| - |g_{t-1}| |. The early stage
ends when the accuracy on real images has risen by less than M points for X draws in a row, the middle one with N and Y.
As in its authors' code: norms are those of a fresh network that trains on the set at each draw; eta is the rank of the
change among all steps, scaled to [0, 1]; a start too late for the window's length is moved forward; X = 30 and Y = 25.
Chosen here: `redraw_every` outer steps share a draw and the accuracy is their mean; all segments share the norms and
draw their own start from them; eta sets the length in every stage (the code fixes it to W + d and W - d in the later
two). Not here: the low-rank approximation of the Hessian, which the exact adjoint makes unnecessary for memory, and
the patches for large images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill import recipe, rng
from distill.engine.inner import InnerStep, Optimizer, State

EARLY, MIDDLE, LATE = range(3)


class Placing(nn.Module):
    """Draws windows; what it remembers is in buffers, and so in checkpoints."""

    def __init__(self, settings: recipe.Unrolled, seed: int):
        super().__init__()
        self.settings, self.seed = settings, seed
        self.register_buffer("norms", torch.zeros(settings.unroll))
        self.register_buffer("stage", torch.tensor(EARLY))
        self.register_buffer("stalled", torch.tensor(0))
        self.register_buffer("accuracy", torch.tensor(0.0))
        self.register_buffer("accuracies", torch.tensor(0.0))
        self.register_buffer("accuracy_before", torch.tensor(0.0))

    def begin(self, step: int, norms: Callable[[], Tensor]) -> None:
        """Call before outer step `step`. At every redraw_every-th, find the stage and get the norms (unroll,) anew."""
        self.accuracies += self.accuracy  # of the step before, by now summed over workers
        self.accuracy.zero_()
        if step % self.settings.redraw_every:
            return
        if step:
            self._advance(self.accuracies / self.settings.redraw_every)
        self.accuracies.zero_()
        self.norms.copy_(norms())

    def count(self, logits: Tensor, y: Tensor, images: int) -> None:
        """Add images that a trained network classified, out of `images` in this step, over all workers."""
        self.accuracy += (logits.argmax(1) == y).sum() / images

    def draw(self, step: int, segment: int) -> tuple[int, int]:
        """(steps before the window, steps in it)."""
        o, norms = self.settings, self.norms.cpu()
        g = rng.generator(self.seed, "start", step // o.redraw_every, segment)
        sign = {EARLY: 1.0, MIDDLE: 0.0, LATE: -1.0}[int(self.stage)]
        start = int(torch.multinomial((sign * norms / o.temperature).softmax(0), 1, generator=g))
        change = norms.diff(prepend=norms[:1]).abs()
        rank = int((change < change[start]).sum()) / max(1, o.unroll - 1)  # eta
        length = o.window - o.window_change + round(2 * o.window_change * rank)
        return min(start, o.unroll - length), length

    def _advance(self, accuracy: Tensor) -> None:
        """The next stage, if the accuracy (a fraction) has stalled for long enough."""
        if self.stage < LATE:
            gained, stage = 100 * (accuracy - self.accuracy_before), int(self.stage)
            self.stalled.copy_(self.stalled + 1 if gained < self.settings.stage_gains[stage] else 0)
            if self.stalled >= self.settings.stage_patience[stage]:
                self.stage += 1
                self.stalled.zero_()
        self.accuracy_before.copy_(accuracy)


def gradient_norms(step: InnerStep, theta: Tensor, lr: Tensor, batches: Callable, steps: int) -> Tensor:
    """Norms (steps,) of the gradients while theta (p,) trains as `step` does."""
    recording = InnerStep(step.network, _Recording(step.optimizer), step.compiled)
    state, norms = recording.optimizer.start(theta), []
    with torch.no_grad():
        for i in range(steps):
            state = recording.forward(state, *batches(i), lr, i)
            norms.append(state[-1].norm())
    return torch.stack(norms)


@dataclass(frozen=True)
class _Recording:
    """An optimiser whose state ends with the last gradient."""

    optimizer: Optimizer

    def start(self, theta: Tensor) -> State:
        return *self.optimizer.start(theta), torch.zeros_like(theta)

    def update(self, state: State, g: Tensor, lr: Tensor, t: Tensor) -> State:
        return *self.optimizer.update(state[:-1], g, lr, t), g
