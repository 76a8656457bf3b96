"""The engine: exact gradients through inner training at constant memory.

N steps state_{i+1} = step(state_i, batch_i, lr) run without an autograd graph; only the states are kept. In the
backward pass each step is one vector-Jacobian product, and its gradients for the batch are propagated at once to the
parameters that produced the batch. The batch of step i is generated again from its seed, so only the states take memory
proportional to N; as many batches as fit into `memory` are kept instead, to the same bits.

    unroll = Unroll(InnerStep(network, SGD()))
    theta_n = unroll(theta_0, lr, batches, steps=50, learned=list(synthetic.parameters()))
    loss(theta_n).backward()          # fills the gradients of lr and of everything in `learned`
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from distill.engine.inner import InnerStep, State

Batches = Callable[[int], tuple[Tensor, Tensor]]
"""Step i to its images (b, c, h, w) and label probabilities (b, classes); every call must give the same values."""


class Unroll:
    """Inner training as a differentiable function of its batches, learning rate and initial parameters."""

    def __init__(self, step: InnerStep, keep: str = "auto", memory: int = 0):
        self.step, self.keep, self.memory = step, keep, memory

    def __call__(
        self,
        theta: Tensor,
        lr: Tensor,
        batches: Batches,
        steps: int,
        learned: Sequence[Tensor] = (),
        window: int | None = None,
    ) -> Tensor:
        """Parameters after `steps` steps.

        theta (p,), or (s, p) for s trainings side by side, whose batches are then (s, b, c, h, w) and (s, b, classes);
        lr scalar, or (steps,). Differentiable with respect to lr, the leaves `learned` that batches depend on, and,
        without a window, theta. With a window only the last `window` steps are differentiated; the earlier ones keep
        no states.
        """
        window = steps if window is None else min(window, steps)
        return _Unrolled.apply(self, batches, steps, window, theta, lr, *learned)


class _Unrolled(torch.autograd.Function):
    """Forward: run the steps and keep their states. Backward: apply the adjoint step from the last to the first."""

    @staticmethod
    def forward(ctx, engine, batches, steps, window, theta, lr, *learned):
        rate = lr.detach()
        ctx.learned, ctx.lr, ctx.step = learned, rate, engine.step
        # Not through ctx: that would be a cycle, and all states stay until Python looks for cycles, rarely.
        ctx.advance = lambda s, i: engine.step.forward(s, *batches(i), _rate(rate, i), i)
        state = engine.step.optimizer.start(theta.detach())
        for i in range(steps - window):
            state = ctx.advance(state, i)
        ctx.kept = _Kept(engine.keep, state, range(steps - window, steps))
        ctx.made = _KeptBatches(batches, engine.memory, learned)
        for i in range(steps - window, steps):
            ctx.kept.put(i, state)
            state = engine.step.forward(state, *ctx.made.put(i), _rate(rate, i), i)
        ctx.whole = window == steps
        return state[0].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, adjoint):
        after = ctx.step.optimizer.start(adjoint)
        lr_grad = torch.zeros_like(ctx.lr)
        totals = [torch.zeros_like(p) for p in ctx.learned]
        for i, state in ctx.kept.backwards(ctx.advance):
            x, y = ctx.made.pop(i)
            after, gx, gy, glr = ctx.step.adjoint(state, x, y, _rate(ctx.lr, i), i, after)
            (lr_grad[i] if lr_grad.dim() else lr_grad).add_(glr)
            accumulate((x, y), (gx, gy), ctx.learned, totals)
        theta_grad = after[0] if ctx.whole and ctx.needs_input_grad[4] else None
        return None, None, None, None, theta_grad, lr_grad, *totals


def _rate(lr: Tensor, i: int) -> Tensor:
    return lr[i] if lr.dim() else lr


def accumulate(outputs, gradients, leaves: Sequence[Tensor], totals: list[Tensor]) -> None:
    """Backpropagate the gradients of a batch to the leaves that it depends on, and add them to `totals`."""
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    if not pairs or not leaves:
        return
    of_leaves = torch.autograd.grad([o for o, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True)
    for total, gradient in zip(totals, of_leaves, strict=True):
        if gradient is not None:
            total.add_(gradient)


class _KeptBatches:
    """Batches of the differentiated steps with their graphs, as many as fit into `memory` bytes; others are remade."""

    def __init__(self, batches: Batches, memory: int, learned: Sequence[Tensor]):
        self.batches, self.left = batches, 0 if getattr(batches, "remade", False) else memory
        self.anyway = {p.untyped_storage().data_ptr() for p in learned}
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def put(self, i: int) -> tuple[Tensor, Tensor]:
        """The batch of step i in the forward pass, kept while there is room."""
        if self.left <= 0:
            return self.batches(i)
        saved: dict[int, int] = {}

        def measure(t: Tensor) -> Tensor:
            saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(measure, lambda t: t):
            pair = self.batches(i)
        for t in pair:
            measure(t)
        self.left -= sum(size for place, size in saved.items() if place not in self.anyway)
        if self.left >= 0:
            self.kept[i] = pair
        return pair

    def pop(self, i: int) -> tuple[Tensor, Tensor]:
        """The batch of step i in the backward pass."""
        if i in self.kept:
            return self.kept.pop(i)
        with torch.enable_grad():
            return self.batches(i)


class _Kept:
    """The states of the differentiated steps, stored according to `keep`: device, host, thin, or auto."""

    def __init__(self, keep: str, state: State, steps: range):
        self.steps = steps
        self.device = state[0].device
        self.keep = resolve_keep(state, len(steps), self.device) if keep == "auto" else keep
        self.stride = max(1, math.isqrt(len(steps))) if self.keep == "thin" else 1
        self.states: dict[int, State] = {}

    def put(self, i: int, state: State) -> None:
        if (i - self.steps.start) % self.stride == 0:
            self.states[i] = tuple(s.to("cpu") for s in state) if self.keep == "host" else state

    def backwards(self, forward: Callable[[State, int], State]) -> Iterator[tuple[int, State]]:
        """(i, state_i) from the last step to the first; missing states are recomputed from the last one kept before."""
        for start in reversed(self.steps[:: self.stride]):
            states = [tuple(s.to(self.device) for s in self.states[start])]
            stop = min(start + self.stride, self.steps.stop)
            for i in range(start, stop - 1):
                states.append(forward(states[-1], i))
            for i in reversed(range(start, stop)):
                yield i, states.pop()


def resolve_keep(state: State, steps: int, device: torch.device) -> str:
    """What keep = "auto" means: device if the states fit into a quarter of its free memory, else host, else thin."""
    needed = steps * sum(s.numel() * s.element_size() for s in state)
    if device.type == "cuda" and needed < free_bytes(device) / 4:
        return "device"
    if needed < free_host_bytes() / 4:
        return "host" if device.type == "cuda" else "device"
    return "thin"


def resolve_memory(memory: int | str, device: torch.device) -> int:
    """Bytes that `engine.memory` allows: with auto a quarter of what is free on the device now."""
    return free_bytes(device) // 4 if memory == "auto" else memory


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; on the CPU, that the operating system can still allocate."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_host_bytes()


def free_host_bytes() -> int:
    """Memory that the operating system can still allocate."""
    import psutil

    return psutil.virtual_memory().available
