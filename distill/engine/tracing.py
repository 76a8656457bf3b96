"""A function without the overhead of torch.func: its operations are recorded once, then replayed.

The replay has the same operations in the same order, so its results are bit-identical. Recording takes about a second
and needs no compiler; for a small network, a replayed training step takes about a third of the time.
"""

from collections.abc import Callable
from typing import Any

from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves


class Traced:
    """A function of tensors, recorded once per combination of shapes. Its control flow must not depend on values."""

    def __init__(self, function: Callable):
        self.function = function
        self.graphs: dict[tuple, fx.GraphModule] = {}

    def __call__(self, *inputs: Any) -> Any:
        kind = tuple((leaf.shape, leaf.stride(), leaf.dtype, leaf.device) for leaf in tree_leaves(inputs))
        if kind not in self.graphs:
            # make_fx counts the parameters in the code of its function, which a bound method or *args would mislead
            graph = make_fx(lambda inputs: self.function(*inputs))(inputs)
            graph.graph.eliminate_dead_code()
            graph.recompile()
            self.graphs[kind] = graph
        return self.graphs[kind](inputs)
