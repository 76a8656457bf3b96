"""n images per class, every pixel learned (Wang et al. 2018; DM; MTT).

Two ways to store less: several smaller images in each stored one (multi-formation; IDC, Kim et al. 2022) and 8 bits per
value (distill/levels.py).
"""

import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from distill import levels, recipe, rng
from distill.context import Context
from distill.crops import cut, join
from distill.data.base import Split
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.picture import grid
from distill.published.forms import Images, Windows, enlarge
from distill.recipe import Outer
from distill.recipe.synthetic_base import LABEL_EXPERTS
from distill.selectors import Evidence, members_of, select
from distill.synthetic import patches
from distill.synthetic.base import Budget, Group, Synthetic
from distill.synthetic.starts import published_start, seen_here

LEAST_PROBABILITY = 1e-6
"""Of labels that start from experts and are learned as logits."""


class Pixels(Synthetic, kind="pixels"):
    """Stored images x (classes * ipc, c, h, w), ordered by class; labels y (n, classes) of its n training images.

    Training images are the stored ones or, with a `factor`, the factor^2 parts of each, row by row, enlarged. `spread`
    (2, c) are the levels of images in 8 bits. y are probabilities, or logits if the labels started from experts.
    """

    def __init__(self, x: Tensor, y: Tensor, labels: recipe.Labels, factor: int = 1, spread: Tensor | None = None):
        super().__init__()
        self.label_settings, self.classes, self.factor = labels, y.shape[1], factor
        self.x = nn.Parameter(x)
        self.y = nn.Parameter(y, requires_grad=labels.mode == "learned")
        self.register_buffer("spread", spread)
        self.part, corners = parts(len(x), tuple(x.shape[2:]), factor) if factor > 1 else (tuple(x.shape[2:]), None)
        self.register_buffer("corners", None if corners is None else corners.to(x.device), persistent=False)

    @classmethod
    def build(cls, settings: recipe.Pixels, context: Context) -> "Pixels":
        """Real images, random or chosen by a selector, those of a published set, or noise with the data's mean and
        standard deviation.

        Raises DataError when a class has too few images or the published set cannot be read, and RecipeError when init
        or labels need experts that are missing, the published set does not fit, or the factor is larger than an image.
        """
        train, g = context.data.train, rng.generator(context.seed, "synthetic init")
        per_class = settings.ipc * settings.factor**2
        if settings.init == "noise":
            x = _noise(settings, context)
        elif settings.file:
            x = put_together(_published_images(settings, context, per_class), settings.factor)
        elif settings.init == "real":
            x = put_together(real_images(train, context.classes, per_class, g), settings.factor)
        else:
            rows = select(settings.init, Evidence(context), [per_class] * context.classes, g)
            x = put_together(train.x[rows.to(train.x.device)].clone(), settings.factor)
        made = _of(settings, context, x)
        if settings.labels.by_experts:
            with torch.no_grad():
                y = _expert_labels(context, made.images(torch.arange(len(made)), g))
                made.y.copy_(y.clamp(min=LEAST_PROBABILITY).log() if made.logits else y)
        return made

    @classmethod
    def blank(cls, settings: recipe.Pixels, context: Context) -> "Pixels":
        """Noise with one-hot labels, without reading the set that the images start from. Raises DataError if a class
        has too few images for the initialisation, and RecipeError for a factor that is larger than an image."""
        for c in range(context.classes) if settings.init != "noise" and not settings.file else ():
            members_of(context.data.train, c, settings.ipc * settings.factor**2)
        return _of(settings, context, _noise(settings, context))

    @classmethod
    def check(cls, settings: recipe.Pixels, context: Context) -> None:
        super().check(settings, context)
        if settings.file:
            _published_images(settings, context, settings.ipc * settings.factor**2)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def logits(self) -> bool:
        """Whether y are logits, not probabilities."""
        return self.label_settings.mode == "learned" and self.label_settings.by_experts

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        x, index = self.values(), index.to(self.x.device)
        if self.factor == 1:
            return x if len(index) == len(self) else x[index]
        return enlarge(cut(x, self.corners[index], self.part), tuple(x.shape[2:]))

    def values(self) -> Tensor:
        """The stored images (m, c, h, w) as networks see them: x, in 8 bits rounded to levels."""
        return self.x if self.spread is None else levels.rounded(self.x, self.spread)

    def labels(self, index: Tensor) -> Tensor:
        y = self.y if len(index) == len(self) else self.y[index.to(self.y.device)]
        return y.softmax(1) if self.logits else y

    def project(self) -> None:
        with torch.no_grad():
            if not self.logits:
                self.y.clamp_(min=0)
            if self.spread is not None:
                self.x.copy_(levels.clamp(self.x, self.spread))

    def parameter_groups(self, outer: Outer) -> list[Group]:
        groups = [Group([self.x], outer.lr_img)]
        return groups + [Group([self.y], self.label_settings.lr)] if self.y.requires_grad else groups

    def published_state(self) -> dict[str, Tensor]:
        """Images in 8 bits as levels: the values between them are only for learning."""
        state = self.learned_state()
        return state if self.spread is None else state | {"x": levels.to_levels(self.x.detach(), self.spread)}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        if state["x"].dtype == torch.uint8:
            state = state | {"x": levels.from_levels(state["x"], state["spread"])}
        self.load_state_dict(state)

    def budget(self) -> Budget:
        """Images, the levels of those in 8 bits, and labels unless they are plain classes."""
        floats, bits = {"images": self.x.numel()}, {}
        if self.spread is not None:
            floats, bits = floats | {"spread": self.spread.numel()}, {"images": 8}
        if self.label_settings.mode != "hard":
            floats["labels"] = self.y.numel()
        return Budget(floats, bits=bits)

    def stored(self) -> Images | Windows:
        with torch.no_grad():
            x, y = self.values().detach(), self.labels(torch.arange(len(self))).detach()
        if self.factor == 1:
            return Images(x, y, self.spread)
        return Windows(x, self.corners, self.part, y, enlarged=tuple(x.shape[2:]), spread=self.spread)

    def describe(self) -> str:
        grids = f", {len(self.x)} images of {self.factor}x{self.factor} parts" if self.factor > 1 else ""
        return super().describe() + grids + (", 8 bits" if self.spread is not None else "")

    def pictures(self, preprocess: Preprocess, classes: tuple[str, ...]) -> dict[str, Image.Image]:
        """The training images and, if they are parts of stored ones, those."""
        shown = super().pictures(preprocess, classes)
        if self.factor == 1:
            return shown
        names = [classes[k] for k in range(self.classes) for _ in range(len(self.x) // self.classes)]
        return shown | {"stored": grid(self.stored().shown(preprocess.to_pixels), labels=names)}


def parts(images: int, size: tuple[int, int], factor: int) -> tuple[tuple[int, int], Tensor]:
    """(height, width) of the factor^2 parts of each image of `size`, and their corners (images * factor^2, 3).

    Parts of a side that the factor does not divide are rounded up, so that they overlap. Raises RecipeError for a
    factor that is larger than a side.
    """
    if factor > min(size):
        raise RecipeError(f"synthetic.factor = {factor}: images of {size[1]}x{size[0]} have fewer pixels: lower it")
    part = tuple(math.ceil(length / factor) for length in size)
    tops, lefts = (patches.starts(length, window, factor) for length, window in zip(size, part, strict=True))
    return part, patches.corners(images, tops, lefts)


def put_together(x: Tensor, factor: int) -> Tensor:
    """Images (n / factor^2, c, h, w), each of factor^2 of the images x (n, c, h, w), shrunk; overlaps are averaged."""
    if factor == 1:
        return x
    n, shape = len(x) // factor**2, x.shape[1:]
    part, corners = parts(n, tuple(shape[1:]), factor)
    return join(F.interpolate(x, part, mode="area"), corners.to(x.device), (n, *shape))


def _of(settings: recipe.Pixels, context: Context, x: Tensor) -> Pixels:
    """The set of a recipe with stored images x, and one-hot labels."""
    spread = levels.spread_of(context.data.train.x) if settings.bits == 8 else None
    made = Pixels(x, _one_hot(settings, context), settings.labels, settings.factor, spread)
    made.project()
    return made


def real_images(split: Split, classes: int, per_class: int, g: torch.Generator) -> Tensor:
    """Random images (classes * per_class, c, h, w), ordered by class. Raises DataError when a class has too few."""
    members = [members_of(split, c, per_class) for c in range(classes)]
    rows = torch.cat([rows[torch.randperm(len(rows), generator=g)[:per_class]] for rows in members])
    return split.x[rows.to(split.x.device)].clone()


def _published_images(settings: recipe.Pixels, context: Context, per_class: int) -> Tensor:
    """The first images (classes * per_class, c, h, w) of each class of a published set, as networks of this recipe see
    them; an image is of the class that most of its label is. Raises DataError and RecipeError as published_start, and
    if a class has too few."""
    published = published_start(settings, context)
    of_class = published.labels.argmax(1)
    counts = of_class.bincount(minlength=context.classes)
    if counts.min() < per_class:
        label, possible = int(counts.argmin()), int(counts.min()) // settings.factor**2
        raise RecipeError(
            f"synthetic.init: of class {context.data.classes[label]!r} {per_class} images are needed, but the set has "
            f"{counts[label]}: " + (f"set synthetic.ipc={possible}" if possible else "give a larger set")
        )
    rows = torch.cat([(of_class == c).nonzero().flatten()[:per_class] for c in range(context.classes)])
    x = published.images[rows].to(context.data.train.x)
    return seen_here(x, published.preprocess, context.data.preprocess).clone()


def _noise(settings: recipe.Pixels, context: Context) -> Tensor:
    data, g = context.data, rng.generator(context.seed, "synthetic init")
    x = torch.randn(context.classes * settings.ipc, *data.shape, generator=g)
    return (x * data.train.x.std().cpu() + data.train.x.mean().cpu()).to(data.train.x.device)


def _one_hot(settings: recipe.Pixels, context: Context) -> Tensor:
    classes = torch.arange(context.classes).repeat_interleave(settings.ipc * settings.factor**2)
    return F.one_hot(classes, context.classes).to(context.data.train.x)


def _expert_labels(context: Context, x: Tensor) -> Tensor:
    """Mean probabilities (n, classes) of up to LABEL_EXPERTS experts after their last epoch."""
    if context.experts is None:
        raise RecipeError('synthetic.labels.mode = "expert" needs expert trajectories: run `stillhouse experts` first')
    last = context.experts.epochs[-1]
    with torch.no_grad():
        probabilities = [
            context.network(context.experts.snapshot(e, last).to(x.device), x).softmax(1)
            for e in range(min(context.experts.count, LABEL_EXPERTS))
        ]
    return torch.stack(probabilities).mean(0)
