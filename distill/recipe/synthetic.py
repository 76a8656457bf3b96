"""Settings of the synthetic sets: one class for each module in distill/synthetic/."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from distill.recipe.experts import ExpertUse
from distill.recipe.settings import Count, Positive, Settings, by_default

Selector = Literal["herding", "kmeans-nearest", "kmeans-farthest", "forgetting", "entropy-high", "entropy-low"]
"""Ways to choose real images: distill/selectors/."""


ClassKey = str | Annotated[int, Field(strict=True)]
"""A class by its name or its number."""


class Labels(Settings):
    """Labels of the synthetic images."""

    mode: Literal["hard", "learned", "expert"] = "hard"
    """hard: the class; learned: starts one-hot and is learned; expert: a trained network's probabilities, fixed."""
    lr: Annotated[float, Field(ge=0)] = 0.0
    """Step size of learned labels."""


class SyntheticBase(Settings):
    """What the settings of every synthetic set have."""

    @property
    def expert_use(self) -> ExpertUse:
        """Whether its start or its labels depend on how trained networks see the images."""
        return "none"

    @property
    def most_experts(self) -> int:
        """How many experts it looks through at most, if it requires them."""
        return 1

    def absolute(self) -> Self:
        """The same with the paths of files made absolute."""
        return self

    def decisive(self) -> dict[str, Any]:
        """JSON values of all that the result depends on: files by what they hold, not by where they are."""
        return self.model_dump(mode="json")


class Pixels(SyntheticBase):
    """n images per class, each pixel learned (Wang et al. 2018; DM; MTT)."""

    kind: Literal["pixels"] = "pixels"
    ipc: Count = 1
    """Images per class."""
    init: Literal["real", "noise"] | Selector = "real"
    """Random real images; noise of the data's mean and deviation; or real images chosen by a selector, which looks at
    them through the experts of the store, or, where it holds none, through a network that is trained briefly."""
    labels: Labels = Labels()

    @property
    def expert_use(self) -> ExpertUse:
        if self.init == "forgetting" or self.labels.mode == "expert":
            return "required"
        return "none" if self.init in ("real", "noise") else "preferred"

    @property
    def most_experts(self) -> int:
        return 10


class PosterLabels(Settings):
    """Labels of a poster's patches (PoDDL, section 4.3)."""

    mode: Literal["fixed", "learned"] = "fixed"
    """fixed: by the classes inside the patch's window; learned: a grid of label vectors, averaged over the window."""
    rule: Literal["majority", "softmax", "share"] = "majority"
    """Fixed labels: the class with most of the window, ties shared; softmax of the pixel counts; their shares."""
    ipc: Annotated[float, Field(ge=0)] = 0.0
    """The learned grid has at most this many cells per class (0: 1, or synthetic.ipc where that is more)."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Cells of the learned grid from top to bottom (0: the class grid, grown by the root of the cells per class)."""
    columns: Annotated[int, Field(ge=0)] = 0
    """Cells of the learned grid from left to right."""
    lr: Annotated[float, Field(ge=0)] = 1e-3
    """Step size of the learned grid."""

    @model_validator(mode="after")
    def _fits(self):
        if bool(self.rows) != bool(self.columns):
            raise ValueError("give rows and columns, or neither")
        if self.mode == "fixed" and (self.rows or self.ipc):
            raise ValueError('rows, columns and ipc are of the learned grid: set mode = "learned"')
        if self.mode == "learned" and self.rule != "majority":
            raise ValueError(f'rule = "{self.rule}" is of fixed labels: set mode = "fixed" or leave it out')
        return self


