"""What a recipe will cost, before it runs, and what to change if memory is short.

Memory is counted from one traced step (distill/cost/memory.py). Time is extrapolated from one step measured on this
machine, or from its floating-point operations if the step would not fit into memory.

    estimate(context).advice    # empty if everything fits
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from distill import evaluate, nets, objectives, recipe, synthetic
from distill.context import Context
from distill.cost import memory
from distill.engine import compiling
from distill.engine.compiling import COMPILE_SECONDS, SECONDS_SAVED
from distill.engine.inner import SGD, InnerStep, Optimizer
from distill.engine.unroll import free_host_bytes
from distill.errors import OutOfMemory
from distill.objectives import Pass, Work
from distill.synthetic import Synthetic
from distill.text import byte_size as size

MOST_TIMED = 64
"""Maximum number of images in a timed step; larger batches take proportionally longer."""
LEAST_TIMED, TIMED_SECONDS = 4, 0.15
"""Minimum number of images, and how long a step may take, by its operations, to be timed with more."""
ADJOINT_BYTES = 2
"""An adjoint step needs at most this many times the memory of a forward step: ConvNets 1.3 to 1.9."""
MOMENTUM = SGD(0.9)
"""Optimizer of experts and of networks that judge; its step stands for passes too."""
CHECKPOINTS = 2
"""Number of checkpoints that a run keeps."""


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds of a recipe on this machine."""

    memory_bytes: int
    """Peak memory of one worker's tensors during distillation. On the CPU, with the settings of
    distill/engine/allocator.py, a process takes a few percent more; with small networks, whose tensors are below 4 MB,
    up to twice as much."""
    available_bytes: int
    """Free memory of the device."""
    distill_seconds: float
    """All outer steps, including the evaluations on held-out images."""
    judge_seconds: float
    """Of these, the seconds of the evaluations, on held-out images and at the end."""
    experts_seconds: float
    """Training the experts that must exist before the run starts; 0 if none are needed."""
    storage_bytes: int
    """Expert trajectories and checkpoints in the store."""
    advice: list[str]
    """What does not fit, and the settings that reduce it; empty if everything fits."""


@dataclass(frozen=True)
class Timed:
    """What is known of networks, each with its shape of images and number of classes."""

    image_bytes: dict[tuple, int] = field(default_factory=dict)
    """Bytes of a step with one image; no fewer than it needs."""
    seconds: dict[tuple, float] = field(default_factory=dict)
    """Seconds of a step, by network, number of images, optimizer, and whether it is an adjoint or a forward step."""


def estimate(context: Context, timed: Timed | None = None) -> Estimate:
    """Memory, time and storage of distillation with the recipe of `context`; takes a few seconds.

    Several estimates with one `timed` time the steps of a network only once.
    """
    blank, objective, free = synthetic.blank(context), objectives.build(context), free_bytes(context)
    needed = memory.memory_bytes(context, blank, objective)
    clock = _Clock(context, free, timed or Timed())
    judging = _evaluation_seconds(context, blank, clock)
    advice = _advice(context, needed, free)
    return Estimate(
        memory_bytes=needed,
        available_bytes=free,
        distill_seconds=_distill_seconds(context, objective.work(blank), clock) + judging,
        judge_seconds=judging,
        experts_seconds=_experts_seconds(context, clock),
        storage_bytes=_experts_bytes(context) + CHECKPOINTS * _checkpoint_bytes(context, blank),
        advice=advice,
    )


def shortage(context: Context) -> list[str]:
    """The `advice` of an estimate, without its times."""
    return _advice(context, memory.memory_bytes(context), free_bytes(context))


def _advice(context: Context, needed: int, free: int) -> list[str]:
    if needed <= free:
        return []
    return [f"distilling needs {size(needed)} per worker, {size(free)} is free", *_savings(context, needed)]


