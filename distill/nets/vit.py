"""A small vision transformer (Dosovitskiy et al. 2021): patches, pre-norm blocks, mean over tokens, linear.

Attention is written as products and a softmax: the fused kernel has no second derivative, which students need.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe
from distill.errors import RecipeError
from distill.nets.norm import TokenNorm
from distill.nets.parts import Blocks

GRID = 7
"""The least number of patches along a side, if the recipe does not set their size."""
POSITION_STD = 0.02


class Position(nn.Module):
    """A learned vector for each position, added to its token; initialised as in the paper's code, N(0, 0.02^2)."""

    def __init__(self, tokens: int, dim: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(tokens, dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh parameters."""
        return {"table": POSITION_STD * torch.randn(self.table.shape, generator=generator)}


class Attention(nn.Module):
    """Multi-head self-attention of tokens (n, t, d)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.inputs, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.inputs(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # each (n, h, t, e)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(d // self.heads)).softmax(-1)  # (n, h, t, t)
        return self.output((weights @ v).transpose(1, 2).reshape(n, t, d))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with a GELU and four times the width."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.first, self.attention = TokenNorm(dim), Attention(dim, heads)
        self.second, self.wide, self.narrow = TokenNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.narrow(F.gelu(self.wide(self.second(x))))


class ViT(Blocks):
    """2,693,194 parameters for 10 classes of RGB images of 32 px at the default widths."""

    def __init__(self, settings: recipe.ViT, shape: tuple[int, int, int], classes: int):
        super().__init__()
        patch = settings.patch or patch_side(shape)
        _check(settings, shape, patch)
        tokens, dim = (shape[1] // patch) * (shape[2] // patch), settings.dim
        self.patches = nn.Conv2d(shape[0], dim, patch, stride=patch)
        self.position = Position(tokens, dim)
        self.blocks = nn.ModuleList(TransformerBlock(dim, settings.heads) for _ in range(settings.depth))
        self.norm = TokenNorm(dim)
        self.classifier = nn.Linear(dim, classes)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The tokens (n, t, d) after each transformer block."""
        x = self.position(self.patches(x).flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
            yield x

    def embed(self, x: Tensor) -> Tensor:
        return self.norm(x).mean(1)


def patch_side(shape: tuple[int, int, int]) -> int:
    """The largest patch that divides both sides and leaves at least GRID patches along the shorter; else 1 pixel."""
    _, h, w = shape
    return max((p for p in range(1, min(h, w) // GRID + 1) if h % p == w % p == 0), default=1)


def _check(settings: recipe.ViT, shape: tuple[int, int, int], patch: int) -> None:
    _, h, w = shape
    if h % patch or w % patch:
        raise RecipeError(f"network.patch = {patch} does not divide {h}x{w} images; set one that does, or 0")
    if settings.dim % settings.heads:
        raise RecipeError(f"network.dim = {settings.dim} is not a multiple of network.heads = {settings.heads}")


def build(settings: recipe.ViT, shape: tuple[int, int, int], classes: int) -> ViT:
    """The module; only the shapes of its parameters are used. RecipeError if patches or heads do not divide."""
    return ViT(settings, shape, classes)
