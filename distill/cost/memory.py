"""Peak memory of distillation with a recipe, counted from the tensors of one step without computing them.

memory_bytes(context)    # peak of one worker, in addition to its process
"""

import math
import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill import objectives, synthetic
from distill.context import Context
from distill.engine.batches import Batches
from distill.engine.inner import InnerStep, Optimizer, cross_entropy
from distill.engine.unroll import resolve_keep
from distill.evaluate.judge import optimizer_of
from distill.objectives import Inner, Objective, Pass, Work
from distill.synthetic import Synthetic, learned_of


class PeakMemory(TorchDispatchMode):
    """Peak bytes of live storages created inside the block, including graphs and C++ temporaries.

    Workspaces that kernels allocate internally are not counted.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch would import its compiler, which takes a second, only to keep it out of __torch_dispatch__."""
        return False

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


def memory_bytes(context: Context, blank: Synthetic | None = None, objective: Objective | None = None) -> int:
    """Peak bytes of one worker: data, synthetic set, and the larger of an outer step and an evaluation.

    `blank` and `objective` are made from the recipe if they are not given.
    """
    blank, objective, d = blank or synthetic.blank(context), objective or objectives.build(context), context.data
    data = sum(t.nbytes for split in (d.train, d.validation, d.test) for t in (split.x, split.y))
    fixed = data + _synthetic_bytes(context, blank) + sum(t.nbytes for t in objective.buffers())
    return fixed + max(outer_step_bytes(context, blank, objective.work(blank)), judge_bytes(context, blank))


def outer_step_bytes(context: Context, blank: Synthetic, work: Work) -> int:
    """Peak bytes of an outer step, in addition to what is kept throughout the run."""
    waiting = work.segments * (sum(pass_bytes(context, p) for p in work.passes if p.waits) + 4 * work.values)
    brief = max((pass_bytes(context, p) for p in work.passes if not p.waits), default=0)
    if work.inner is None:
        return waiting + brief
    inner, side = work.inner, work.inner.side_by_side
    if not inner.differentiated:  # training before or after the passes, of which nothing is kept
        training = step_bytes(context, inner.optimizer, inner.images, side, adjoint=False)
        return waiting + max(brief, side * _batch_bytes(blank, inner) + training)
    rounds = work.segments // side  # all keep their states until the backward pass of their sum
    ends = (8 if side > 1 else 6) * side * context.network.layout.size * 4  # theta, start, target, their gradients
    batch = side * _batch_bytes(blank, inner)
    step = batch + step_bytes(context, inner.optimizer, inner.images, side)
    return waiting + rounds * (ends + _kept_bytes(context, inner)) + max(step, brief)


def step_bytes(context: Context, optimizer: Optimizer, images: int, side: int = 1, adjoint: bool = True) -> int:
    """Peak bytes of a forward and an adjoint step, or of the former alone; traced."""
    network, classes, shape = context.network, context.classes, context.data.shape
    lead = (side,) if side > 1 else ()

    def run() -> None:
        step, lr = InnerStep(network, optimizer), torch.tensor(0.1)
        state = optimizer.start(torch.empty(*lead, network.layout.size))
        x, y = torch.empty(*lead, images, *shape), torch.empty(*lead, images, classes)
        after = step.forward(state, x, y, lr, 0)
        if adjoint:
            step.adjoint(state, x, y, lr, 0, after)

    return traced(run)


