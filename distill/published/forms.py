"""The forms in which a distilled set is stored. All code that reads published sets uses this union:

    Images    the training images themselves
    Windows   larger images, and the positions of the training images in them: posters, canvases, several small ones
    Sampler   weights, and the module that draws training images from them: generators

Each has `images()`, `y` and a length, so that training on a set does not depend on its form.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor

from distill.crops import cut, join
from distill.errors import DataError
from distill.levels import LAST, from_levels, to_levels
from distill.tiles import lay_out

MOST_ENLARGED = 64
"""A file whose windows are to be enlarged by more than this is damaged."""

ToPixels = Callable[[Tensor], Tensor]
"""Converts images (n, c, h, w) as networks see them to pixels in [0, 1]."""


class _StoresImages:
    """What forms share that hold their images as a tensor x."""

    x: Tensor
    spread: Tensor | None
    """Of sets in 8 bits: lowest value and step of the levels of each channel, float32 (2, c) (distill/levels.py)."""

    def fits(self, shown: Tensor) -> bool:
        """Whether `shown` has the shape of shown()."""
        return shown.shape == self.x.shape

    @property
    def version(self) -> int:
        """The first format version that has all that this set uses."""
        return 3 if self.spread is None else 4

    def _x_tensors(self, name: str) -> dict[str, Tensor]:
        """x as its file has it: as it is or, of a set in 8 bits, as levels."""
        return {name: self.x} if self.spread is None else {name: to_levels(self.x, self.spread), "spread": self.spread}

    def fresh(self, labels: Tensor, generator: torch.Generator, truncation: float) -> Tensor:
        """New images (n, c, h, w) of the classes `labels` (n,). Raises DataError for a form that stores its images."""
        raise DataError("this set stores its training images and has no others to draw: use images and labels")


@dataclass(frozen=True)
class Images(_StoresImages):
    """Training images as tensors."""

    x: Tensor
    """As networks see them, float32 (n, c, h, w)."""
    y: Tensor
    """Label probabilities, float32 (n, classes)."""
    spread: Tensor | None = None

    form = "images"

    def __len__(self) -> int:
        return len(self.x)

    def images(self) -> Tensor:
        """The training images (n, c, h, w) as networks see them."""
        return self.x

    def cpu(self) -> "Images":
        """A copy on the CPU."""
        return Images(self.x.cpu(), self.y.cpu(), _cpu(self.spread))

    def shown(self, to_pixels: ToPixels) -> Tensor:
        """The stored images in [0, 1]."""
        return _as_stored(to_pixels(self.x), self.spread)

    def pixels(self, shown: Tensor) -> Tensor:
        """The training images (n, c, h, w) in [0, 1], from shown()."""
        return shown

    def tensors(self) -> dict[str, Tensor]:
        """The tensors in its file."""
        return {**self._x_tensors("x"), "y": self.y}

    def about(self) -> dict[str, Any]:
        """The JSON values in its file."""
        return {}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], about: dict[str, Any]) -> "Images":
        """From tensors() and about(). Raises KeyError if one is missing, DataError if they do not fit together."""
        return cls(_x_of(tensors, "x"), tensors["y"], tensors.get("spread"))

    def fault(self) -> str:
        """What does not fit together; empty if all is well."""
        return _not_images(self.x) or _not_labels(self.y, len(self))

    def image_shape(self) -> tuple[int, int, int] | None:
        """(c, h, w) of a training image; None if only drawing one would tell."""
        return tuple(self.x.shape[1:])


@dataclass(frozen=True)
class Windows(_StoresImages):
    """Larger images and the positions of training images in them; windows wrap around the edges."""

    x: Tensor
    """The larger images as networks see them, float32 (m, c, H, W)."""
    corners: Tensor
    """Index of the larger image, top and left of each window, int64 (n, 3)."""
    size: tuple[int, int]
    """(h, w) of a window."""
    y: Tensor
    """Label probabilities of the windows, float32 (n, classes)."""
    wraps: tuple[bool, bool] = (False, False)
    """Whether the larger images are seamless from bottom to top and from right to left."""
    colours: int = 0
    """If the larger images are sets of Wang tiles: how many colours their edges have (distill/tiles.py); else 0."""
    enlarged: tuple[int, int] | None = None
    """(h, w) to which windows are enlarged bilinearly; None: training images are as large as windows."""
    spread: Tensor | None = None

    form = "windows"

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def version(self) -> int:
        return 4 if self.enlarged else super().version

    def images(self) -> Tensor:
        return self.pixels(self.x)

    def cpu(self) -> "Windows":
        return replace(self, x=self.x.cpu(), corners=self.corners.cpu(), y=self.y.cpu(), spread=_cpu(self.spread))

    def shown(self, to_pixels: ToPixels) -> Tensor:
        """The larger images in [0, 1]: preprocessing is undone per window and overlaps are averaged; gaps are grey."""
        windows = to_pixels(self.images())
        if self.enlarged:
            windows = F.interpolate(windows, self.size, mode="area")
        return _as_stored(join(windows, self.corners, tuple(self.x.shape), empty=0.5), self.spread)

    def pixels(self, shown: Tensor) -> Tensor:
        windows = cut(shown, self.corners, self.size)
        return enlarge(windows, self.enlarged) if self.enlarged else windows

    def fill(self, shown: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Pictures (m, c, height, width) that continue each of the larger images, given in [0, 1] by shown(), over any
        size: copies side by side, or a random legal layout of Wang tiles."""
        if self.colours:
            return lay_out(shown, self.colours, height, width, generator)
        rows, columns = torch.arange(height) % shown.shape[2], torch.arange(width) % shown.shape[3]
        return shown[:, :, rows[:, None], columns]

    def tensors(self) -> dict[str, Tensor]:
        return {**self._x_tensors("crops.x"), "crops.corners": self.corners, "y": self.y}

    def about(self) -> dict[str, Any]:
        seamless = {"wraps": list(self.wraps)} if any(self.wraps) else {}
        more = ({"colours": self.colours} if self.colours else {}) | (
            {"enlarged": list(self.enlarged)} if self.enlarged else {}
        )
        return {"crop": list(self.size)} | seamless | more

    @classmethod
    def of(cls, tensors: dict[str, Tensor], about: dict[str, Any]) -> "Windows":
        x, corners, size = _x_of(tensors, "crops.x"), tensors["crops.corners"], tuple(about["crop"])
        wraps, colours = tuple(about.get("wraps", (False, False))), about.get("colours", 0)
        enlarged = about.get("enlarged")
        return cls(
            x, corners, size, tensors["y"], wraps, colours, tuple(enlarged) if enlarged else None, tensors.get("spread")
        )

    def fault(self) -> str:
        if fault := _not_images(self.x):
            return fault
        if self.corners.ndim != 2 or self.corners.shape[1] != 3 or self.corners.dtype != torch.int64:
            return f"corners of shape {tuple(self.corners.shape)}, {self.corners.dtype}, are not int64 (n, 3)"
        (m, _, height, width), (h, w) = self.x.shape, self.size
        if not 0 < h <= height or not 0 < w <= width:
            return f"windows of {h}x{w} do not fit into images of {height}x{width}"
        if self.enlarged and not all(
            k <= n <= MOST_ENLARGED * k for k, n in zip(self.size, self.enlarged, strict=True)
        ):
            return f"windows of {h}x{w} are not enlarged to {self.enlarged[0]}x{self.enlarged[1]}"
        inside = (self.corners >= 0) & (self.corners < self.corners.new_tensor([m, height, width]))
        return _not_labels(self.y, len(self)) if inside.all() else "windows are outside of the images that contain them"

    def image_shape(self) -> tuple[int, int, int] | None:
        return self.x.shape[1], *(self.enlarged or self.size)


