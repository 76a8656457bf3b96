"""How much memory a recipe's distillation needs: counted from the tensors of one step, which need not be computed.

memory_bytes(context)    # peak of one worker, above its process
"""

import math
import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill import synthetic
from distill.context import Context
from distill.engine.batches import Batches
from distill.engine.inner import SGD, Adam, InnerStep, Optimizer, cross_entropy
from distill.engine.unroll import resting_place
from distill.evaluate.judge import optimizer_of
from distill.objectives.unrolled import CHUNK
from distill.recipe import Distribution, Unrolled
from distill.synthetic.base import Synthetic


class PeakMemory(TorchDispatchMode):
    """Largest sum of bytes of live storages made inside the block, graphs and C++ temporaries included.

    Workspaces that a kernel allocates for itself are not seen.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        old = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and id(t.untyped_storage()) not in old:
                self._count(t.untyped_storage())
        return out

    def _count(self, storage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self._seen[key] = weakref.ref(storage, lambda _: self._freed(key, size))

    def _freed(self, key: int, size: int) -> None:
        self.now -= size
        del self._seen[key]


def memory_bytes(context: Context) -> int:
    """Peak bytes of one worker that distills: data, synthetic set, and the greater of an outer step and a judgement."""
    made = build_synthetic(context)
    fixed = sum(t.nbytes for part in _splits(context) for t in (part.x, part.y)) + _synthetic_bytes(context, made)
    return fixed + max(outer_step_bytes(context, made), judge_bytes(context, made))


def build_synthetic(context: Context) -> Synthetic:
    """The synthetic set at its start; expert labels are stood in for where there are no experts yet."""
    return synthetic.blank(context if context.experts else context.with_experts(_NoExperts(context)))


def outer_step_bytes(context: Context, made: Synthetic) -> int:
    """Peak bytes of an outer step, above what lives through the run."""
    o, images = context.recipe.objective, images_per_step(context, made)
    if isinstance(o, Distribution):
        return _distribution_bytes(context, len(made), o.batch_real)
    side = side_by_side(context)
    one, optimizer = context.network.layout.size * 4, inner_optimizer(context)
    ends = (8 if side > 1 else 6) * side * one  # theta, start, target, their differences and gradients
    kept = _kept_bytes(context, optimizer, side)
    batch = side * _batch_bytes(context, made, images)
    step = batch + step_bytes(context, optimizer, images, side)
    if isinstance(o, Unrolled):
        step = max(step, real_loss_bytes(context, min(CHUNK, o.batch_real)))
        ends += o.pool * one
    return ends + kept + step


def step_bytes(context: Context, optimizer: Optimizer, images: int, side: int = 1) -> int:
    """Peak bytes of a forward and an adjoint step, traced."""
    network, classes, shape = context.network, context.classes, context.data.shape
    lead = (side,) if side > 1 else ()

    def run() -> None:
        step, lr = InnerStep(network, optimizer), torch.tensor(0.1)
        state = optimizer.start(torch.empty(*lead, network.layout.size))
        x, y = torch.empty(*lead, images, *shape), torch.empty(*lead, images, classes)
        after = step.forward(state, x, y, lr, 0)
        step.adjoint(state, x, y, lr, 0, after)

    return traced(run)


def real_loss_bytes(context: Context, images: int) -> int:
    """Peak bytes of the loss of one network on a chunk of real images, with its gradient."""

    def run() -> None:
        theta = torch.empty(context.network.layout.size, requires_grad=True)
        logits = context.network(theta, torch.empty(images, *context.data.shape))
        cross_entropy(logits, torch.empty(images, context.classes)).backward()

    return traced(run)


def judge_bytes(context: Context, made: Synthetic) -> int:
    """Peak bytes of training a network on the set, and of telling its accuracy."""

    def train() -> None:
        images, optimizer = context.recipe.evaluation.batch_of(len(made)), optimizer_of(context.recipe.evaluation)
        state = optimizer.start(torch.empty(context.network.layout.size))
        x, y = torch.empty(images, *context.data.shape), torch.empty(images, context.classes)
        InnerStep(context.network, optimizer).forward(state, x, y, torch.tensor(0.1), 0)

    def look() -> None:
        theta = torch.empty(context.network.layout.size)
        with torch.no_grad():
            context.network(theta, torch.empty(min(1000, len(context.data.validation)), *context.data.shape))

    return max(traced(train), traced(look))


def traced(run: Callable[[], None]) -> int:
    """Peak bytes of what `run` makes, without computing any of it."""
    with FakeTensorMode(), PeakMemory() as memory:
        run()
    return memory.peak


# ---------------------------------------------------------------- what a recipe means


def images_per_step(context: Context, made: Synthetic) -> int:
    """Synthetic images of one inner step."""
    return min(getattr(context.recipe.objective, "batch_syn", 0) or len(made), len(made))


def inner_optimizer(context: Context) -> Optimizer:
    """What students are trained by."""
    o = context.recipe.objective
    return (Adam() if o.inner == "adam" else SGD(o.momentum)) if isinstance(o, Unrolled) else SGD()


def window(context: Context) -> int:
    """Inner steps that are differentiated."""
    o = context.recipe.objective
    return o.window if isinstance(o, Unrolled) else o.syn_steps


def side_by_side(context: Context) -> int:
    """Students that one worker trains in one batched computation."""
    o = context.recipe.objective
    if isinstance(o, Unrolled):
        return 1
    vectorized = o.engine.vectorize == "on" or (o.engine.vectorize == "auto" and context.device.type == "cuda")
    return o.segments // context.recipe.outer.workers if vectorized else 1


# ---------------------------------------------------------------- parts


def _kept_bytes(context: Context, optimizer: Optimizer, side: int) -> int:
    """The states that wait for the way back, on the device; two more are at hand."""
    steps, keep = window(context), context.recipe.objective.engine.keep
    state = optimizer.start(torch.empty(side, context.network.layout.size, device="meta"))
    keep = resting_place(state, steps, context.device) if keep == "auto" else keep
    count = {"device": steps, "thin": 2 * math.isqrt(steps) + 1, "host": 0 if context.device.type == "cuda" else steps}
    return (count[keep] + 2) * sum(s.nbytes for s in state)


def _batch_bytes(context: Context, made: Synthetic, images: int) -> int:
    """One batch, its graph and its gradients, really made: it is small, and may come from anything."""
    o = context.recipe.objective
    with PeakMemory() as memory:
        x, y = Batches(made, images, o.augment, 0, ("estimate",))(0)
        outputs = [t for t in (x, y) if t.requires_grad]
        leaves = [p for p in made.parameters() if p.requires_grad]
        torch.autograd.grad(outputs, leaves, [torch.ones_like(t) for t in outputs], allow_unused=True)
    return memory.peak


def _distribution_bytes(context: Context, images: int, batch_real: int) -> int:
    """Graphs of all classes' synthetic images wait for the way back; real images of one class pass without a graph."""
    theta, shape = context.network.layout.size, context.data.shape

    def real() -> None:
        with torch.no_grad():
            context.network.features(torch.empty(theta), torch.empty(batch_real, *shape))

    def synthetic_images() -> None:
        x = torch.empty(images, *shape, requires_grad=True)
        context.network.features(torch.empty(theta), x).mean(0).square().sum().backward()

    return traced(real) + traced(synthetic_images)


def _synthetic_bytes(context: Context, made: Synthetic) -> int:
    """Parameters, gradients, their sums on the way back, the outer optimiser's buffers, the best set so far."""
    learned = sum(p.nbytes for p in made.parameters() if p.requires_grad)
    buffers = {"adam": 2, "sgd": int(context.recipe.outer.momentum > 0)}[context.recipe.outer.optimizer]
    return sum(t.nbytes for t in nn.Module.state_dict(made).values()) * 2 + learned * (2 + buffers)


def _splits(context: Context):
    return context.data.train, context.data.validation, context.data.test


class _NoExperts:
    """Stands in for experts that are not trained yet."""

    count = 1

    def __init__(self, context: Context):
        self.epochs, self.size = [0, context.recipe.experts.epochs], context.network.layout.size

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        return torch.zeros(self.size)

    def prefetch(self, wanted: list[tuple[int, int]]) -> None:
        pass
