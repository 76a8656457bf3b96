"""What networks see in place of [0, 1] pixels, and the way back: `fit(kind, images)` on the training part alone.

A Preprocess goes both ways, and travels with every published set: `state()` is what it is made of, `restored()` makes
it again. Fitting is done on the CPU in float64, so that every device sees the same transform up to its own rounding.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from distill.errors import DataError

CHUNK = 4096
ZCA_EPS = 0.1
ZCA_PODD_EPS = 0.1  # times the mean eigenvalue
ZCA_PIXELS = 64 * 64 * 3  # beyond it the covariance takes gigabytes and its eigenvectors hours


@dataclass(frozen=True, eq=False)
class Preprocess:
    """Images as they are, in [0, 1]; the base of the others."""

    kind = "none"
    """As a recipe names it."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """[0, 1] images (n, c, h, w) to what networks see."""
        return self.forward(pixels)

    def forward(self, x: Tensor) -> Tensor:
        """[0, 1] images (n, c, h, w) to what networks see."""
        return x

    def inverse(self, x: Tensor) -> Tensor:
        """What networks see back to images, not clamped."""
        return x

    def to_pixels(self, x: Tensor) -> Tensor:
        """What networks see back to images in [0, 1], clamped."""
        return self.inverse(x).clamp(0, 1)

    def state(self) -> dict[str, Tensor]:
        """The tensors it is made of, as published sets store them."""
        return {}

    def expected(self, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
        """The shape of each of its tensors for images of `shape` (c, h, w)."""
        return {}

    def fault(self, shape: tuple[int, int, int]) -> str:
        """Why it cannot transform images of `shape` (c, h, w); empty if it can."""
        for name, wanted in self.expected(shape).items():
            if (tensor := getattr(self, name)).shape != wanted or not tensor.is_floating_point():
                return f"preprocess.{name} of shape {tuple(tensor.shape)} is not of images {shape}"
        return ""


@dataclass(frozen=True, eq=False)
class Standardize(Preprocess):
    """Per channel mean 0 and deviation 1; `mean` and `std` are (c, 1, 1)."""

    mean: Tensor
    std: Tensor
    kind = "standardize"

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean.to(x)) / self.std.to(x)

    def inverse(self, x: Tensor) -> Tensor:
        return x * self.std.to(x) + self.mean.to(x)

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "std": self.std}

    def expected(self, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
        return {"mean": (shape[0], 1, 1), "std": (shape[0], 1, 1)}


@dataclass(frozen=True, eq=False)
class Whitening(Preprocess):
    """ZCA, kind a: pixels decorrelated, images still images. `mean` is (d,), `whiten` (d, d), d = c*h*w."""

    mean: Tensor
    whiten: Tensor
    inverse_matrix: Tensor | None = None
    kind = "zca"

    def forward(self, x: Tensor) -> Tensor:
        return ((x.flatten(1) - self.mean.to(x)) @ self.whiten.to(x)).view_as(x)

    def inverse(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.unwhiten.to(x) + self.mean.to(x)).view_as(x)

    @cached_property
    def unwhiten(self) -> Tensor:
        """The inverse of `whiten`, (d, d): as it was fitted, else computed when it is first needed."""
        return _inverse(self.whiten) if self.inverse_matrix is None else self.inverse_matrix

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "whiten": triangle(self.whiten)}

    def expected(self, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
        return {"mean": (math.prod(shape),), "whiten": (math.prod(shape),) * 2}


@dataclass(frozen=True, eq=False)
class NormalisedWhitening(Preprocess):
    """ZCA, kind b: each image brought to mean 0 and length 1, then decorrelated. `whiten` is (d, d), d = c*h*w.

    An image's own mean and length are lost. For pictures the way back gives every image the training images' mean
    `length` and `level`, scalars in [0, 1] pixels, so contrast and brightness are those of a typical image.
    """

    whiten: Tensor
    length: Tensor
    level: Tensor
    inverse_matrix: Tensor | None = None
    kind = "zca-podd"

    def forward(self, x: Tensor) -> Tensor:
        return (_normalised(x.flatten(1))[0] @ self.whiten.to(x)).view_as(x)

    def inverse(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.unwhiten.to(x) * self.length.to(x) + self.level.to(x)).view_as(x)

    @cached_property
    def unwhiten(self) -> Tensor:
        """The inverse of `whiten`, (d, d): as it was fitted, else computed when it is first needed."""
        return _inverse(self.whiten) if self.inverse_matrix is None else self.inverse_matrix

    def state(self) -> dict[str, Tensor]:
        return {"whiten": triangle(self.whiten), "length": self.length, "level": self.level}

    def expected(self, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
        return {"whiten": (math.prod(shape),) * 2, "length": (), "level": ()}


def restored(kind: str, state: dict[str, Tensor]) -> Preprocess:
    """The Preprocess of `kind` from its `state()`. Raises DataError for an unknown kind or a part that is missing."""
    parts = {name: square(t) if name == "whiten" else t for name, t in state.items()}
    for cls in (Preprocess, Standardize, Whitening, NormalisedWhitening):
        if cls.kind == kind:
            try:
                return cls(**parts)
            except TypeError:
                raise DataError(f'preprocessing "{kind}" is incomplete: it has {sorted(parts)}') from None
    raise DataError(f'preprocessing "{kind}" is unknown to this version: use the one that published the set')


def triangle(matrix: Tensor) -> Tensor:
    """A symmetric matrix (d, d) as the rows of its upper triangle, (d * (d + 1) / 2,): half the bytes."""
    d = len(matrix)
    return torch.cat([matrix[i, i:] for i in range(d)])


def square(rows: Tensor) -> Tensor:
    """The symmetric matrix (d, d) of triangle(). Raises DataError if `rows` are not of a triangle."""
    d = (math.isqrt(8 * rows.numel() + 1) - 1) // 2
    if rows.ndim != 1 or d * (d + 1) // 2 != len(rows):
        raise DataError(f"a whitening matrix of shape {tuple(rows.shape)} is not stored as its upper triangle")
    upper = rows.new_zeros(d, d)
    start = 0
    for i in range(d):
        upper[i, i:] = rows[start : start + d - i]
        start += d - i
    return upper + upper.triu(1).T


def refuse_large(kind: str, x: Tensor) -> None:
    """DataError if images x (n, c, h, w) are too large for the preprocessing `kind`."""
    if kind.startswith("zca"):
        _dimensions(x, kind)


def fit(kind: str, x: Tensor, device: torch.device) -> Preprocess:
    """The preprocessing `kind`, as a recipe names it, fitted on uint8 images x (n, c, h, w), n >= 2.

    Its tensors are float32 on `device`. DataError if the images are too large to whiten.
    """
    if kind == "none":
        return Preprocess()
    if kind == "standardize":
        return Standardize(*(t.float().to(device) for t in _channel_statistics(x)))
    if kind == "zca":
        mean, whiten, unwhiten = (t.float().to(device) for t in _zca(x))
        return Whitening(mean, whiten, unwhiten)
    if kind == "zca-podd":
        whiten, unwhiten, length, level = (t.float().to(device) for t in _zca_podd(x))
        return NormalisedWhitening(whiten, length, level, unwhiten)
    raise AssertionError(kind)


def transform(preprocess: Preprocess, x: Tensor, device: torch.device) -> Tensor:
    """uint8 images (n, c, h, w) to one preprocessed float32 tensor on `device`, a chunk at a time."""
    out = torch.empty(x.shape, device=device)
    for rows, part in zip(out.split(CHUNK), x.split(CHUNK), strict=True):
        rows.copy_(preprocess.forward(part.to(device).float().div_(255)))
    return out


def _inverse(matrix: Tensor) -> Tensor:
    return torch.linalg.inv(matrix.double()).to(matrix)


def _channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (c, 1, 1) of each channel in [0, 1], float64, exact from the 256 levels' counts."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([x[:, c].flatten().bincount(minlength=256) for c in range(x.shape[1])]).double()  # (c, 256)
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    std = torch.where(std > 0, std, 1.0)  # a constant channel stays constant
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)


def _zca(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), whitening and inverse matrix (d, d), float64: kornia's ZCAWhitening(eps=0.1, compute_inv=True).

    The symmetric roots (C + eps)^(-1/2) and (C + eps)^(1/2) of the unbiased covariance C of pixels in [0, 1], as the
    MTT family uses them. The covariance is summed in chunks, so no second copy of the images is made.
    """
    n, d = len(x), _dimensions(x, "zca")
    mean = sum(part.flatten(1).sum(0, dtype=torch.int64) for part in x.split(CHUNK)).double() / (255 * n)
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for part in x.split(CHUNK):
        centred = part.flatten(1).float().div_(255).sub_(mean.float())
        covariance += centred.T @ centred
    values, vectors = _eigen(covariance / (n - 1))
    root = values.add(ZCA_EPS).sqrt()
    return mean, (vectors / root) @ vectors.T, (vectors * root) @ vectors.T


