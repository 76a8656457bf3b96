"""What networks share: their forward pass over blocks, a convolution with its norm, and a check of the image size."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from distill.errors import RecipeError
from distill.nets.norm import Norm

SMALL = 32
"""Side in pixels of the images that the networks of the papers take."""


class Blocks(nn.Module):
    """A network as a chain of blocks, whose last output is embedded for a linear layer named `classifier`."""

    classifier: nn.Linear

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The output (n, ...) of each block in turn."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """The inputs of the classifier (n, d) from the output of the last block."""
        return x.flatten(1)

    def forward(
        self, x: Tensor, features: bool = False, layers: Sequence[int] = (), flat: bool = True
    ) -> Tensor | tuple[Tensor, ...]:
        """Logits (n, classes); with features=True the inputs of the classifier (n, d).

        With `layers` the outputs of these blocks, counted from 1, flattened (n, d_i) or, unless `flat`, as they are;
        later blocks are not computed.
        """
        kept, out = [], x
        for i, out in enumerate(self.outputs(x), 1):
            kept.append((out.flatten(1) if flat else out) if i in layers else None)
            if i == max(layers, default=0):
                return tuple(kept[layer - 1] for layer in layers)
        if layers:
            raise RecipeError(f"objective.layers = {list(layers)}: this network has {len(kept)} blocks")
        out = self.embed(out)
        return out if features else self.classifier(out)


class NormedConv(nn.Module):
    """Convolution, with padding and stride from `options`, then normalisation."""

    def __init__(self, norm: str, inputs: int, outputs: int, kernel: int, bias: bool, **options: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=bias, **options)
        self.norm = Norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def margin(shape: tuple[int, int, int]) -> int:
    """Extra padding of the first convolution: images of 28 to 31 px become 32 px wide, as MNIST in DC."""
    missing = SMALL - min(shape[1:])
    return -(-missing // 2) if 0 < missing <= 4 else 0


def refuse_below(side: int, shape: tuple[int, int, int], kind: str) -> None:
    """Raise RecipeError for images that halving reduces to nothing, or to one pixel, which instance norm makes zero."""
    if min(shape[1:]) < side:
        raise RecipeError(
            f"network.kind = {kind!r} with this norm needs images of at least {side}x{side} pixels, these are "
            f"{shape[1]}x{shape[2]}: use a convnet of fewer blocks, another norm, or larger images"
        )
