"""A function without the cost of launching its kernels: on a GPU they are captured once, then launched together.

The kernels of a training step of few images take less time than their launches. A CUDA graph launches all of them at
once. They are the same kernels in the same order, so the results are those of the function itself. On the CPU the
function is called as it is.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

log = logging.getLogger("stillhouse")

WARM_UP = 3
"""Calls before the capture, in which compilers run and libraries choose their kernels."""
MOST_KINDS = 8
"""Combinations of shapes that are captured; the memory of each stays reserved."""


class Replayed:
    """A function of tensors, captured once per combination of shapes. Its control flow must not depend on values.

    A function that cannot be captured is called as it is from then on, with a warning.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.captured: dict[tuple, _Captured] = {}
        self.possible = True

    def __call__(self, *inputs: Any) -> Any:
        leaves, structure = tree_flatten(inputs)
        if not self.possible or leaves[0].device.type != "cuda" or torch.cuda.is_current_stream_capturing():
            return self.function(*inputs)
        kind = (structure, *((leaf.shape, leaf.stride(), leaf.dtype, leaf.device) for leaf in leaves))
        if kind not in self.captured:
            if len(self.captured) == MOST_KINDS:
                return self.function(*inputs)
            try:
                self.captured[kind] = _Captured(self.function, leaves, structure)
            except RuntimeError as error:
                self.possible = False
                log.warning("kernels of a training step are launched one by one, as they cannot be captured: %s", error)
                return self.function(*inputs)
        return self.captured[kind](leaves)


class _Captured:
    """The kernels of one call, with memory for its inputs and outputs."""

    def __init__(self, function: Callable, leaves: list[Tensor], structure: Any):
        device = leaves[0].device
        with torch.no_grad():
            self.inputs = [torch.empty_like(t) for t in leaves]
            torch._foreach_copy_(self.inputs, leaves)
            inputs = tree_unflatten(self.inputs, structure)
            apart = torch.cuda.Stream(device)
            apart.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(apart):
                for _ in range(WARM_UP):
                    function(*inputs)
            torch.cuda.current_stream(device).wait_stream(apart)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=_pool(device)):
                self.outputs = function(*inputs)

    def __call__(self, leaves: list[Tensor]) -> Any:
        torch._foreach_copy_(self.inputs, leaves)
        self.graph.replay()
        return tree_map(Tensor.clone, self.outputs)


_POOLS: dict[torch.device, Any] = {}


def _pool(device: torch.device) -> Any:
    """Memory that all captures on a device share: only one runs at a time, and its outputs are copied at once."""
    return _POOLS.setdefault(device, torch.cuda.graph_pool_handle())