def _zca_podd(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whitening and inverse matrix (d, d), mean length and mean level of [0, 1] images, float64.

    As RaT-BPTT and PoDD use it: images less their own mean, over their own L2 norm; covariance C = X^T X / n of these,
    not centred; the symmetric roots (C + 0.1 * mean eigenvalue)^(-1/2) and ^(1/2). Scaling pixels to 0..255 first, as
    published, changes nothing: the norm takes it out.
    """
    d = _dimensions(x, "zca-podd")
    covariance = torch.zeros(d, d, dtype=torch.float64)
    length = level = torch.zeros((), dtype=torch.float64)
    for part in x.split(CHUNK):
        rows, norms, means = _normalised(part.flatten(1).double() / 255)
        covariance += rows.T @ rows
        length, level = length + norms.sum(), level + means.sum()
    values, vectors = _eigen(covariance / len(x))
    root = (values + ZCA_PODD_EPS * values.mean()).sqrt()
    return (vectors / root) @ vectors.T, (vectors * root) @ vectors.T, length / len(x), level / len(x)


def _normalised(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (n, d) less their mean and over their L2 norm, the norms and means (n, 1); a constant row becomes zeros."""
    means = rows.mean(1, keepdim=True)
    rows = rows - means
    norms = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0), norms, means


def _dimensions(x: Tensor, kind: str) -> int:
    """Values of an image. DataError if they are too many for a matrix of them."""
    d = x[0].numel()
    if d > ZCA_PIXELS:
        raise DataError(
            f'dataset.preprocess = "{kind}" on images of shape {tuple(x.shape[1:])} needs a {d} x {d} matrix: '
            f'use "standardize" above 64x64'
        )
    return d


def _eigen(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,), none below zero, and eigenvectors (d, d) of a covariance, which is overwritten."""
    from scipy.linalg import eigh  # takes half a second to import, which every worker would wait for

    values, vectors = eigh(covariance.numpy(), driver="evr", overwrite_a=True, check_finite=False)
    return torch.from_numpy(values).clamp(min=0), torch.from_numpy(vectors)
