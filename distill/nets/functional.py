"""Networks as pure functions of one flat parameter vector, which is what trajectories store and students train.

`Layout` is the order, names and shapes of the parameters inside the vector; two networks can exchange vectors exactly
when their layouts are equal.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True)
class Layout:
    """Names and shapes of parameters, in the order in which they lie in the flat vector."""

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
    """A module seen as f(theta, x). The module itself holds no trained values; only its shapes and code are used."""

    def __init__(self, module: nn.Module, bf16: bool = False):
        self.module = module
        self.layout = Layout.of(module)
        self.bf16 = bf16

    def init(self, generator: torch.Generator) -> Tensor:
        """Fresh parameters (p,), float32 on the CPU: PyTorch's default distributions, drawn from the generator."""
        drawn = {}
        for prefix, module in self.module.named_modules():
            own = dict(module.named_parameters(recurse=False))
            values = module.draw(generator) if hasattr(module, "draw") else _default_draw(module, own, generator)
            drawn |= {f"{prefix}.{name}".lstrip("."): values[name] for name in own}
        return self.layout.flatten(drawn)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Logits (n, classes) of images x (n, c, h, w)."""
        return self._run(theta, x, features=False)

    def features(self, theta: Tensor, x: Tensor) -> Tensor:
        """Embeddings (n, d): what the last linear layer sees."""
        return self._run(theta, x, features=True)

    def _run(self, theta: Tensor, x: Tensor, features: bool) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            out = functional_call(self.module, self.layout.unflatten(theta), (x,), {"features": features})
        return out.to(theta.dtype)


def _default_draw(module: nn.Module, own: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """PyTorch's defaults: within 1/sqrt(fan_in) for convolutions and linear layers, ones and zeros for norms."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = 1 / math.sqrt(module.weight[0].numel())
        return {name: (torch.rand(p.shape, generator=generator) * 2 - 1) * bound for name, p in own.items()}
    if set(own) <= {"weight", "bias"}:
        return {name: torch.ones(p.shape) if name == "weight" else torch.zeros(p.shape) for name, p in own.items()}
    raise TypeError(f"{type(module).__name__} needs a draw(generator) method that gives its fresh parameters")
