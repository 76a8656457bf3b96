"""Textures without a period: per class a complete set of Wang tiles, distilled by cropping from random legal tilings.

The extension that the paper on Wearable ImageNet names (Cohen et al. 2003). Tiles that meet at an edge share a strip of
pixels along it, one strip for each colour, and all tiles share the pixels round a corner; so every legal tiling is
continuous wherever the strips are, and crops at random places make the rest match. distill/tiles.py lays them out.
"""

import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.data.preprocess import Preprocess
from distill.errors import RecipeError
from distill.picture import grid
from distill.published.forms import Windows
from distill.recipe import Sampling
from distill.synthetic.base import Budget, Synthetic, too_large
from distill.synthetic.pixels import Pixels, real_images
from distill.tiles import pairs, strongest_repeat


class Wang(Synthetic, kind="wang"):
    """Pixels x (classes, c, p) of each class's tiles: the insides of all tiles, then strips, then the shared corner.

    An item is a crop of a 2x2 block of tiles with random edge colours; `crops` of each class per pass.
    """

    def __init__(self, settings: recipe.Wang, x: Tensor, side: int, border: int, image: tuple[int, int]):
        super().__init__()
        self.settings, self.side, self.border, self.image = settings, side, border, image
        self.classes = len(x)
        self.x = nn.Parameter(x)

    # ------------------------------------------------------------ from a recipe

    @classmethod
    def build(cls, settings: recipe.Wang, context: Context) -> "Wang":
        """Tiles of noise or of blended real images. DataError when a class has too few images to start from."""
        wang = cls.blank(settings, context)
        if settings.init == "blend":
            with torch.no_grad():
                wang.x.copy_(_blended(wang, context))
        return wang

    @classmethod
    def blank(cls, settings: recipe.Wang, context: Context) -> "Wang":
        c, h, w = context.data.shape
        side = round(settings.scale * max(h, w))
        border = _border(settings, side)
        if side - 2 * border < 1:
            raise RecipeError(f"synthetic.border: strips of {2 * border} pixels fill a tile of {side}: lower it")
        pixels = _Pool(settings.colours, side, border).size
        x = torch.randn(context.classes, c, pixels, generator=rng.generator(context.seed, "synthetic init"))
        train = context.data.train.x
        return cls(settings, (x * train.std().cpu() + train.mean().cpu()).to(train), side, border, (h, w))

    @classmethod
    def sized(cls, settings: recipe.Wang, context: Context, floats: int) -> recipe.Wang:
        """The number of colours stays; the side of the tiles is solved for."""
        channels, *image = context.data.shape
        pixels = floats // (context.classes * channels)
        sides = range(max(image), max(max(image), math.isqrt(pixels)) + 1)  # a class has more pixels than one tile
        cost = {side: _Pool(settings.colours, side, _border(settings, side)).size for side in sides}
        fits = [side for side in sides if cost[side] <= pixels]
        if not fits:
            least = cost[sides[0]] * context.classes * channels
            hint = " or lower synthetic.colours: there are colours^4 tiles" * (settings.colours > 1)
            raise too_large(context, least, floats, hint)
        side = max(fits, key=lambda side: cost[side])
        return settings.model_copy(update={"scale": side / max(image)})

    # ------------------------------------------------------------ training images

    def __len__(self) -> int:
        return self.classes * self.settings.crops

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        n, k, (h, w) = len(index), self.settings.colours, self.image
        horizontal = torch.randint(k, (n, 3, 2), generator=generator)
        vertical = torch.randint(k, (n, 2, 3), generator=generator)
        corner = torch.randint(self.side, (n, 2), generator=generator)
        rows, columns = corner[:, :1] + torch.arange(h), corner[:, 1:] + torch.arange(w)  # (n, h), (n, w)
        return self._pixels(index // self.settings.crops, horizontal, vertical, rows, columns)

    def labels(self, index: Tensor) -> Tensor:
        return F.one_hot((index // self.settings.crops).to(self.x.device), self.classes).to(self.x)

    def sampled(self, settings: Sampling, generator: torch.Generator) -> Synthetic:
        if not settings.per_class:
            return self
        index = torch.arange(self.classes).repeat_interleave(settings.per_class) * self.settings.crops
        with torch.no_grad():
            return Pixels(self.images(index, generator), self.labels(index), recipe.Labels())

    def penalty(self, step: int, generator: torch.Generator) -> Tensor | float:
        """Total variation of one pass of crops, which reach across the edges of tiles."""
        if not self.settings.tv:
            return 0.0
        crops = self.images(torch.arange(len(self)), generator)
        down, right = (crops.diff(dim=axis).abs().mean() for axis in (2, 3))
        return self.settings.tv * (down + right) / 2

    # ------------------------------------------------------------ what is stored and shown

    def budget(self) -> Budget:
        return Budget({"tiles": self.x.numel()})

    def stored(self) -> Windows:
        """The sheet of all tiles of each class, a torus, and crops of it that overlap by half."""
        sheet = self.sheet()
        steps = [torch.arange(0, sheet.shape[2], max(1, k // 2)) for k in self.image]
        corners = torch.cartesian_prod(torch.arange(self.classes), *steps).to(sheet.device)
        y = F.one_hot(corners[:, 0], self.classes).to(sheet)
        return Windows(sheet, corners, self.image, y, (True, True), self.settings.colours)

    def sheet(self) -> Tensor:
        """All tiles of each class, (classes, c, k^2 side, k^2 side), detached, as distill/tiles.py orders them."""
        a = pairs(self.settings.colours)
        n, every = len(a), torch.arange(len(a) * self.side)
        edges = torch.cat([a, a[:1]])
        horizontal = edges[:, None].expand(n + 1, n).expand(self.classes, n + 1, n)
        vertical = edges.expand(n, n + 1).expand(self.classes, n, n + 1)
        owner = torch.arange(self.classes)
        rows = every.expand(self.classes, -1)
        with torch.no_grad():
            return self._pixels(owner, horizontal, vertical, rows, rows)

    def describe(self) -> str:
        k = self.settings.colours
        return f"{self.classes} sets of {k**4} Wang tiles of {self.side}x{self.side}, {k} colours"

    def measures(self, preprocess: Preprocess) -> dict[str, float]:
        """How strongly a layout of 8x8 tiles repeats itself: 1 for a periodic texture."""
        stored, length = self.stored(), 8 * self.side
        shown = stored.shown(preprocess.to_pixels)
        pictures = stored.fill(shown, length, length, torch.Generator().manual_seed(0))
        return {"repeat": sum(strongest_repeat(p, self.side // 2) for p in pictures) / len(pictures)}

    def pictures(self, preprocess: Preprocess, classes: tuple[str, ...]) -> dict[str, Image.Image]:
        """A random layout of 4x4 tiles, and the sheet of all tiles."""
        stored = self.stored()
        shown = stored.shown(preprocess.to_pixels)
        layout = stored.fill(shown, 4 * self.side, 4 * self.side, torch.Generator().manual_seed(0))
        columns = min(5, self.classes)
        return {
            "synthetic": grid(layout, columns=columns, scale=1 if layout.shape[3] > 96 else None, labels=list(classes)),
            "tiles": grid(shown, columns=columns, scale=1, labels=list(classes)),
        }

    # ------------------------------------------------------------ tilings

    def _pixels(self, owner: Tensor, horizontal: Tensor, vertical: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixels (n, c, h, w) of tilings with edge colours horizontal (n, R + 1, C) and vertical (n, R, C + 1)."""
        pool = _Pool(self.settings.colours, self.side, self.border)
        flat = pool.index(horizontal, vertical, rows, columns).to(self.x.device)  # (n, h, w)
        c, pixels = self.x.shape[1:]
        lines = owner.to(self.x.device)[:, None] * c + torch.arange(c, device=self.x.device)
        base = (lines * pixels)[:, :, None, None]
        return self.x.reshape(-1)[base + flat[:, None]]


class _Pool:
    """Where the pixels of a tiling are among the p pixels of a class."""

    def __init__(self, colours: int, side: int, border: int):
        self.colours, self.side, self.border = colours, side, border
        self.inside, self.strip = side - 2 * border, 2 * border
        starts = torch.tensor([colours**4 * self.inside**2, *[colours * self.inside * self.strip] * 2, self.strip**2])
        ends = starts.cumsum(0).tolist()
        self.horizontal, self.vertical, self.corner, self.size = ends  # where strips and the corner begin

    def index(self, horizontal: Tensor, vertical: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(n, h, w) from the colours of all edges of a tiling and the rows (n, h) and columns (n, w) of its pixels."""
        side, b, inside, strip = self.side, self.border, self.inside, self.strip
        r, c = rows // side, columns // side  # the tile of each pixel
        i, j = rows % side, columns % side
        n = torch.arange(len(rows))[:, None, None]
        at = lambda edges, dr, dc: edges[n, (r + dr)[:, :, None], (c + dc)[:, None, :]]  # noqa: E731
        north, south = at(horizontal, 0, 0), at(horizontal, 1, 0)
        west, east = at(vertical, 0, 0), at(vertical, 0, 1)
        code = ((north * self.colours + east) * self.colours + south) * self.colours + west
        across_i, across_j = (torch.where(k < b, k + b, k - (side - b)) for k in (i, j))  # within a strip
        near_top, near_left = (i < b)[:, :, None], (j < b)[:, None, :]
        in_row, in_column = ((k >= b) & (k < side - b) for k in (i, j))
        i, j, across_i, across_j = i[:, :, None], j[:, None, :], across_i[:, :, None], across_j[:, None, :]
        in_row, in_column = in_row[:, :, None], in_column[:, None, :]
        middle = (code * inside + i - b) * inside + j - b
        edge_h = self.horizontal + (torch.where(near_top, north, south) * strip + across_i) * inside + j - b
        edge_v = self.vertical + (torch.where(near_left, west, east) * inside + i - b) * strip + across_j
        corner = self.corner + across_i * strip + across_j
        on_edge = torch.where(in_column, edge_h, corner)
        return torch.where(in_row, torch.where(in_column, middle, edge_v), on_edge)


def _border(settings: recipe.Wang, side: int) -> int:
    """Half the width of the shared strips, in pixels."""
    return max(1, round(settings.border * side))


def _blended(wang: Wang, context: Context) -> Tensor:
    """Pixels (classes, c, p): real images at random places of the sheet of all tiles, each faded at its rim."""
    (h, w), length = wang.image, wang.side * wang.settings.colours**2
    steps = [torch.arange(0, length, max(1, k // 2)) for k in (h, w)]
    places = torch.cartesian_prod(*steps)
    each = min(len(places), int(torch.bincount(context.data.train.y.cpu(), minlength=context.classes).min()))
    g = rng.generator(context.seed, "wang start")
    images = real_images(context.data.train, context.classes, each, g).view(context.classes, each, -1, h, w)
    fade = [1 - (2 * (torch.arange(k) + 0.5) / k - 1).abs() for k in (h, w)]
    weight = (fade[0][:, None] * fade[1]).to(images)
    a = pairs(wang.settings.colours)
    edges, n = torch.cat([a, a[:1]]), len(a)
    pool = _Pool(wang.settings.colours, wang.side, wang.border)
    total, cover = torch.zeros_like(wang.x), wang.x.new_zeros(pool.size)
    for k, (top, left) in enumerate(places.tolist()):
        rows, columns = (top + torch.arange(h)) % length, (left + torch.arange(w)) % length
        flat = pool.index(edges[:, None].expand(1, n + 1, n), edges.expand(1, n, n + 1), rows[None], columns[None])
        flat = flat.flatten().to(wang.x.device)
        total.index_add_(2, flat, (images[:, k % each] * weight).flatten(2))
        cover.index_add_(0, flat, weight.flatten())
    return total / cover.clamp(min=1e-6)
