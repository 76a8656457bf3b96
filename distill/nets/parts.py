"""Parts of several networks: a convolution with its norm, and the check for images that are too small."""

from torch import Tensor, nn

from distill.errors import RecipeError
from distill.nets.norm import Norm

SMALL = 32
"""Side in pixels of the images that the networks of the papers take."""


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