class SamplerHeader(BaseModel):
    """The JSON values of a Sampler in a file."""

    model_config = ConfigDict(extra="forbid")
    module: str
    settings: dict[str, Any]
    classes: PositiveInt
    per_class: PositiveInt


SAMPLER_MODULES = ("distill.nets.",)
"""Packages that may contain the modules of samplers; a file that names another is refused."""
MOST_SAMPLES = 1_000_000
"""Images in the training set that a sampler draws by default, at most."""


@dataclass(frozen=True)
class Sampler:
    """Weights and the module that draws any number of images from them.

    The module imports only torch and the standard library, so that its source can be stored with a set, and has

        draw(weights, settings, labels (n,), generator, truncation) -> images (n, c, h, w) as networks see them

    and, if it can, `between(weights, settings, labels (n,), seeds, frames, truncation)` -> (frames, n, c, h, w), and
    `fault(weights, settings, classes)`, what is wrong with weights and settings from a file.
    """

    weights: dict[str, Tensor]
    module: str
    """Dotted name, inside one of SAMPLER_MODULES."""
    settings: dict[str, Any]
    """JSON values for draw()."""
    classes: int
    per_class: int
    """Images per class of one training set, by default."""

    form = "sampler"
    version = 3

    def __len__(self) -> int:
        return self.per_class * self.classes

    @property
    def y(self) -> Tensor:
        """Labels (n, classes) of images(), ordered by class."""
        return F.one_hot(self._labels(), self.classes).float()

    def images(self) -> Tensor:
        """One training set, always the same."""
        return self.fresh(self._labels(), torch.Generator().manual_seed(0))

    def fresh(self, labels: Tensor, generator: torch.Generator, truncation: float = 1.0) -> Tensor:
        """Images (n, c, h, w) of the classes `labels` (n,) as networks see them."""
        with torch.no_grad():
            return self._code().draw(self.weights, self.settings, labels, generator, truncation)

    def between(self, labels: Tensor, seeds: tuple[int, int], frames: int, truncation: float = 1.0) -> Tensor:
        """Images (frames, n, c, h, w) of the classes `labels` (n,) on the way from one seed's to another's.

        Raises DataError if its module has no way between two images.
        """
        if not hasattr(self._code(), "between"):
            raise DataError(f"{self.module} has no way between two images: draw them by seed alone")
        return self._code().between(self.weights, self.settings, labels, seeds, frames, truncation)

    def cpu(self) -> "Sampler":
        return replace(self, weights={name: t.cpu() for name, t in self.weights.items()})

    def shown(self, to_pixels: ToPixels) -> Tensor:
        return to_pixels(self.images())

    def pixels(self, shown: Tensor) -> Tensor:
        return shown

    def tensors(self) -> dict[str, Tensor]:
        return {f"sampler.{name}": tensor for name, tensor in self.weights.items()}

    def about(self) -> dict[str, Any]:
        about = {"module": self.module, "settings": self.settings, "classes": self.classes, "per_class": self.per_class}
        return {"sampler": about, "code": inspect.getsource(self._code())}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], about: dict[str, Any]) -> "Sampler":
        weights = {k.removeprefix("sampler."): t for k, t in tensors.items() if k.startswith("sampler.")}
        return cls(weights, **about["sampler"])

    def fits(self, shown: Tensor) -> bool:
        return shown.ndim == 4 and len(shown) == len(self)

    def image_shape(self) -> tuple[int, int, int] | None:
        return None

    def fault(self) -> str:
        try:
            check = getattr(self._code(), "fault", None)
        except DataError as error:
            return str(error)
        if len(self) > MOST_SAMPLES:
            return f"{self.per_class:,} images of each of {self.classes} classes are more than {MOST_SAMPLES:,}"
        return check(self.weights, self.settings, self.classes) if check else ""

    def _labels(self) -> Tensor:
        return torch.arange(self.classes).repeat_interleave(self.per_class)

    def _code(self) -> ModuleType:
        """The installed module of that name: code inside a file is never run."""
        try:
            if not self.module.startswith(SAMPLER_MODULES):
                raise ModuleNotFoundError
            module = import_module(self.module)
            if not callable(getattr(module, "draw", None)):
                raise ModuleNotFoundError
            return module
        except ModuleNotFoundError:
            raise DataError(f"its images are drawn by {self.module}, which this Stillhouse does not have") from None


