"""A frozen network whose features judge images: of a discriminator, and of FID.

    chosen = features.of("experts", context)     # or "random", or "file:weights.safetensors"
    chosen.label                                 # names it wherever a figure depends on it
    maps = chosen.maps(x, layers=(0, 1, 2))      # list of (n, c, h, w)

Weights by path are a safetensors file with the parameters of the recipe's network under their names in PyTorch:

    safetensors.torch.save_file(nets.build(recipe.network, shape, classes).module.state_dict(), "weights.safetensors")
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from distill import rng
from distill.context import Context
from distill.errors import DataError, RecipeError
from distill.nets import Network


@dataclass(frozen=True)
class Features:
    """The recipe's network with frozen parameters theta (p,)."""

    network: Network
    theta: Tensor
    label: str
    """Which weights, of which network: figures in the features of two labels cannot be compared."""

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs of the last layer (n, d) for images x (n, c, h, w) as networks see them."""
        return self.network.features(self.theta, x)

    def maps(self, x: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Feature maps (n, c, h, w) of blocks, counted from 1; 0 is the image itself. Tokens and units are maps of
        width 1."""
        blocks = [layer for layer in layers if layer]
        found = dict(zip(blocks, self.network.maps(self.theta, x, blocks, flat=False), strict=True)) if blocks else {}
        return [_as_map(found[layer]) if layer else x for layer in layers]


def of(choice: str, context: Context, number: int = 0) -> Features:
    """The features that a setting names: `random`, `experts` (one of them at its last epoch) or `file:PATH`.

    `number` chooses among random networks and experts; -1 is the last expert. Raises RecipeError if the context has no
    experts or the network has batch norm, DataError for a file that does not hold its weights.
    """
    network, label = context.network, context.recipe.network.label
    if network.has_batch_norm:
        raise RecipeError(
            'network.norm = "batch": the features of an image would depend on the others of its batch; use '
            "network.norm=instance"
        )
    kind, _, path = choice.partition(":")
    if kind == "file":
        theta, said = read(Path(path), network), f"weights {digest(Path(path))[:12]}"
    elif kind == "experts":
        if context.experts is None:
            raise RecipeError("no experts for their features: train them with `stillhouse experts`, or use random")
        name = context.recipe.experts_name(context.data.fingerprint)
        expert, epoch = range(context.experts.count)[number], context.experts.epochs[-1]
        theta, said = context.experts.snapshot(expert, epoch), f"expert {expert} of {name} after {epoch} epochs"
    else:
        theta = network.init(rng.generator(context.seed, "features", number))
        said = f"random weights {abs(number)} of seed {context.seed}"
    return Features(network, theta.to(context.data.train.x), f"{said}, {label}")


def read(path: Path, network: Network) -> Tensor:
    """Parameters (p,) from a safetensors file that has them by name. DataError if it does not fit the network."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path}: no safetensors file of weights ({error}): give one with the parameters of the recipe's network "
            "by name (docs/generators.md)"
        ) from None
    for name, shape in network.layout.entries:
        if name not in tensors or tuple(tensors[name].shape) != shape:
            has = f"has {name} of shape {tuple(tensors[name].shape)}" if name in tensors else f"lacks {name}"
            raise DataError(
                f"{path} {has}, which the recipe's network has as {shape}: set network as that of the file, or give "
                "another file"
            )
    return network.layout.flatten({name: t.float() for name, t in tensors.items()})


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex; empty if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _as_map(out: Tensor) -> Tensor:
    if out.ndim == 4:
        return out
    return out.transpose(1, 2)[..., None] if out.ndim == 3 else out[:, :, None, None]