def explain_out_of_memory(context: Context, error: BaseException) -> OutOfMemory:
    """The error to raise in place of one that `is_out_of_memory`: it lists the settings that save memory."""
    needed, first = memory.memory_bytes(context), str(error).splitlines()[0]
    lines = [
        f"out of memory while distilling ({first}).",
        f"A worker of this recipe needs about {size(needed)}; {size(free_bytes(context))} is free now.",
        *_savings(context, needed),
    ]
    return OutOfMemory("\n  ".join(lines))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch raised this because memory ran out, on a GPU or on the CPU."""
    cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_bytes(context: Context) -> int:
    """Free memory of the device of a context."""
    return torch.cuda.mem_get_info(context.device)[0] if context.device.type == "cuda" else free_host_bytes()


# ---------------------------------------------------------------- advice


def _savings(context: Context, needed: int) -> list[str]:
    """One line per setting that saves memory, the most effective first; each is measured by tracing with it."""
    work, saved = objectives.build(context).work(synthetic.blank(context)), {}
    for setting in context.recipe.objective.memory_levers(work.inner.images if work.inner else 0):
        other = recipe.override(context.recipe.model_dump(mode="json"), [setting], context.recipe.name)
        network = nets.build(other.network, context.data.shape, context.classes, other.objective.bf16)
        less = needed - memory.memory_bytes(replace(context, recipe=other, network=network))
        if less > needed / 100:
            saved[setting] = less
    ordered = sorted(saved.items(), key=lambda item: -item[1])
    lines = [f"{setting} saves {size(less)} (then {size(needed - less)})" for setting, less in ordered]
    return lines or ["no setting of the engine helps: lower network.width or use a machine with more memory"]


# ---------------------------------------------------------------- time


class _Clock:
    """Seconds of one eager forward step and of one eager adjoint step; measured if the step fits into memory."""

    def __init__(self, context: Context, free: int, timed: Timed):
        self.context, self._timed_before = context, timed
        r = context.recipe
        self._network = (r.network.model_dump_json(), r.objective.bf16, context.data.shape, context.classes)
        if self._network not in timed.image_bytes:
            timed.image_bytes[self._network] = ADJOINT_BYTES * memory.step_bytes(context, MOMENTUM, 1, adjoint=False)
        self.most = free / 1.5 / timed.image_bytes[self._network]

    def forward(self, images: int, optimizer: Optimizer = MOMENTUM) -> float:
        """Seconds of a forward step on a batch of `images`."""
        return self._step(images, optimizer, adjoint=False)

    def adjoint(self, images: int, optimizer: Optimizer = MOMENTUM) -> float:
        """Seconds of an adjoint step on a batch of `images`."""
        return self._step(images, optimizer, adjoint=True)

    def _step(self, images: int, optimizer: Optimizer, adjoint: bool) -> float:
        one = compiling.eager_seconds(self.context.network, self.context.data.shape, MOST_TIMED) / MOST_TIMED
        timed = min(images, MOST_TIMED, max(LEAST_TIMED, int(TIMED_SECONDS / one)))
        known, step = self._timed_before.seconds, (*self._network, timed, optimizer, adjoint)
        if step not in known:
            known[step] = (self._measured if timed < self.most else self._counted)(timed, optimizer, adjoint)
        return known[step] * images / timed

    def _measured(self, images: int, optimizer: Optimizer, adjoint: bool) -> float:
        c = self.context
        step, lr = InnerStep(c.network, optimizer), torch.tensor(0.01, device=c.device)
        state = optimizer.start(torch.randn(c.network.layout.size, device=c.device) / 10)
        x = torch.randn(images, *c.data.shape, device=c.device)
        y = torch.full((images, c.classes), 1 / c.classes, device=c.device)
        if adjoint:
            return self._timed(lambda: step.adjoint(state, x, y, lr, 0, state))
        return self._timed(lambda: step.forward(state, x, y, lr, 0))

    def _timed(self, run: Callable[[], object]) -> float:
        """Seconds of the second of two runs: the first also selects its kernels."""
        for _ in range(2):
            start = time.perf_counter()
            run()
            if self.context.device.type == "cuda":
                torch.cuda.synchronize(self.context.device)
        return time.perf_counter() - start

    def _counted(self, images: int, optimizer: Optimizer, adjoint: bool) -> float:
        """From the number of floating-point operations; a forward step is a quarter of both (STEP_FLOPS)."""
        both = compiling.eager_seconds(self.context.network, self.context.data.shape, images)
        return both * (3 if adjoint else 1) / 4


def _distill_seconds(context: Context, work: Work, clock: _Clock) -> float:
    seconds = sum(_pass_seconds(p, clock) for p in work.passes)
    if work.inner:
        inner = work.inner
        seconds += (inner.plain + inner.differentiated) * clock.forward(inner.images, inner.optimizer)
        if inner.differentiated:
            seconds += inner.differentiated * clock.adjoint(inner.images, inner.optimizer)
    seconds *= work.segments * context.recipe.outer.steps
    if _compiles(context, work):
        seconds = COMPILE_SECONDS + seconds * (1 - SECONDS_SAVED)
    return seconds


def _pass_seconds(p: Pass, clock: _Clock) -> float:
    """A pass without a gradient is a third of a training step; one of second order is an adjoint step per chunk."""
    if p.second_order:
        chunk = p.chunk or p.images
        return clock.adjoint(chunk) * p.images / chunk
    return clock.forward(p.images) * (1 if p.gradient else 1 / 3)


def _evaluation_seconds(context: Context, blank: Synthetic, clock: _Clock) -> float:
    """Training fresh networks on the set; small ones are trained side by side in the time of one."""
    c, e = context, context.recipe.evaluation
    n = memory.training_images(c, blank)
    images, steps = e.batch_of(n), e.lengths(n)[-1]
    flops = compiling.forward_flops(c.network, c.data.shape) * images
    together = c.device.type == "cuda" or flops < evaluate.SIDE_BY_SIDE_FLOPS
    o = c.recipe.outer
    selections = (o.steps // o.brief_every if o.brief_every else o.steps // o.evaluate_every) + 1
    networks = selections * (1 if together else e.selection_networks) + (1 if together else e.networks)
    return networks * steps * clock.forward(images)


def _experts_seconds(context: Context, clock: _Clock) -> float:
    o, images = context.recipe.experts, len(context.data.train)
    return clock.forward(images) * o.epochs * context.recipe.experts_needed / o.workers


def _compiles(context: Context, work: Work) -> bool:
    """compiling.compiles() without its log line, which is for runs."""
    log = logging.getLogger("stillhouse")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        return compiling.compiles(context, work)
    finally:
        log.setLevel(level)


# ---------------------------------------------------------------- storage


def _experts_bytes(context: Context) -> int:
    o, parameters = context.recipe.experts, context.network.layout.size
    return context.recipe.experts_needed * len(o.saved_epochs) * parameters * {"float32": 4}.get(o.dtype, 2)


def _checkpoint_bytes(context: Context, blank: Synthetic) -> int:
    """The set, the best set, the outer optimisers' buffers, the objective's state."""
    state = sum(t.nbytes for t in blank.learned_state().values())
    objective = sum(t.nbytes for t in objectives.build(context).state_dict().values())
    return 2 * state + memory.optimizer_bytes(context, blank) + objective
