"""Inner training differentiated the plain way, the graph of every step kept: the reference the engine is held against.

    theta_n = PlainUnroll(network, SGD())(theta_0, lr, batches, steps=5)

Nothing here is shared with the engine but the network and the optimisers' numbers. Batches are made channels last, as
the engine makes them: a bias before instance norm has a gradient of rounding errors, which Adam divides by their size.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.engine.inner import SGD, Adam, Optimizer


class PlainUnroll:
    """Called as distill.engine.unroll.Unroll is; `learned` is ignored, for the graph knows."""

    def __init__(self, network: Callable[[Tensor, Tensor], Tensor], optimizer: Optimizer):
        self.network = network
        self.rule = {SGD: _Sgd, Adam: _Adam}[type(optimizer)](optimizer)

    def __call__(
        self,
        theta: Tensor,
        lr: Tensor,
        batches: Callable[[int], tuple[Tensor, Tensor]],
        steps: int,
        learned: Sequence[Tensor] = (),
        window: int | None = None,
    ) -> Tensor:
        """Parameters (p,) after `steps` steps; with a window, only the last `window` steps have a graph."""
        first = 0 if window is None else max(0, steps - window)
        state = (theta, self.rule.zeros(theta))
        for i in range(steps):
            if i == first and window is not None:
                state = (state[0].detach(), [s.detach() for s in state[1]])
            with torch.set_grad_enabled(i >= first):
                state = self._step(*state, *batches(i), lr[i] if lr.dim() else lr, i)
        return state[0]

    def _step(self, theta, buffers, x, y, lr, i):
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.enable_grad():
            leaf = theta if theta.requires_grad else theta.detach().requires_grad_()
            loss = -(y * F.log_softmax(self.network(leaf, x), 1)).sum(1).mean()
            (g,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return self.rule.update(theta, buffers, g, lr, i)


class _Sgd:
    def __init__(self, o: SGD):
        self.o = o

    def zeros(self, theta: Tensor) -> list[Tensor]:
        return [torch.zeros_like(theta)]

    def update(self, theta, buffers, g, lr, i):
        velocity = self.o.momentum * buffers[0] + g + self.o.weight_decay * theta
        return theta - lr * velocity, [velocity]


class _Adam:
    def __init__(self, o: Adam):
        self.o = o

    def zeros(self, theta: Tensor) -> list[Tensor]:
        return [torch.zeros_like(theta), torch.zeros_like(theta)]

    def update(self, theta, buffers, g, lr, i):
        b1, b2 = self.o.beta1, self.o.beta2
        m = b1 * buffers[0] + (1 - b1) * g
        v = b2 * buffers[1] + (1 - b2) * g * g
        seen = v > 0  # the derivative of a square root at zero is infinite; of a parameter never touched, nothing
        root = torch.zeros_like(v).masked_scatter(seen, (v[seen] / (1 - b2 ** (i + 1))).sqrt())
        return theta - lr * (m / (1 - b1 ** (i + 1))) / (root + self.o.eps), [m, v]
