"""Images drawn from a published generator, as files: a sheet, a Parquet table, and the way between two seeds.

drawn = draw(published, classes=["3", "7"], n=8, seed=0, truncation=0.7)
write(drawn, Path("samples"))          # sheet.png and samples.parquet
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from distill.errors import DataError, RecipeError
from distill.image_files import animate
from distill.picture import grid, png
from distill.published.forms import MOST_SAMPLES, Images, Sampler
from distill.published.published import Published
from distill.published.table import table

MOST_SHOWN = 400
"""Images on a sheet, at most."""
MOST_FRAMES = 600


@dataclass(frozen=True)
class Samples:
    """Images of some classes, ordered by class."""

    x: Tensor
    """As networks see them, (n, c, h, w)."""
    labels: Tensor
    """(n,) classes."""
    published: Published
    """What they were drawn from."""

    def sheet(self) -> Image.Image:
        """The images, each class from the start of a row if a row has room for them; the first ones, if many."""
        shown, each = self.labels[:MOST_SHOWN], int((self.labels == self.labels[0]).sum())
        names = [self.published.classes[k] for k in shown]
        columns = each if 4 <= each <= 20 else None
        return grid(self.published.preprocess.to_pixels(self.x[:MOST_SHOWN]), columns=columns, labels=names)

    def table(self) -> bytes:
        """The bytes of a Parquet file in the layout of published sets: one row per image."""
        y = F.one_hot(self.labels, len(self.published.classes)).float()
        p = self.published
        return table(Published(Images(self.x, y), p.classes, p.preprocess, p.lr, p.recipe, p.step, {}))


def draw(published: Published, classes: Sequence[str], n: int, seed: int, truncation: float) -> Samples:
    """n images of each of the classes, all if none is named. The same arguments give the same images.

    Raises DataError for a set that stores its images, RecipeError for an unknown class or too many images.
    """
    numbers = numbers_of(published, classes)
    if not 1 <= n * len(numbers) <= MOST_SAMPLES:
        raise RecipeError(f"{n} images of each of {len(numbers)} classes: draw 1 to {MOST_SAMPLES:,} in all")
    labels = torch.tensor(numbers).repeat_interleave(n)
    x = published.stored.fresh(labels, torch.Generator().manual_seed(seed), truncation).cpu()
    return Samples(x, labels, published)


def interpolation(
    published: Published, classes: Sequence[str], seeds: tuple[int, int], frames: int, truncation: float
) -> bytes:
    """An animated WebP that goes from the images of one seed to those of another and back, one image per class.

    Raises the errors of draw().
    """
    if not 2 <= frames <= MOST_FRAMES:
        raise RecipeError(f"{frames} frames: give 2 to {MOST_FRAMES}")
    numbers = numbers_of(published, classes)
    if len(numbers) > MOST_SHOWN:
        raise RecipeError(f"{len(numbers)} classes side by side are too many: name some of them")
    x = published.stored.between(torch.tensor(numbers), seeds, frames, truncation).cpu()
    names = [published.classes[k] for k in numbers]
    pictures = [grid(published.preprocess.to_pixels(frame), labels=names) for frame in x]
    return animate(pictures + pictures[-2:0:-1], milliseconds=60, last=60)


def write(samples: Samples, folder: Path) -> list[Path]:
    """Write sheet.png and samples.parquet into `folder`, created if missing; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / "sheet.png": png(samples.sheet()), folder / "samples.parquet": samples.table()}
    for path, content in files.items():
        path.write_bytes(content)
    return list(files)


def numbers_of(published: Published, classes: Sequence[str]) -> list[int]:
    """The numbers of the named classes, in the order of the names; of all without names.

    Raises RecipeError for a name that is neither a class nor a number of one, DataError if the set draws no images.
    """
    if not isinstance(published.stored, Sampler):
        raise DataError(
            'this set stores its training images and draws no others: name a set of synthetic.kind = "generator"'
        )
    known = published.classes
    numbers = []
    for name in classes or known:
        if name not in known and not (name.isdecimal() and int(name) < len(known)):
            raise RecipeError(f"no class {name!r}; there are {', '.join(known[:20])}{', ...' if known[20:] else ''}")
        numbers.append(known.index(name) if name in known else int(name))
    return numbers