Stored = Images | Windows | Sampler
FORMS: dict[str, type[Stored]] = {cls.form: cls for cls in (Images, Windows, Sampler)}


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Images x (n, c, h, w) at a larger size, bilinearly, with pixels as squares (align_corners = False)."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()


def _as_stored(shown: Tensor, spread: Tensor | None) -> Tensor:
    """Images in [0, 1] for looking at: those of a set in 8 bits have 256 levels, as its file has."""
    return shown if spread is None else shown.mul(LAST).round() / LAST


def _x_of(tensors: dict[str, Tensor], name: str) -> Tensor:
    """The values of x in a file, which has them as they are or as levels. Raises DataError if they do not fit."""
    x, spread = tensors[name], tensors.get("spread")
    if spread is None:
        return x
    if x.dtype != torch.uint8 or x.ndim != 4 or spread.shape != (2, x.shape[1]) or not spread.is_floating_point():
        raise DataError(f"{name} {tuple(x.shape)}, {x.dtype}, and spread {tuple(spread.shape)} do not fit together")
    return from_levels(x, spread)


def _not_images(x: Tensor) -> str:
    return "" if x.ndim == 4 and x.is_floating_point() else f"images of shape {tuple(x.shape)} are not (n, c, h, w)"


def _not_labels(y: Tensor, n: int) -> str:
    good = y.ndim == 2 and len(y) == n and y.is_floating_point()
    return "" if good else f"labels of shape {tuple(y.shape)} and {n} images do not fit together"