class PatchAugment(Settings):
    """Patches cut out of the poster turned and scaled, so that what lies round them comes in (PoDD, section 6)."""

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle either way, in degrees."""
    scale: Annotated[float, Field(ge=1)] = 1.0
    """Largest factor either way, for height and width independently."""


class Poster(SyntheticBase):
    """One image for all classes, less than one image per class; overlapping patches train (PoDD, Shul et al. 2024)."""

    kind: Literal["poster"] = "poster"
    ipc: Positive = 1.0
    """Budget in images per class: height * width of all posters is at most ipc * classes * that of an image."""
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels (0: height and width follow from the budget, at the class grid's aspect)."""
    width: Annotated[int, Field(ge=0)] = 0
    posters: Literal["one", "per-class"] = "one"
    """One poster for all classes, or one for each, for budgets above one image per class."""
    columns: Annotated[int, Field(ge=0)] = 0
    """Classes from left to right (0: the grid nearest to a square, 5x2 for 10 classes, 10x10 for 100)."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Classes from top to bottom."""
    patches_x: Annotated[int, Field(ge=0)] = 0
    """Patches from left to right, evenly spaced (0: two for each class; of one class's poster, overlapping by half)."""
    patches_y: Annotated[int, Field(ge=0)] = 0
    """Patches from top to bottom."""
    cyclic: bool = False
    """Patches wrap round the edges."""
    init: Literal["noise", "blend"] = "noise"
    """Standard Gaussian noise, or a real image of each class on its place, blended into its neighbours."""
    order: Literal["given", "greedy", "optimal", "random"] | tuple[ClassKey, ...] | tuple[tuple[ClassKey, ...], ...] = (
        "given"
    )
    """Which class lies where: in the dataset's order, row by row; by likeness (PoCO, or an optimal assignment); at
    random; or a list of class names or indices, flat or one list for each row."""
    embedding: str = "auto"
    """What likeness is, for greedy and optimal: see `stillhouse order --help`. What `file:PATH` holds decides the run,
    not where it lies."""
    labels: PosterLabels = PosterLabels()
    augment: PatchAugment = PatchAugment()

    @model_validator(mode="after")
    def _fits(self):
        for one, other in (("height", "width"), ("columns", "rows")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"give {one} and {other}, or neither")
        if self.posters == "per-class" and self.ipc < 1:
            raise ValueError(
                f'ipc = {self.ipc}: a poster for each class needs one image per class; set posters = "one"'
            )
        if self.posters == "per-class" and (self.columns or self.order != "given"):
            raise ValueError('columns, rows and order are of posters = "one"')
        if not self.by_likeness and self.embedding != "auto":
            raise ValueError(f'embedding = "{self.embedding}" is of order = "greedy" or "optimal"')
        if self.order_list == () or len({len(row) for row in self.order_rows}) > 1:
            raise ValueError("order: give every class once, as one list or as a list for each row, all as long")
        if self.order_rows and self.rows and (self.rows, self.columns) != (len(self.order_rows), len(self.order[0])):
            raise ValueError(f"order has {len(self.order_rows)} rows, not rows = {self.rows}, columns = {self.columns}")
        return self

    @property
    def expert_use(self) -> ExpertUse:
        return "preferred" if self.by_likeness and self.embedding == "expert" else "none"

    def absolute(self) -> Self:
        if self._file is None:
            return self
        return self.model_copy(update={"embedding": f"file:{self._file.expanduser().absolute()}"})

    def decisive(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        if self._file is not None and self._file.is_file():
            values["embedding"] = f"file:{hashlib.sha256(self._file.read_bytes()).hexdigest()}"
        return values

    @property
    def _file(self) -> Path | None:
        """The file that `embedding` names, if it names one."""
        kind, _, path = self.embedding.partition(":")
        return Path(path) if kind == "file" else None

    @property
    def by_likeness(self) -> bool:
        """Whether the order follows from an embedding of the classes."""
        return self.order in ("greedy", "optimal")

    @property
    def order_list(self) -> tuple[str | int, ...] | None:
        """An order that was given as a list, row by row; None where it was not."""
        if isinstance(self.order, str):
            return None
        return sum(self.order_rows, ()) if self.order_rows else self.order

    @property
    def order_rows(self) -> tuple[tuple[str | int, ...], ...]:
        """The rows of an order that was given by rows; none where it was not."""
        by_rows = self.order and isinstance(self.order[0], tuple)
        return self.order if by_rows else ()

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of classes that the settings name, or the rows of the order; None where neither does."""
        if self.rows:
            return self.rows, self.columns
        return (len(self.order_rows), len(self.order_rows[0])) if self.order_rows else None


class Canvas(SyntheticBase):
    """One seamless canvas per class, larger than an image; every crop of it trains (Wearable ImageNet, 2022)."""

    kind: Literal["canvas"] = "canvas"
    scale: Annotated[float, Field(ge=1)] = 2.0
    """Sides of a canvas in image sides; need not be whole."""
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels (0: by scale)."""
    width: Annotated[int, Field(ge=0)] = 0
    canvases: Count = 1
    """Canvases per class."""
    crops: Count = 1
    """Crops of each canvas per pass."""
    wrap: Literal["both", "x", "y"] = "both"
    """Across which edges a canvas continues at the opposite one: both for fabric, x for a border, y for a ribbon."""
    pattern: Literal["p1", "half-drop", "mirror"] = "p1"
    """How copies of a canvas are laid out: side by side; each column half a canvas lower than the one before, as
    wallpaper is; or mirrored at every edge."""
    init: Literal["noise", "real", "blend"] = "noise"
    """Noise of the data's mean and deviation; real images side by side, which leaves seams at the start; or real images
    blended into each other, across the edges too."""
    tv: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the total variation, the mean absolute step between neighbouring pixels, as a penalty."""
    spectrum: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the distance between the canvas's and the real images' log power spectrum, as a penalty."""

    @model_validator(mode="after")
    def _fits(self):
        if bool(self.height) != bool(self.width):
            raise ValueError("give height and width, or neither")
        if self.pattern != "p1" and self.wrap != "both":
            raise ValueError(f'pattern = "{self.pattern}" continues across all edges: set wrap = "both"')
        return self


SyntheticSettings = Annotated[Pixels | Poster | Canvas, Field(discriminator="kind"), by_default("pixels")]
