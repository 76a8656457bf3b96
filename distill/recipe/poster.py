"""Settings of posters (distill/synthetic/poster.py): their size, labels, class order and augmentation."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distill.recipe.experts import ExpertUse
from distill.recipe.settings import Positive, Settings
from distill.recipe.synthetic_base import ClassKey, SyntheticBase


class PosterLabels(Settings):
    """Labels of a poster's patches (PoDDL, section 4.3)."""

    mode: Literal["fixed", "learned"] = "fixed"
    """fixed: from the classes that the patch covers; learned: from a learned grid of label vectors, averaged over the
    patch."""
    rule: Literal["majority", "softmax", "share"] = "majority"
    """Fixed labels, from the pixels of each class in the patch. majority: the class with the most pixels, ties shared
    equally; softmax: softmax of the pixel counts; share: fractions of the pixels."""
    ipc: Annotated[float, Field(ge=0)] = 0.0
    """Maximum number of cells per class in the learned grid (0: the larger of 1 and synthetic.ipc)."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Rows of the learned grid (0: those of the class grid times the square root of the cells per class)."""
    columns: Annotated[int, Field(ge=0)] = 0
    """Columns of the learned grid (0: as for rows)."""
    lr: Annotated[float, Field(ge=0)] = 1e-3
    """Learning rate of the learned grid."""

    @model_validator(mode="after")
    def _fits(self):
        if bool(self.rows) != bool(self.columns):
            raise ValueError("give rows and columns, or neither")
        if self.mode == "fixed" and (self.rows or self.ipc):
            raise ValueError('rows, columns and ipc are for the learned grid: set mode = "learned"')
        if self.mode == "learned" and self.rule != "majority":
            raise ValueError(f'rule = "{self.rule}" is for fixed labels: set mode = "fixed" or leave it out')
        return self


class PatchAugment(Settings):
    """Random rotation and scaling of patches, which takes in pixels around them (PoDD, section 6)."""

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Maximum angle in either direction, in degrees."""
    scale: Annotated[float, Field(ge=1)] = 1.0
    """Maximum factor for enlarging or shrinking; height and width are drawn independently."""


class Poster(SyntheticBase):
    """One image for all classes, trained on through overlapping patches (PoDD, Shul et al. 2024). Its budget can be
    less than one image per class."""

    own: ClassVar[frozenset[str]] = frozenset({"height", "width"})  # of all classes together
    kind: Literal["poster"] = "poster"
    ipc: Positive = 1.0
    """Budget in images per class: all posters together have at most ipc * classes times the pixels of an image."""
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels (0: height and width follow from the budget and the aspect of the class grid)."""
    width: Annotated[int, Field(ge=0)] = 0
    """Pixels."""
    posters: Literal["one", "per-class"] = "one"
    """one: one poster for all classes; per-class: a poster for each class, for budgets above one image per class."""
    columns: Annotated[int, Field(ge=0)] = 0
    """Columns of the class grid (0: the grid closest to a square, 5x2 for 10 classes, 10x10 for 100)."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Rows of the class grid."""
    patches_x: Annotated[int, Field(ge=0)] = 0
    """Evenly spaced patches per row (0: two per class; if posters = "per-class", with an overlap of half a patch)."""
    patches_y: Annotated[int, Field(ge=0)] = 0
    """Evenly spaced patches per column (0: as for patches_x)."""
    cyclic: bool = False
    """Patches wrap around the edges."""
    init: Literal["noise", "blend"] = "noise"
    """noise: standard Gaussian noise; blend: a real image of each class in its cell, blended into its neighbours."""
    order: Literal["given", "greedy", "optimal", "random"] | tuple[ClassKey, ...] | tuple[tuple[ClassKey, ...], ...] = (
        "given"
    )
    """Position of each class on the poster. given: the dataset's order, row by row; greedy (PoCO) or optimal: similar
    classes next to each other; random; or a list of class names or numbers, flat or one list per row."""
    embedding: str = "auto"
    """Embedding that measures the similarity of classes, for greedy and optimal: see `stillhouse order --help`. The run
    id depends on the content of `file:PATH`, not on its path."""
    labels: PosterLabels = PosterLabels()
    augment: PatchAugment = PatchAugment()

    @model_validator(mode="after")
    def _fits(self):
        for one, other in (("height", "width"), ("columns", "rows")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"give {one} and {other}, or neither")
        if self.posters == "per-class" and self.ipc < 1:
            raise ValueError(
                f'ipc = {self.ipc}: a poster for each class needs at least one image per class; set posters = "one"'
            )
        if self.posters == "per-class" and (self.columns or self.order != "given"):
            raise ValueError('columns, rows and order are for posters = "one"')
        if not self.by_similarity and self.embedding != "auto":
            raise ValueError(f'embedding = "{self.embedding}" is for order = "greedy" or "optimal"')
        if self.order_list == () or len({len(row) for row in self.order_rows}) > 1:
            raise ValueError("order: list every class once, as one list or as one list per row, all of equal length")
        if self.order_rows and self.rows and (self.rows, self.columns) != (len(self.order_rows), len(self.order[0])):
            raise ValueError(f"order has {len(self.order_rows)} rows, not rows = {self.rows}, columns = {self.columns}")
        return self

    @property
    def expert_use(self) -> ExpertUse:
        return "preferred" if self.by_similarity and self.embedding == "expert" else "none"

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
        """The file that `embedding` names, if any."""
        kind, _, path = self.embedding.partition(":")
        return Path(path) if kind == "file" else None

    @property
    def by_similarity(self) -> bool:
        """Whether the order depends on the similarity of classes, so on an embedding."""
        return self.order in ("greedy", "optimal")

    @property
    def order_list(self) -> tuple[str | int, ...] | None:
        """An explicit order as one flat list, row by row; None if there is none."""
        if isinstance(self.order, str):
            return None
        return sum(self.order_rows, ()) if self.order_rows else self.order

    @property
    def order_rows(self) -> tuple[tuple[str | int, ...], ...]:
        """The rows of an explicit order that is listed by rows; empty otherwise."""
        by_rows = self.order and isinstance(self.order[0], tuple)
        return self.order if by_rows else ()

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the class grid, from rows and columns or from the rows of the order; None if not set."""
        if self.rows:
            return self.rows, self.columns
        return (len(self.order_rows), len(self.order_rows[0])) if self.order_rows else None
