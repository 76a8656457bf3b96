"""One seamless canvas per class: every crop of it is a training image, those across its edges too.

Wearable ImageNet (Cazenavette et al. 2022), algorithm 1. A canvas is larger than an image and has no border: copies of
it are laid out over the plane by a pattern, and each training image is a crop of the plane at a uniformly random place,
drawn anew for every image and step. Since every crop has to be good training data, the edges come to match.
"""

import logging
import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.crops import cut_grid, join_at, look_up
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.picture import grid
from distill.published.forms import Windows
from distill.recipe import Sampling
from distill.seam import seam
from distill.synthetic.base import Budget, Synthetic, too_large
from distill.synthetic.patches import Size, closest_size
from distill.synthetic.pixels import Pixels, real_images

SPECTRUM_IMAGES = 256
"""Real images, at most, whose power spectrum the spectrum penalty aims at."""
log = logging.getLogger("stillhouse")


class Canvas(Synthetic, kind="canvas"):
    """Canvases x (classes * canvases, c, H, W), ordered by class; items are crops, `crops` of each canvas per pass."""

    def __init__(self, settings: recipe.Canvas, x: Tensor, image: Size, classes: int):
        super().__init__()
        self.settings, self.image, self.classes = settings, image, classes
        self.size: Size = tuple(x.shape[2:])
        self.x = nn.Parameter(x)
        self.register_buffer("target_spectrum", torch.empty(0), persistent=False)

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: recipe.Canvas, context: Context) -> "Canvas":
        """Canvases of noise, or of real images side by side or blended.

        Raises RecipeError for a canvas smaller than an image, DataError when a class has too few images to start from.
        """
        canvas = cls.blank(settings, context)
        if settings.init != "noise":
            with torch.no_grad():
                canvas.x.copy_(_real_start(canvas, context))
        if settings.init == "real":
            log.warning('synthetic.init = "real": real images side by side leave seams; "blend" does not')
        if settings.spectrum:
            train = context.data.train.x[:SPECTRUM_IMAGES]
            canvas.target_spectrum = spectrum(train)
        return canvas

    @classmethod
    def blank(cls, settings: recipe.Canvas, context: Context) -> "Canvas":
        image = context.data.shape[1:]
        size = canvas_size(settings, image)
        n = context.classes * settings.canvases
        x = torch.randn(n, context.data.shape[0], *size, generator=rng.generator(context.seed, "synthetic init"))
        train = context.data.train.x
        return cls(settings, (x * train.std().cpu() + train.mean().cpu()).to(train), image, context.classes)

    @classmethod
    def sized(cls, settings: recipe.Canvas, context: Context, floats: int) -> recipe.Canvas:
        """The number of canvases stays; their sides are solved for."""
        channels, *image = context.data.shape
        canvases = context.classes * settings.canvases
        size = closest_size(floats // (canvases * channels), tuple(image), settings.pattern == "half-drop")
        if size is None:
            raise too_large(context, canvases * math.prod(context.data.shape), floats)
        return settings.model_copy(update=dict(zip(("height", "width"), size, strict=True)))

    # ------------------------------------------------------------ training images

    def __len__(self) -> int:
        return len(self.x) * self.settings.crops

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        canvas = index // self.settings.crops
        u = torch.rand(len(index), 2, generator=generator)  # top, left
        spans = torch.tensor(self._spans())
        corner = torch.minimum((u * spans).long(), spans - 1)
        return self._cut(torch.cat([canvas[:, None], corner], 1))

    def labels(self, index: Tensor) -> Tensor:
        canvas = (index // self.settings.crops).to(self.x.device)
        return F.one_hot(canvas // self.settings.canvases, self.classes).to(self.x)

    def sampled(self, settings: Sampling, generator: torch.Generator) -> Synthetic:
        if not settings.per_class:
            return self
        per_canvas = -(-settings.per_class // self.settings.canvases)
        index = torch.arange(len(self.x)).repeat_interleave(per_canvas) * self.settings.crops
        with torch.no_grad():
            return Pixels(self.images(index, generator), self.labels(index), recipe.Labels())

    def penalty(self, step: int, generator: torch.Generator) -> Tensor | float:
        """Total variation over the plane, and the distance of the crops' log power spectrum from the real images'."""
        s, total = self.settings, 0.0
        if s.tv:
            total = total + s.tv * self.total_variation()
        if s.spectrum:
            crops = self.images(torch.arange(len(self)), generator)
            total = total + s.spectrum * (spectrum(crops) - self.target_spectrum.to(crops)).square().mean()
        return total

    def total_variation(self) -> Tensor:
        """Mean absolute step between neighbouring pixels, across the edges where the canvas continues there."""
        (height, width), steps = self.size, []
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        for down, right in ((1, 0), (0, 1)):
            r, c = rows + down, columns + right
            inside = (r < height) if self.settings.wrap == "x" else (r > -1)
            inside = inside & ((c < width) if self.settings.wrap == "y" else (c > -1))
            there = self._flat(torch.arange(len(self.x)), (r % (2 * height)).expand(height, width)[None],
                               (c % (2 * width)).expand(height, width)[None])  # fmt: skip
            steps.append((look_up(self.x, there) - self.x).abs()[..., inside.expand(height, width)].mean())
        return torch.stack(steps).mean()

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        return Budget({"canvases": self.x.numel()})

    def stored(self) -> Windows:
        """One period of the plane, and evenly spaced crops that overlap by half."""
        plane = self.plane()
        starts = [
            _starts(length, window, cyclic)
            for length, window, cyclic in zip(
                plane.shape[2:], self.image, (self.settings.wrap != "x", self.settings.wrap != "y"), strict=True
            )
        ]
        corners = torch.cartesian_prod(torch.arange(len(self.x)), *starts).to(plane.device)
        y = self.labels(corners[:, 0] * self.settings.crops)
        wraps = (self.settings.wrap != "x", self.settings.wrap != "y")
        return Windows(plane, corners, self.image, y.detach(), wraps)

    def plane(self) -> Tensor:
        """One period of the pattern (m, c, H', W'), detached: the canvas itself for p1."""
        (height, width), pattern = self.size, self.settings.pattern
        shape = {"p1": (height, width), "half-drop": (height, 2 * width), "mirror": (2 * height, 2 * width)}[pattern]
        rows, columns = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
        return look_up(self.x.detach(), self._flat(torch.arange(len(self.x)), rows[None], columns[None]))

    def describe(self) -> str:
        height, width = self.size
        per_class = f"{self.settings.canvases} per class" if self.settings.canvases > 1 else "one per class"
        return f"{len(self.x)} canvases of {width}x{height}, {per_class}, pattern {self.settings.pattern}"

    def measures(self, preprocess: Preprocess) -> dict[str, float]:
        """How visible the seams are, on average over the canvases: 0.8 to 1.2 is seamless."""
        shown = self.stored().shown(preprocess.to_pixels)
        each = [seam(image).as_dict() for image in shown]
        return {name: sum(one[name] for one in each) / len(each) for name in each[0]}

    def pictures(self, preprocess: Preprocess, classes: tuple[str, ...]) -> dict[str, Image.Image]:
        """The canvases, their 3x3 tilings, and some crops."""
        stored = self.stored()
        shown = stored.shown(preprocess.to_pixels)
        names = [classes[k // self.settings.canvases] for k in range(len(self.x))]
        columns = min(5, len(names))
        tiled = shown.repeat(1, 1, 3 if self.settings.wrap != "x" else 1, 3 if self.settings.wrap != "y" else 1)
        some = stored.pixels(shown)[:: max(1, len(stored) // 40)]
        return {
            "synthetic": grid(shown, columns=columns, scale=1 if shown.shape[3] >= 96 else None, labels=names),
            "tiled": grid(tiled, columns=columns, scale=1, labels=names),
            "crops": grid(some, columns=10),
        }

    # ------------------------------------------------------------ the plane

    def _spans(self) -> Size:
        """How many different tops and lefts a crop may have."""
        (height, width), (h, w), s = self.size, self.image, self.settings
        times = 2 if s.pattern == "mirror" else 1
        tops = height - h + 1 if s.wrap == "x" else times * height
        lefts = width - w + 1 if s.wrap == "y" else (2 if s.pattern == "half-drop" else times) * width
        return tops, lefts

    def _cut(self, corners: Tensor) -> Tensor:
        """Crops (n, c, h, w) at corners (n, 3): canvas, and top and left in the plane."""
        canvas, rows, columns = (t.to(self.x.device) for t in _windows(corners, self.image))
        if self.settings.pattern == "half-drop":  # a row of the plane is not a row of the canvas
            return look_up(self.x, self._flat(canvas, rows[:, :, None], columns[:, None, :]))
        return cut_grid(self.x, canvas, self._fold(rows, 0), self._fold(columns, 1))

    def _flat(self, canvas: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(n, h, w): where pixels of the plane are among the pixels of all canvases; rows and columns broadcast."""
        height, width = self.size
        if self.settings.pattern == "half-drop":
            rows = rows + columns // width % 2 * (height // 2)
        rows, columns = self._fold(rows, 0), self._fold(columns, 1)
        return ((canvas[:, None, None] * height + rows) * width + columns).to(self.x.device)

    def _fold(self, k: Tensor, axis: int) -> Tensor:
        """Rows (axis 0) or columns (1) of the plane to those of the canvas."""
        n = self.size[axis]
        if self.settings.pattern == "mirror":
            return torch.minimum(k % (2 * n), 2 * n - 1 - k % (2 * n))
        return k % n


def _windows(corners: Tensor, image: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Canvas (n,), rows (n, h) and columns (n, w) of windows at corners (n, 3)."""
    return corners[:, 0], corners[:, 1, None] + torch.arange(image[0]), corners[:, 2, None] + torch.arange(image[1])


def canvas_size(settings: recipe.Canvas, image: Size) -> Size:
    """(height, width) of the canvases of a recipe. Raises RecipeError when they are smaller than an image."""
    h, w = image
    height, width = (settings.height, settings.width) if settings.height else (round(settings.scale * k) for k in image)
    if height < h or width < w:
        raise RecipeError(
            f"synthetic.height: a canvas of {width}x{height} is smaller than an image of {w}x{h}: make it larger"
        )
    if settings.pattern == "half-drop" and height % 2:
        raise RecipeError(f"synthetic.height = {height}: half-drop needs an even height")
    return height, width


def spectrum(x: Tensor, bins: int = 16) -> Tensor:
    """Log power of images x (n, c, h, w) by spatial frequency, (bins,): radial means under a Hann window."""
    h, w = x.shape[2:]
    window = torch.hann_window(h, device=x.device)[:, None] * torch.hann_window(w, device=x.device)
    power = torch.fft.fft2((x - x.mean((2, 3), keepdim=True)) * window).abs().square().mean((0, 1))  # (h, w)
    radius = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w)).to(x.device)
    ring = (radius / 0.5 * bins).long().clamp(max=bins - 1).flatten()
    total = power.new_zeros(bins).index_add(0, ring, power.flatten())
    count = power.new_zeros(bins).index_add(0, ring, torch.ones_like(power.flatten()))
    return (total / count.clamp(min=1) + 1e-8).log()


def _starts(length: int, window: int, cyclic: bool) -> Tensor:
    """First pixels of windows that overlap by half, at least."""
    if cyclic:
        count = max(1, math.ceil(2 * length / window))
        return torch.arange(count) * length // count
    return torch.linspace(0, length - window, max(2, math.ceil(2 * (length - window) / window) + 1)).round().long()


def _real_start(canvas: Canvas, context: Context) -> Tensor:
    """Canvases (m, c, H, W) of real images of their class: side by side, or each faded into its neighbours."""
    settings, (height, width), (h, w) = canvas.settings, canvas.size, canvas.image
    blend = settings.init == "blend"
    down, across = (n // k + 1 if blend else math.ceil(n / k) for n, k in ((height, h), (width, w)))
    each = down * across * settings.canvases
    images = real_images(context.data.train, context.classes, each, rng.generator(context.seed, "canvas start"))
    places = torch.cartesian_prod(torch.arange(down) * height // down, torch.arange(across) * width // across)
    corners = torch.cat([torch.arange(len(canvas.x)).repeat_interleave(len(places))[:, None],
                         places.repeat(len(canvas.x), 1)], 1)  # fmt: skip
    owner, rows, columns = _windows(corners, (h, w))
    flat = canvas._flat(owner, rows[:, :, None], columns[:, None, :])
    fade = [1 - (2 * (torch.arange(k) + 0.5) / k - 1).abs() for k in (h, w)]
    weight = fade[0][:, None] * fade[1] if blend else torch.ones(h, w)
    return join_at(images, flat, tuple(canvas.x.shape), weight.to(images))