def pass_bytes(context: Context, p: Pass) -> int:
    """Peak bytes of passing images through a network, including graph and gradient if it has one."""
    images, classes = p.chunk or p.images, context.classes

    def twice() -> None:
        theta, target = (torch.empty(context.network.layout.size) for _ in range(2))
        x, y = torch.empty(images, *context.data.shape), torch.empty(images, classes)
        slope = grad(lambda theta, x, y: cross_entropy(context.network(theta, x), y))
        grad(lambda x, y: (slope(theta, x, y) - target).square().sum(), (0, 1))(x, y)

    def run() -> None:
        theta = torch.empty(context.network.layout.size, requires_grad=p.gradient and not p.waits)
        x = torch.empty(images, *context.data.shape, requires_grad=p.gradient and p.waits)
        with torch.set_grad_enabled(p.gradient):
            out = context.network.features(theta, x) if p.features else context.network(theta, x)
            loss = out.mean(0).square().sum() if p.features else cross_entropy(out, torch.empty(images, classes))
        if p.gradient:
            loss.backward()

    return traced(twice if p.second_order else run)


def judge_bytes(context: Context, blank: Synthetic) -> int:
    """Peak bytes of training a network on the set, and of measuring its accuracy."""
    e = context.recipe.evaluation
    images = e.batch_of(training_images(context, blank))  # computed, not traced: a set may use any code

    def train() -> None:
        optimizer = optimizer_of(e)
        state = optimizer.start(torch.empty(context.network.layout.size))
        x, y = torch.empty(images, *context.data.shape), torch.empty(images, context.classes)
        InnerStep(context.network, optimizer).forward(state, x, y, torch.tensor(0.1), 0)

    def classify() -> None:
        theta = torch.empty(context.network.layout.size)
        with torch.no_grad():
            context.network(theta, torch.empty(min(1000, len(context.data.validation)), *context.data.shape))

    return max(traced(train), traced(classify))


def training_images(context: Context, blank: Synthetic) -> int:
    """Images that a network is trained on: those of the set, or those that are drawn from it."""
    with torch.no_grad():
        return len(blank.sampled(context.recipe.evaluation.sampling, torch.Generator().manual_seed(0)))


def traced(run: Callable[[], None]) -> int:
    """Peak bytes of the tensors that `run` creates, without computing them."""
    with FakeTensorMode(), PeakMemory() as memory:
        run()
    return memory.peak


# ---------------------------------------------------------------- parts


def _kept_bytes(context: Context, inner: Inner) -> int:
    """States on the device that are kept for the backward pass, and the two that a step works on."""
    steps, keep = inner.differentiated, context.recipe.objective.engine_settings.keep
    state = inner.optimizer.start(torch.empty(inner.side_by_side, context.network.layout.size, device="meta"))
    keep = resolve_keep(state, steps, context.device) if keep == "auto" else keep
    count = {"device": steps, "thin": 2 * math.isqrt(steps) + 1, "host": 0 if context.device.type == "cuda" else steps}
    return (count[keep] + 2) * sum(s.nbytes for s in state)


def _batch_bytes(blank: Synthetic, inner: Inner) -> int:
    """One batch, its graph and its gradients. It is computed, not traced: it is small, and a set may use any code."""
    with PeakMemory() as memory:
        x, y = Batches(blank, inner.images, inner.augment, 0, ("estimate",))(0)
        outputs = [t for t in (x, y) if t.requires_grad]
        torch.autograd.grad(outputs, learned_of(blank), [torch.ones_like(t) for t in outputs], allow_unused=True)
    return memory.peak


def _synthetic_bytes(context: Context, blank: Synthetic) -> int:
    """Parameters, gradients, their sums in the backward pass, the outer optimisers' buffers, the best set so far."""
    learned = sum(p.nbytes for p in learned_of(blank))
    whole = sum(t.nbytes for t in blank.state_dict().values())
    best = sum(t.nbytes for t in blank.learned_state().values())
    return whole + best + 2 * learned + optimizer_bytes(context, blank)


def optimizer_bytes(context: Context, blank: Synthetic) -> int:
    """Bytes of the outer optimisers' buffers."""
    outer = context.recipe.outer
    buffers = {"adam": 2, "sgd": int(outer.momentum > 0)}
    groups = blank.parameter_groups(outer)
    return sum(buffers[g.optimizer or outer.optimizer] * sum(p.nbytes for p in g.params) for g in groups)
