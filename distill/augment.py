"""Differentiable augmentation (DSA, Zhao & Bilen 2021): draws one strategy and its random numbers, then applies them.

    x = augment(x, settings, generator(seed, "augment", step))

`draw` takes every random number from the given generator; `apply` is then a pure function of the images and the draw,
affine in the images, so it is twice differentiable. The same generator state gives the same augmentation, and so does
the same Draw on two batches (siamese). kornia's operators clamp colours and warp in pixel coordinates, which DSA does
not, so the few lines that DSA needs are written here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from distill import recipe


@dataclass(frozen=True, eq=False)
class Draw:
    """One drawn augmentation: its strategy ("none" leaves images as they are) and its numbers.

    `u` is uniform in [0, 1), (m, 3) float32 on the CPU, with m = n (per sample) or m = 1 (shared by any batch).
    """

    strategy: str
    u: Tensor
    settings: recipe.Augment


def augment(x: Tensor, settings: recipe.Augment, generator: torch.Generator) -> Tensor:
    """Augment images x (n, c, h, w) by one strategy drawn from a CPU generator; the same x if there is none to draw."""
    return apply(x, draw(settings, len(x), generator))


def draw(settings: recipe.Augment, n: int, generator: torch.Generator) -> Draw:
    """Draw a strategy, each equally likely, and the numbers for n images (or one shared draw) from a CPU generator."""
    if not settings.strategies:
        return Draw("none", torch.empty(0, 3), settings)
    index = int(torch.randint(len(settings.strategies), (), generator=generator))
    u = torch.rand(n if settings.per_sample else 1, 3, generator=generator)
    return Draw(settings.strategies[index], u, settings)


def apply(x: Tensor, draw: Draw) -> Tensor:
    """Apply a draw to images x (n, c, h, w). Draws nothing; twice differentiable in x."""
    if draw.strategy == "none":
        return x
    return _STRATEGIES[draw.strategy](x, draw.u.to(x.device, non_blocking=True), draw.settings)


def runs(draws: Sequence[Draw], counts: Sequence[int]) -> list[tuple[Draw, int]]:
    """Draws for groups of consecutive images: draws[i] is for the next counts[i] of them.

    Neighbouring groups with the same strategy become one run with the numbers of each image, so it is applied to all of
    them in one operation.
    """
    merged: list[tuple[Draw, int]] = []
    for drawn, count in zip(draws, counts, strict=True):
        u = drawn.u if len(drawn.u) != 1 else drawn.u.expand(count, 3)
        if merged and merged[-1][0].strategy == drawn.strategy:
            before, images = merged.pop()
            u, count = torch.cat((before.u, u)), images + count
        merged.append((Draw(drawn.strategy, u, drawn.settings), count))
    return merged


def apply_runs(x: Tensor, drawn: Sequence[tuple[Draw, int]], start: int = 0) -> Tensor:
    """Apply runs() to images x (n, c, h, w), which are those from `start` on of all that were drawn for."""
    parts, first = [], -start
    for draw, count in drawn:
        a, b = max(first, 0), min(first + count, len(x))
        if a < b:
            parts.append(apply(x[a:b], Draw(draw.strategy, draw.u[a - first : b - first], draw.settings)))
        first += count
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _color(x: Tensor, u: Tensor, s: recipe.Augment) -> Tensor:
    """Brightness, saturation and contrast in turn; on grey images saturation changes nothing."""
    brightness, saturation, contrast = u.to(x.dtype)[:, :, None, None, None].unbind(1)  # each (m, 1, 1, 1)
    x = x + (brightness - 0.5) * s.brightness
    grey = x.mean(1, keepdim=True)  # (n, 1, h, w)
    x = (x - grey) * (saturation * s.saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)  # (n, 1, 1, 1)
    return (x - mean) * (contrast + s.contrast) + mean


def _crop(x: Tensor, u: Tensor, s: recipe.Augment) -> Tensor:
    """Pad with zeros by a fraction of the side, then crop to the old size."""
    n, c, h, w = x.shape
    pad_h, pad_w = _pixels(h, s.crop_pad), _pixels(w, s.crop_pad)
    rows = _integers(u[:, 0], 2 * pad_h + 1)[:, None] + torch.arange(h, device=x.device)  # (m, h)
    columns = _integers(u[:, 1], 2 * pad_w + 1)[:, None] + torch.arange(w, device=x.device)  # (m, w)
    index = (rows[:, :, None] * (w + 2 * pad_w) + columns[:, None, :]).view(-1, 1, h * w)
    padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h)).flatten(2)
    return padded.gather(2, index.expand(n, c, h * w)).view(n, c, h, w)


def _cutout(x: Tensor, u: Tensor, s: recipe.Augment) -> Tensor:
    """Zero a box around a point drawn from the whole image; the box may be cut off at the borders."""
    cut_rows = _span(u[:, 0], x.shape[2], s.cutout_size)  # (m, h)
    cut_columns = _span(u[:, 1], x.shape[3], s.cutout_size)  # (m, w)
    return x.masked_fill((cut_rows[:, :, None] & cut_columns[:, None, :])[:, None], 0.0)


def _flip(x: Tensor, u: Tensor, s: recipe.Augment) -> Tensor:
    """Mirror left and right with probability flip_probability."""
    return torch.where((u[:, 0] < s.flip_probability)[:, None, None, None], x.flip(3), x)


def _scale(x: Tensor, u: Tensor, s: recipe.Augment) -> Tensor:
    """Sample at coordinates multiplied by factors in [1/ratio, ratio], x and y independently."""
    low = 1 / s.scale_ratio
    factors = low + u[:, :2] * (s.scale_ratio - low)  # (m, 2): x, y
    return _warp(x, torch.diag_embed(factors), s.align_corners)


def _rotate(x: Tensor, u: Tensor, s: recipe.Augment) -> Tensor:
    """Rotate about the centre by an angle within +-rotate_degrees.

    The published code rotates [-1, 1] coordinates, which shears images that are not square: these turn in pixels.
    """
    angle = (2 * u[:, 0] - 1) * math.radians(s.rotate_degrees)
    cos, sin = angle.cos(), angle.sin()
    h, w = (max(side - int(s.align_corners), 1) for side in x.shape[2:])  # pixels that [-1, 1] spans
    return _warp(x, torch.stack((cos, -sin * (h / w), sin * (w / h), cos), 1).view(-1, 2, 2), s.align_corners)


_STRATEGIES = {
    "color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _scale, "rotate": _rotate
}  # fmt: skip


def _warp(x: Tensor, matrix: Tensor, align_corners: bool) -> Tensor:
    """Sample x bilinearly, zero outside, at the pixel grid (x, y in [-1, 1]) times a matrix (m, 2, 2)."""
    theta = F.pad(matrix.to(x.dtype), (0, 1)).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=align_corners)  # (n, h, w, 2)
    return F.grid_sample(x, grid, align_corners=align_corners)


def _span(u: Tensor, size: int, part: float) -> Tensor:
    """(m, size) bool: a span around a drawn point, a fraction `part` of the side long."""
    length = _pixels(size, part)
    start = _integers(u, size + 1 - length % 2)[:, None] - length // 2  # (m, 1)
    offset = torch.arange(size, device=u.device) - start
    return (offset >= 0) & (offset < length)


def _pixels(size: int, part: float) -> int:
    """A fraction of a side in whole pixels, half rounded up."""
    return int(size * part + 0.5)


def _integers(u: Tensor, count: int) -> Tensor:
    """Uniform in [0, 1) to uniform integers 0 .. count-1; the clamp guards against rounding up to count."""
    return (u * count).long().clamp_(max=count - 1)
