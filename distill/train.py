"""Training experts: networks trained to the end on the real images.

step = train.expert_step(context)
for training in train.epochs(context, step, train.begin(context, step, [7])):  # expert 7, epoch by epoch
    training.theta
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from distill import recipe, rng
from distill.augment import augment
from distill.context import Context
from distill.engine.compiling import eager_seconds, has_compiler, pays
from distill.engine.inner import SGD, InnerStep, Optimizer, State, pulled
from distill.errors import DeviceError
from distill.nets import Network

EXPERTS_TO_PAY = 4
"""Compile if the time saved over this many experts exceeds the cost of compiling. A constant, not the recipe's count
over its workers: compiled steps round differently, and an expert must not depend on how many there are."""


@dataclass(frozen=True)
class Choices:
    """What `auto` resolves to, the same for all experts of a set: compiled steps and bf16 round differently."""

    compiled: bool
    bf16: bool


def choose(context: Context) -> Choices:
    """Resolve `auto` from the cost of one expert and from this machine, never from count or workers."""
    o, images = context.recipe.experts, len(context.data.train)
    seconds = eager_seconds(context.network, context.data.shape, o.batch) / 4 * o.epochs * (images / o.batch)
    seconds *= 2 if o.sam_rho else 1
    compiled = o.compile == "on" or (o.compile == "auto" and pays(context, EXPERTS_TO_PAY * seconds))
    bf16 = o.bf16 == "on" or (o.bf16 == "auto" and compiled and multiplies_bf16(context.device))
    return Choices(compiled, bf16)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has matrix units for bfloat16 (AMX, tensor cores). Without them bfloat16 is slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def expert_step(context: Context, choices: Choices | None = None) -> InnerStep:
    """The training step for all experts of a process; by default with the choices of choose().

    Raises DeviceError if it must be compiled and there is no compiler.
    """
    o, choices = context.recipe.experts, choices or choose(context)
    if choices.compiled and not has_compiler(context.device):
        raise DeviceError(
            "this set of experts is trained with torch.compile, but this machine has no C++ compiler (g++ or clang++): "
            "install one, or train another set with experts.compile=off"
        )
    network, optimizer = Network(context.network.module, choices.bf16), SGD(o.momentum, o.weight_decay)
    if o.sam_rho:
        return SharpnessAwareStep(network, optimizer, o.sam_rho, choices.compiled)
    return InnerStep(network, optimizer, choices.compiled)


class SharpnessAwareStep(InnerStep):
    """A step that uses the gradient at the worst point near theta (SAM, Foret et al. 2021, equation 2, p = 2).

    That point is theta + rho * g / |g|, where g is the gradient at theta; weight decay applies to theta itself.
    """

    def __init__(self, network: Network, optimizer: Optimizer, rho: float, compiled: bool = False):
        self.rho = rho
        super().__init__(network, optimizer, compiled)

    def _step(self, state: State, x: Tensor, y: Tensor, lr: Tensor, t: Tensor) -> State:
        slope = grad(self._loss)
        up = slope(state[0], x, y)
        uphill = state[0] + self.rho * up / up.norm().clamp(min=torch.finfo(up.dtype).tiny)
        return self.optimizer.update(state, slope(uphill, x, y), lr, t)

    def _adjoint(self, step: Callable, loss: Callable) -> Callable:
        return pulled(step)  # not pulled_sgd: the step is not linear in the gradient at theta


@dataclass(frozen=True)
class Training:
    """The state of experts in training after an epoch. Its tensors are never modified in place."""

    experts: tuple[int, ...]
    epoch: int
    state: State
    """State of the optimiser; theta is first, (p,) for one expert, (s, p) for s side by side."""
    average: Tensor | None
    """Moving average of theta; None if the recipe has none."""

    @property
    def theta(self) -> Tensor:
        """Snapshots (s, p) at this epoch, one row per expert."""
        theta = self.state[0] if self.average is None else self.average
        return theta.view(len(self.experts), -1)


def begin(context: Context, step: InnerStep, experts: Sequence[int]) -> Training:
    """Initial experts at epoch 0."""
    seed = context.recipe.experts.seed
    fresh = [context.network.init(rng.generator(seed, "expert init", i)) for i in experts]
    theta = (torch.stack(fresh) if len(experts) > 1 else fresh[0]).to(context.device)
    return Training(tuple(experts), 0, step.optimizer.start(theta), theta if context.recipe.experts.ema else None)


def epochs(context: Context, step: InnerStep, after: Training) -> Iterator[Training]:
    """Continue training from `after` on the training images, yielding the state after every epoch.

    An expert depends only on the recipe, experts.seed, its number and, in its last bits, experts.together. Resuming
    after any epoch gives the same bits on the CPU.
    """
    targets = F.one_hot(context.data.train.y, context.classes).to(context.data.train.x)
    for _ in range(after.epoch, context.recipe.experts.epochs):
        after = _epoch(context, step, after, targets)
        yield after


def expert_epochs(context: Context, step: InnerStep, index: int) -> Iterator[tuple[int, Tensor]]:
    """Train expert `index`, yielding (epoch, theta (p,)); epoch 0 has its initial parameters."""
    fresh = begin(context, step, [index])
    yield 0, fresh.theta[0]
    for training in epochs(context, step, fresh):
        yield training.epoch, training.theta[0]


def rate(o: recipe.Experts, epoch: int) -> float:
    """The learning rate of an epoch, counted from 1."""
    if o.lr_decay == "cosine":
        return o.lr * (1 + math.cos(math.pi * (epoch - 1) / o.epochs)) / 2
    return o.lr * (0.1 if o.lr_decay == "step" and epoch > o.epochs / 2 else 1)


def _epoch(context: Context, step: InnerStep, before: Training, targets: Tensor) -> Training:
    o, train, epoch = context.recipe.experts, context.data.train, before.epoch + 1
    lr = torch.tensor(rate(o, epoch), device=context.device)
    keys = [(o.seed, "expert", i, epoch) for i in before.experts]
    orders = [torch.randperm(len(train), generator=rng.generator(*key, "order")).to(train.x.device) for key in keys]
    state, average = before.state, before.average
    for i, chosen in enumerate(zip(*(order.split(o.batch) for order in orders), strict=True)):
        images = [
            augment(train.x[rows], o.augment, rng.generator(*key, "augment", i))
            for key, rows in zip(keys, chosen, strict=True)
        ]
        x, y = (torch.stack(t) if len(t) > 1 else t[0] for t in (images, [targets[rows] for rows in chosen]))
        state = step.forward(state, x, y, lr, i)
        average = None if average is None else average.lerp(state[0], 1 - o.ema)
    return Training(before.experts, epoch, state, average)
