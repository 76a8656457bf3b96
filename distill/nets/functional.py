"""Networks as pure functions of one flat parameter vector: trajectories store such vectors, students train them.

    network(theta, x)                                         # training: batch norms use the statistics of each batch
    network(theta, x, network.statistics(theta, batches))     # evaluation: they use those of `batches`

`Layout` is the order, names and shapes of the parameters inside the vector; two networks can exchange vectors exactly
when their layouts are equal.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distill.nets.norm import Norm, moments


@dataclass(frozen=True)
class Layout:
    """Names and shapes of parameters, in their order in the flat vector."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]
    sizes: tuple[int, ...] = field(init=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(math.prod(shape) for _, shape in self.entries))

    @classmethod
    def of(cls, module: nn.Module) -> "Layout":
        return cls(tuple((name, tuple(p.shape)) for name, p in module.named_parameters()))

    @property
    def size(self) -> int:
        """p: length of the flat vector."""
        return sum(self.sizes)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta (p,) by name."""
        parts = theta.split(self.sizes)
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self.entries, strict=True)}

    def flatten(self, parameters: dict[str, Tensor]) -> Tensor:
        """The flat vector (p,) of parameters given by name."""
        return torch.cat([parameters[name].reshape(-1) for name, _ in self.entries])


class Network:
    """A module as a function f(theta, x). Only the shapes and code of the module are used, never its own parameters."""

    def __init__(self, module: nn.Module, bf16: bool = False):
        self.module = module
        self.layout = Layout.of(module)
        self.bf16 = bf16
        norms = {name: m for name, m in module.named_modules() if isinstance(m, Norm) and m.kind == "batch"}
        self._batch_norms = {name: norm.channels for name, norm in norms.items()}
        self._eval_module = copy.deepcopy(module).to("meta").eval() if self._batch_norms else module

    def init(self, generator: torch.Generator) -> Tensor:
        """Fresh parameters (p,), float32 on the CPU: PyTorch's default distributions, drawn from the generator."""
        parameters = {}
        for prefix, module in self.module.named_modules():
            own = dict(module.named_parameters(recurse=False))
            values = module.draw(generator) if hasattr(module, "draw") else _default_draw(module, own, generator)
            parameters |= {f"{prefix}.{name}".lstrip("."): values[name] for name in own}
        return self.layout.flatten(parameters)

    def __call__(self, theta: Tensor, x: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Logits (n, classes) of images x (n, c, h, w); batch norms use `statistics`, or by default those of x."""
        return self._run(theta, x, statistics, features=False)

    def features(self, theta: Tensor, x: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Embeddings (n, d): the inputs of the last linear layer."""
        return self._run(theta, x, statistics, features=True)

    def maps(self, theta: Tensor, x: Tensor, layers: Sequence[int], flat: bool = True) -> tuple[Tensor, ...]:
        """The outputs of the blocks `layers`, counted from 1; later blocks are not computed.

        They are flattened (n, d_i) or, unless `flat`, as they are: maps (n, c, h, w), tokens (n, t, d), units (n, d).
        """
        return self._run(theta, x, None, layers=tuple(layers), flat=flat)

    def blocks(self, shape: tuple[int, int, int]) -> int:
        """Number of blocks, whose outputs maps() gives, for images of this shape (c, h, w)."""
        return sum(1 for _ in copy.deepcopy(self.module).to("meta").outputs(torch.empty(1, *shape, device="meta")))

    def check_layers(self, shape: tuple[int, int, int], layers: Sequence[int]) -> None:
        """Raise RecipeError if `layers` has a block that this network does not have."""
        values = self.layout.unflatten(torch.empty(self.layout.size, device="meta"))
        functional_call(self.module, values, (torch.empty(1, *shape, device="meta"),), {"layers": tuple(layers)})

    @property
    def has_batch_norm(self) -> bool:
        """Whether the images of a batch influence each other."""
        return bool(self._batch_norms)

    def statistics(self, theta: Tensor, batches: Iterable[Tensor]) -> Tensor | None:
        """Means and variances (2, s) over `batches` of the inputs of each batch norm; None for networks without any.

        Every batch (n, c, h, w) is run as in training, and the statistics are averaged: precise BatchNorm (Wu & Johnson
        2021, section 3). The variance is that of all images: within batches, and between their means. One pass without
        a graph; `batches` is not iterated if there is no batch norm.
        """
        if not self._batch_norms:
            return None
        with torch.no_grad():
            sizes, batch_moments = zip(*((len(x), self.moments(theta, x)) for x in batches), strict=True)
        share = torch.tensor([float(n) for n in sizes]).to(theta)[:, None]
        share = share / share.sum()  # (batches, 1)
        means, variances = torch.stack(batch_moments, 1)  # each (batches, s)
        mean = (share * means).sum(0)
        return torch.stack([mean, (share * (variances + (means - mean).square())).sum(0)])

    def moments(self, theta: Tensor, x: Tensor) -> Tensor:
        """Mean and variance (2, s) of the inputs of each batch norm for one batch; s: the channels of all norms."""
        inputs_of: dict[str, tuple[Tensor, Tensor]] = {}

        def record(name: str):
            return lambda module, inputs: inputs_of.__setitem__(name, moments(inputs[0]))

        hooks = [self.module.get_submodule(name).register_forward_pre_hook(record(name)) for name in self._batch_norms]
        try:
            self(theta, x)
        finally:
            for hook in hooks:
                hook.remove()
        rows = zip(*(inputs_of[name] for name in self._batch_norms), strict=True)
        return torch.stack([torch.cat(row) for row in rows]).to(theta.dtype)

    def _run(
        self, theta: Tensor, x: Tensor, statistics: Tensor | None, **output: bool | tuple[int, ...]
    ) -> Tensor | tuple[Tensor, ...]:
        module, values = self.module, self.layout.unflatten(theta)
        if statistics is not None:
            module, values = self._eval_module, values | self._buffers(statistics)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            out = functional_call(module, values, (x,), output)
        return tuple(o.to(theta.dtype) for o in out) if isinstance(out, tuple) else out.to(theta.dtype)

    def _buffers(self, statistics: Tensor) -> dict[str, Tensor]:
        """Views of statistics (2, s) by the names of the batch norms' buffers."""
        named = {}
        for buffer, row in zip(("mean", "var"), statistics, strict=True):
            parts = row.split(list(self._batch_norms.values()))
            named |= {f"{name}.{buffer}": part for name, part in zip(self._batch_norms, parts, strict=True)}
        return named


def _default_draw(module: nn.Module, own: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """PyTorch's defaults: within 1/sqrt(fan_in) for convolutions and linear layers, ones and zeros for norms."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = 1 / math.sqrt(module.weight[0].numel())
        return {name: (torch.rand(p.shape, generator=generator) * 2 - 1) * bound for name, p in own.items()}
    if set(own) <= {"weight", "bias"}:
        return {name: torch.ones(p.shape) if name == "weight" else torch.zeros(p.shape) for name, p in own.items()}
    raise TypeError(f"{type(module).__name__} needs a draw(generator) method that returns fresh parameters")
