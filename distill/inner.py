"""A training step as a pure function, state_{i+1} = step(state_i, images, labels, lr, i), and its adjoint.

The state is a tuple of tensors of one shape whose first is theta, flat (p,), or (s, p) for s networks side by side.
Experts, students and evaluated networks are all trained by the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vjp, vmap

from distill.nets import Network
from distill.tracing import Traced

State = tuple[Tensor, ...]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of logits (n, classes) against label probabilities y (n, classes)."""
    return -(y * F.log_softmax(logits, 1)).sum(1).mean()


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent as torch.optim.SGD does it, with momentum and weight decay."""

    momentum: float = 0.0
    weight_decay: float = 0.0

    def start(self, theta: Tensor) -> State:
        """The state before the first step."""
        return (theta, torch.zeros_like(theta)) if self.momentum else (theta,)

    def update(self, state: State, g: Tensor, lr: Tensor, t: Tensor) -> State:
        theta = state[0]
        g = g + self.weight_decay * theta if self.weight_decay else g
        if not self.momentum:
            return (theta - lr * g,)
        velocity = self.momentum * state[1] + g
        return theta - lr * velocity, velocity


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) as torch.optim.Adam does it; t counts steps from 0."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def start(self, theta: Tensor) -> State:
        """The state before the first step."""
        return theta, torch.zeros_like(theta), torch.zeros_like(theta)

    def update(self, state: State, g: Tensor, lr: Tensor, t: Tensor) -> State:
        theta, m, v = state
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g * g
        m_hat = m / (1 - self.beta1 ** (t + 1))
        v_hat = v / (1 - self.beta2 ** (t + 1))
        return theta - lr * m_hat / (_sqrt(v_hat) + self.eps), m, v


def _sqrt(v: Tensor) -> Tensor:
    """Square root whose derivative at zero is zero, not infinite: a parameter without gradient stays finite."""
    positive = v > 0
    return torch.where(positive, torch.where(positive, v, 1.0).sqrt(), 0.0)


Optimizer = SGD | Adam


class InnerStep:
    """Forward and adjoint step of training `network` by `optimizer`; `compiled` sends both through torch.compile.

    `traced` records the forward step and replays it, which is for many steps of small networks (distill/tracing.py).

    Images x are (b, c, h, w), labels y probabilities (b, classes); with s networks side by side both have s in front.
    """

    def __init__(self, network: Network, optimizer: Optimizer, compiled: bool = False, traced: bool = False):
        self.network, self.optimizer = network, optimizer
        side_by_side = vmap(self._step, in_dims=(0, 0, 0, None, None))
        record = Traced if traced and not compiled else (lambda step: step)
        self._single = _compiled(_pair(self._step, record), compiled)
        self._many = _compiled(_pair(side_by_side, record), compiled)
        (self.logits,) = _compiled((network.__call__,), compiled)
        """The network's answers (n, classes) from theta (p,) and images (n, c, h, w)."""

    def _step(self, state: State, x: Tensor, y: Tensor, lr: Tensor, t: Tensor) -> State:
        g = grad(lambda theta: cross_entropy(self.network(theta, x), y))(state[0])
        return self.optimizer.update(state, g, lr, t)

    def forward(self, state: State, x: Tensor, y: Tensor, lr: Tensor, i: int) -> State:
        """The state after step i; no graph is made."""
        step, _ = self._many if state[0].dim() == 2 else self._single
        return step(state, _packed(x), y.detach(), lr, _scalar(i, lr))

    def adjoint(self, state: State, x: Tensor, y: Tensor, lr: Tensor, i: int, after: State):
        """From after = dL/dstate_{i+1} to (dL/dstate_i, dL/dx, dL/dy, dL/dlr), exact."""
        _, back = self._many if state[0].dim() == 2 else self._single
        return back(state, _packed(x), y.detach(), lr, _scalar(i, lr), after)


def _pair(step: Callable, record: Callable) -> tuple[Callable, Callable]:
    def back(state, x, y, lr, t, after):
        _, pull = vjp(lambda *inputs: step(*inputs, t), state, x, y, lr)
        return pull(after)

    return record(step), back


def _compiled(functions: tuple[Callable, ...], compiled: bool) -> tuple[Callable, ...]:
    return tuple(torch.compile(f, fullgraph=True, dynamic=False) for f in functions) if compiled else functions


def _packed(x: Tensor) -> Tensor:
    """Channels last, which convolutions prefer on every device; side-by-side batches keep their order."""
    return x.detach().contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)


def _scalar(i: int, like: Tensor) -> Tensor:
    return torch.tensor(float(i), dtype=like.dtype, device=like.device)
