"""Whether torch.compile pays off for a run: decided from the recipe alone, so that a resumed run decides the same."""

import logging
import shutil
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from distill.context import Context
from distill.engine.inner import InnerStep
from distill.engine.unroll import Unroll, resolve_memory
from distill.nets import Network

if TYPE_CHECKING:
    from distill.objectives.base import Work

log = logging.getLogger("stillhouse")

COMPILE_SECONDS = 60.0
"""One-time cost of compiling the forward and the adjoint step (30 to 70 s on two cores)."""
SECONDS_SAVED = 0.5
"""Fraction of the eager time that compiled steps save."""
FLOPS_PER_SECOND = 60e9
"""Throughput of the arithmetic of eager steps on two CPU cores."""
WRITTEN_PER_SECOND = 0.8e9
"""Numbers that the operations of eager steps write on two CPU cores, which decides for narrow networks. A core needs
1.9 to 2.8 ns for each, arithmetic included, at 8 to 64 px and widths of 16 to 128."""
OVERHEAD_SECONDS = 8e-3
"""Minimum time of one eager forward and one eager adjoint step: the overhead of launching their kernels."""
PASS_FLOPS = 3
"""Cost of a pass with a gradient, in forward passes."""
STEP_FLOPS = 12
"""Cost of a forward step (3) and an adjoint step (9, or 8 for SGD), in forward passes; of what is written, too."""


def engine(context: Context, work: "Work") -> Unroll:
    """The engine for outer steps that do `work`, which must have inner training."""
    step = InnerStep(context.network, work.inner.optimizer, compiles(context, work))
    settings = context.recipe.objective.engine_settings
    rounds = work.segments // work.inner.side_by_side  # all wait for the backward pass of their sum
    return Unroll(step, settings.keep, resolve_memory(settings.memory, context.device) // rounds)


def compiles(context: Context, work: "Work") -> bool:
    """Whether the steps of engine() are compiled, or the passes of an objective that differentiates no training."""
    choice, network, shape = context.recipe.objective.engine_settings.compile, context.network, context.data.shape
    if not work.inner and network.has_batch_norm:
        return False  # it takes all images in one pass, whose size changes with learned labels
    seconds = 0.0
    if work.inner and work.inner.differentiated:
        seconds = eager_seconds(network, shape, work.inner.images) * work.inner.differentiated
    else:
        for p in work.passes:
            chunk, flops = p.chunk or p.images, forward_flops(network, shape) * p.images
            if p.second_order:
                seconds += eager_seconds(network, shape, chunk) * p.images / chunk
            else:
                seconds += flops * (PASS_FLOPS if p.gradient else 1) / FLOPS_PER_SECOND
    seconds *= work.segments * context.recipe.outer.steps
    return choice == "on" or (choice == "auto" and pays(context, seconds))


def pays(context: Context, seconds: float) -> bool:
    """Whether to compile steps that would take `seconds` in total if run eagerly; logs the decision."""
    yes = seconds * SECONDS_SAVED > COMPILE_SECONDS and has_compiler(context.device)
    log.info("compile = auto: about %.0f s of training eagerly; %s", seconds, "compiling" if yes else "not compiling")
    return yes


def eager_seconds(network: Network, shape: tuple[int, int, int], images: int) -> float:
    """Rough estimate of the seconds of one forward and one adjoint step on two CPU cores."""
    one = max(forward_flops(network, shape) / FLOPS_PER_SECOND, forward_written(network, shape) / WRITTEN_PER_SECOND)
    return max(one * images * STEP_FLOPS, OVERHEAD_SECONDS)


def forward_flops(network: Network, shape: tuple[int, int, int]) -> int:
    """Floating-point operations of the forward pass of one image, counted without computing it."""
    inputs = _unfilled(network, shape)
    with FlopCounterMode(display=False) as counter:
        functional_call(network.module, *inputs)
    return counter.get_total_flops()


def forward_written(network: Network, shape: tuple[int, int, int]) -> int:
    """Numbers that the operations of the forward pass of one image write, counted without computing it."""
    inputs = _unfilled(network, shape)
    with _Written() as counter:
        functional_call(network.module, *inputs)
    return counter.numbers


class _Written(TorchDispatchMode):
    """Counts what operations write: the elements of their results, except of views."""

    numbers = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch would import its compiler, which takes a second, only to keep it out of __torch_dispatch__."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.numbers += sum(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))
        return out


def _unfilled(network: Network, shape: tuple[int, int, int]) -> tuple[dict[str, Tensor], Tensor]:
    """Parameters and an image (1, c, h, w) that have no values, so that nothing is computed with them."""
    parameters = {name: torch.empty(s, device="meta") for name, s in network.layout.entries}
    return parameters, torch.empty(1, *shape, device="meta")


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile can work here: on the CPU it needs a C++ compiler."""
    return device.type != "cpu" or any(shutil.which(name) for name in ("g++", "clang++"))
