"""What a plan must know of a dataset before its images are read at one size: how many there are, and how large.

glance(settings).side    # 375: half of the looked-at images have a shorter side of that many pixels or more
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median_low

import pyarrow.parquet as pq

from distill import data
from distill.data.images import Notice, silent
from distill.data.places import local
from distill.errors import DataError
from distill.recipe import DatasetSettings

LOOKED_AT = 64
"""Images that are decoded to learn how large they are."""
HELD_OUT = 0.25
"""Share of all images that is taken for test and validation parts where only the sum of all parts is known."""


@dataclass(frozen=True)
class Glance:
    """A dataset at first sight."""

    images: int
    """Training images, roughly."""
    classes: int
    channels: int
    side: int
    """Pixels of the shorter side, the median."""
    alike: bool
    """Whether all images looked at have the same size, so that no resizing is needed."""


def glance(settings: DatasetSettings, notice: Notice = silent) -> Glance:
    """Sizes of a few images and the number of all. DataError if the dataset is missing or holds no images."""
    settings = local(settings, notice)
    reader = import_module(f"distill.data.{settings.kind}")
    if not hasattr(reader, "decode_all"):
        raw = data.read(settings, notice)
        c, h, w = raw.train_x.shape[1:]
        return Glance(len(raw.train_y), len(raw.classes), c, min(h, w), h == w)
    some = reader.decode_all(settings.model_copy(update={"limit": LOOKED_AT, "limit_test": 1}), notice)
    shapes = [image.pixels.shape for image in some.train if image.pixels is not None]
    if not shapes:
        first = next((image.fault for image in some.train if image.fault), "it has no images")
        raise DataError(f"{some.where}: none of the first {len(some.train)} training images can be read: {first}")
    images = round(sum(_images(file) for file in reader.sources(settings)) * (1 - HELD_OUT))
    channels = max(3 if len(shape) == 3 else 1 for shape in shapes)
    side = median_low(min(shape[:2]) for shape in shapes)
    alike = len({shape[:2] for shape in shapes}) == 1 and shapes[0][0] == shapes[0][1]
    return Glance(min(images, settings.limit or images), len(some.classes), channels, side, alike)


def _images(file: Path) -> int:
    """Images in a source of a dataset; a folder among them has none of its own."""
    if file.suffix == ".parquet":
        return pq.ParquetFile(file).metadata.num_rows
    return int(file.is_file())
