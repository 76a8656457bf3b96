"""One image for all classes: training images are overlapping patches with soft labels (PoDD, Shul et al. 2024).

Less than one image per class is possible because patches of different classes share pixels. Algorithm 1 of the paper;
the labels (PoDDL) are in distill/synthetic/label_grid.py, the order of classes (PoCO) in distill/order/.
"""

import math
from bisect import bisect_right

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from distill import order as ordering
from distill import recipe, rng
from distill.context import Context
from distill.crops import cut, join, warp
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.order.embeddings import FROM_IMAGES
from distill.published.forms import Windows
from distill.recipe import Outer
from distill.synthetic import label_grid, patches, poster_view
from distill.synthetic.base import Budget, Group, Synthetic, too_large
from distill.synthetic.patches import Size
from distill.synthetic.pixels import real_images


class Poster(Synthetic, kind="poster"):
    """Posters x (m, c, H, W), m = 1 or one per class; items are the patches, ordered by poster, then row by row.

    `order` (m, rows, columns) is the class grid, `y` (m, cells, classes) the learned label grid, if labels are learned.
    All its tensors are on the device of x.
    """

    def __init__(self, settings: recipe.Poster, x: Tensor, order: Tensor, image: Size, cells: Size, classes: int):
        super().__init__()
        self.settings, self.image, self.classes = settings, image, classes
        self.size = tuple(x.shape[2:])
        self.counts = patches.counts(settings, self.size, image, order.shape[1:])
        tops, lefts = (
            patches.starts(length, window, count, settings.cyclic)
            for length, window, count in zip(self.size, image, self.counts, strict=True)
        )
        corners, order = patches.corners(len(x), tops, lefts).to(x.device), order.to(x.device)
        learned = settings.labels.mode == "learned"
        self.cells = cells if learned else tuple(order.shape[1:])
        self.x = nn.Parameter(x)
        self.y = nn.Parameter(label_grid.one_hot_blocks(order, cells, classes).to(x)) if learned else None
        self.register_buffer("order", order)
        self.register_buffer("corners", corners, persistent=False)
        inside = label_grid.cell_counts(corners, image, self.size, self.cells)
        self.register_buffer("inside", inside, persistent=False)

    @classmethod
    def build(cls, settings: recipe.Poster, context: Context) -> "Poster":
        """A poster of noise or of blended real images. Raises RecipeError if the recipe's poster is impossible."""
        return _build(settings, context, class_grid(settings, context))

    @classmethod
    def blank(cls, settings: recipe.Poster, context: Context) -> "Poster":
        """The same without computing an embedding: classes ordered by similarity are in the dataset's order."""
        plain = settings.model_copy(update={"order": "given"}) if settings.by_similarity else settings
        return _build(settings, context, class_grid(plain, context))

    @classmethod
    def check(cls, settings: recipe.Poster, context: Context) -> None:
        """Raise RecipeError also if an embedding file is missing or lacks a class."""
        if settings.by_similarity and settings.embedding not in FROM_IMAGES:
            ordering.distances(context.data.classes, settings.embedding, context=context)
        cls.blank(settings, context)

    @classmethod
    def sized(cls, settings: recipe.Poster, context: Context, floats: int) -> recipe.Poster:
        """An `ipc` whose poster and learned labels fill the budget, up to a row: height and width follow as in PoDD."""
        channels, h, w = context.data.shape
        per_class = settings.posters == "per-class"
        posters, classes = (context.classes, 1) if per_class else (1, context.classes)
        grid = (1, 1) if per_class else settings.grid or ordering.shape_of(context.classes)

        def of(area: int) -> recipe.Poster:
            return settings.model_copy(update={"ipc": area / (classes * h * w), "height": 0, "width": 0})

        def cost(area: int) -> int:
            s, labels = of(area), 0
            if s.labels.mode == "learned":
                labels = math.prod(label_grid.learned_shape(s.labels, s.ipc, context.classes, grid, posters))
            pixels = math.prod(poster_size(s, (h, w), context.classes, grid))
            return posters * (channels * pixels + labels * context.classes)

        areas = range(h * w, max(h * w, floats // (channels * posters)) + 1)
        fitting = bisect_right(areas, floats, key=cost)
        if not fitting:
            raise too_large(context, cost(areas[0]), floats)
        return of(areas[fitting - 1])

    def __len__(self) -> int:
        return len(self.corners)

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        corners, augment = self.corners[index.to(self.x.device)], self.settings.augment
        if augment == recipe.PatchAugment():
            return cut(self.x, corners, self.image)
        matrix = _rotation_and_scale(augment, len(corners), generator).to(self.x)
        return warp(self.x, corners, self.image, matrix, self.settings.cyclic)

    def labels(self, index: Tensor) -> Tensor:
        """Label probabilities (b, classes) of the patches `index` (b,)."""
        index = index.to(self.x.device)
        if self.y is not None:
            return label_grid.average(self.inside[index], self.y, self.corners[index, 0])
        return self.fixed_labels(index, self.settings.labels.rule)

    def fixed_labels(self, index: Tensor, rule: str) -> Tensor:
        """Labels (b, classes) of the patches `index` (b,) by a rule of label_grid.fixed(), from the class grid."""
        order = self.order.flatten(1)[self.corners[index, 0]]
        return label_grid.fixed(self.inside[index], order, rule, self.classes).to(self.x)

    def project(self) -> None:
        if self.y is not None:
            with torch.no_grad():
                self.y.clamp_(min=0)

    def parameter_groups(self, outer: Outer) -> list[Group]:
        groups = [Group([self.x], outer.lr_img)]
        return groups if self.y is None else [*groups, Group([self.y], self.settings.labels.lr)]

    def budget(self) -> Budget:
        """Poster and learned labels. Fixed labels follow from the class order, so they cost nothing."""
        labels = {} if self.y is None else {"labels": self.y.numel()}
        return Budget({"poster": self.x.numel()} | labels)

    def describe(self) -> str:
        (down, across), (rows, columns) = self.counts, self.order.shape[1:]
        posters = "a poster" if len(self.x) == 1 else f"{len(self.x)} posters"
        labels = "fixed" if self.y is None else f"learned ({self.cells[1]}x{self.cells[0]} cells)"
        return (
            f"{posters} of {self.size[1]}x{self.size[0]}, {across}x{down} patches of {self.image[1]}x{self.image[0]}, "
            f"{columns}x{rows} classes, {labels} labels"
        )

    def stored(self) -> Windows:
        """All patches at their positions on the poster, without rotation and scaling."""
        with torch.no_grad():
            y = self.labels(torch.arange(len(self)))
        return Windows(self.x.detach(), self.corners, self.image, y.detach())

    def pictures(self, preprocess: Preprocess, classes: tuple[str, ...]) -> dict[str, Image.Image]:
        """The poster as pixels and as stored, its class regions with the patch grid, and its patches."""
        stored = self.stored()
        return poster_view.pictures(stored, stored.shown(preprocess.to_pixels), self.order, self.counts, classes)


def _build(settings: recipe.Poster, context: Context, order: Tensor) -> Poster:
    image, classes = context.data.shape[1:], context.classes
    size = poster_size(settings, image, classes, order.shape[1:])
    cells = label_grid.learned_shape(settings.labels, settings.ipc, classes, order.shape[1:], len(order))
    patches.counts(settings, size, image, order.shape[1:])  # raises before any image is read
    g = rng.generator(context.seed, "synthetic init")
    if settings.init == "noise":
        x = torch.randn(len(order), context.data.shape[0], *size, generator=g)
    elif settings.posters == "one":
        x = blended(context, order, size, g)
    else:  # the grid of images that the budget of each class would buy
        side = math.isqrt(math.floor(settings.ipc))
        x = blended(context, order.expand(-1, side, side), size, g)
    poster = Poster(settings, x.to(context.data.train.x), order, image, cells, classes)
    _check_labels(poster, context.data.classes)
    return poster


def poster_size(settings: recipe.Poster, image: Size, classes: int, grid: Size) -> Size:
    """(height, width) of each poster of a recipe. Raises RecipeError if that is larger than the budget."""
    area = patches.budget_pixels(settings.ipc, classes if settings.posters == "one" else 1, image)
    if not settings.height:
        return patches.size_of_area(area, image, grid)
    if settings.height * settings.width > area:
        raise RecipeError(
            f"synthetic.width: a poster of {settings.width}x{settings.height} has more than the {area} pixels of "
            f"synthetic.ipc = {settings.ipc}: make it smaller or raise synthetic.ipc"
        )
    return settings.height, settings.width


def class_grid(settings: recipe.Poster, context: Context) -> Tensor:
    """The class in each cell of each poster, (1, rows, columns), or (classes, 1, 1) for one poster per class."""
    classes = context.classes
    if settings.posters == "per-class":
        return torch.arange(classes).view(-1, 1, 1)
    rows, columns = settings.grid or ordering.shape_of(classes)
    if rows * columns != classes:
        raise RecipeError(
            f"synthetic.columns: a grid of {columns}x{rows} does not hold the {classes} classes exactly once: columns "
            f"times rows must be {classes}"
        )
    if settings.by_similarity:
        distances = ordering.distances(context.data.classes, settings.embedding, context=context)
        grid = ordering.layout(distances, rows, columns, settings.order, context.seed)
    elif settings.order == "random":  # which needs no distances
        grid = ordering.layout(np.zeros((classes, classes)), rows, columns, "random", context.seed)
    else:
        grid = ordering.given(settings.order_list or range(classes), context.data.classes, rows, columns)
    return torch.tensor(grid)[None]


def blended(context: Context, order: Tensor, size: Size, g: torch.Generator) -> Tensor:
    """Posters (m, c, H, W) with a random real image of the right class on each cell of `order` (m, rows, columns).

    Each image fades into its neighbours; an image smaller than its cell is enlarged.
    """
    m, *grid = order.shape
    images = _image_of_each_cell(context, order.flatten(), g)
    tile = tuple(max(k, math.ceil(n / cells)) for k, n, cells in zip(images.shape[2:], size, grid, strict=True))
    images = nn.functional.interpolate(images, tile, mode="bilinear", align_corners=False)
    tops, lefts = (patches.starts(length, side, n) for length, side, n in zip(size, tile, grid, strict=True))
    corners = patches.corners(m, tops, lefts).to(images.device)
    down, across = (1 - (2 * (torch.arange(side) + 0.5) / side - 1).abs() for side in tile)  # triangular weights
    return join(images, corners, (m, images.shape[1], *size), (down[:, None] * across).to(images))


def _image_of_each_cell(context: Context, order: Tensor, g: torch.Generator) -> Tensor:
    """(cells, c, h, w): random real images of the classes `order` (cells,), all different."""
    each = int(torch.bincount(order).max())
    images = real_images(context.data.train, context.classes, each, g)  # ordered by class
    nth = torch.stack([(order[:i] == order[i]).sum() for i in range(len(order))])
    return images[(order * each + nth).to(images.device)]


def _rotation_and_scale(settings: recipe.PatchAugment, n: int, g: torch.Generator) -> Tensor:
    """Matrices (n, 2, 2) on offsets (row, column): factors in [1/scale, scale], then a rotation within +-rotate."""
    u = torch.rand(n, 3, generator=g)
    angle = (2 * u[:, 0] - 1) * math.radians(settings.rotate)
    factors = settings.scale ** (2 * u[:, 1:] - 1)  # (n, 2)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack((cos, -sin, sin, cos), 1).view(n, 2, 2)
    return rotation @ torch.diag_embed(factors)


def _check_labels(poster: Poster, classes: tuple[str, ...]) -> None:
    """Every class must have a patch and, with fixed labels, no two classes the same label on every patch."""
    index = torch.arange(len(poster), device=poster.x.device)
    y = poster.labels(index)
    fixed, more_patches = poster.y is None, "raise synthetic.patches_x and patches_y"
    learn = ', or set synthetic.labels.mode = "learned"' if fixed else ""
    # A softmax is positive for every class, so whether a class has a pixel shows only in the shares.
    softmax = fixed and poster.settings.labels.rule == "softmax"
    present = (poster.fixed_labels(index, "share") if softmax else y).amax(0) > 0
    if missing := [classes[k] for k in (~present).nonzero().flatten().tolist()]:
        raise RecipeError(f"synthetic: no patch has a label of {', '.join(missing)}: {more_patches}{learn}")
    _, group = torch.unique(y.T, dim=0, return_inverse=True)
    groups = [[classes[k] for k in (group == i).nonzero().flatten().tolist()] for i in group.unique().tolist()]
    if fixed and (same := [" and ".join(names) for names in groups if len(names) > 1]):
        raise RecipeError(
            f"synthetic: {', '.join(same)} have the same label on every patch, so they cannot be distinguished: "
            f"{more_patches}, or use another class grid (synthetic.rows = 1 and columns = {len(classes)} on a flat "
            f"poster){learn}"
        )
