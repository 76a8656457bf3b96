"""Datasets of encoded images: every image becomes a Row by threads, its fault kept, and all rows one Raw.

    rows = Rows(where, gather(train, settings, notice), gather(test, settings, notice), classes)
    raw = assemble(rows)    # DataError lists every row at fault

A fault of one image never hides those of the others; `stillhouse data check` shows what is sound beside what is not.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import psutil
import torch
from PIL import Image

from distill.data.base import Raw
from distill.data.decode import decode, stack
from distill.data.faults import refuse
from distill.data.size import bring
from distill.errors import DataError
from distill.recipe import DatasetSettings

THREADS = min(8, os.cpu_count() or 1)
CHUNK = 32  # images that a thread takes at a time
FEW = 10  # images of odd sizes that are named one by one
Task = TypeVar("Task")

Notice = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def silent(what: str, done: int, total: int) -> None:
    """The Notice of those who do not want to know."""


@dataclass(frozen=True)
class Row:
    """One image as read: where it stands, its pixels (None: refused), its label (None: missing) and its fault."""

    place: str
    image: np.ndarray | None
    label: int | None
    fault: str = ""


@dataclass(frozen=True)
class Rows:
    """Both parts of a dataset as read, faults and all."""

    where: str
    train: list[Row]
    test: list[Row]
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    """What is no fault but worth knowing, such as files that were passed over."""


@dataclass(frozen=True)
class Item:
    """An image file that has not been read: its path below `root`, which names it in errors, and its label."""

    root: Path
    name: str
    label: int


class Room:
    """Memory for decoded images: half of what is free, as they are copied once more to become one tensor."""

    def __init__(self):
        self.bytes = self._left = psutil.virtual_memory().available // 2
        self._lock = Lock()

    def take(self, image: np.ndarray) -> None:
        """DataError when the images do not fit."""
        with self._lock:
            self._left -= image.nbytes
        if self._left < 0:
            raise DataError(
                f"the decoded images need more than {self.bytes / 1e9:.1f} GB, half of this machine's free memory: "
                f"set dataset.size to a smaller side, or dataset.limit"
            )


def in_parallel(tasks: Sequence[Task], work: Callable[[Task], list[Row]], notice: Notice, total: int) -> list[Row]:
    """The rows of all tasks in order, made by threads; the first exception ends it at once."""
    rows: list[Row] = []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for made in pool.map(work, tasks):
            rows += made
            notice("reading images", len(rows), total)
    finally:
        pool.shutdown(cancel_futures=True)
    return rows


def gather(items: list[Item], settings: DatasetSettings, notice: Notice) -> list[Row]:
    """The rows of image files, in their order."""
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    return in_parallel(chunks, partial(_read_chunk, settings, Room()), notice, len(items))


def _read_chunk(settings: DatasetSettings, room: Room, items: list[Item]) -> list[Row]:
    return [decoded(item.name, (item.root / item.name).read_bytes, item.label, settings, room) for item in items]


def decoded(
    place: str, read: Callable[[], bytes | None], label: int | None, settings: DatasetSettings, room: Room
) -> Row:
    """The row of one encoded image, which `read` returns; its fault if it cannot be read or decoded."""
    try:
        data = read()
        if data is None:
            return Row(place, None, label, "no image bytes (a path alone is not enough): embed the image")
        image = decode(data, settings.size, settings.resize)
    except OSError as error:
        return Row(place, None, label, f"cannot be read ({error.strerror}): copy it again or correct its rights")
    except DataError as error:
        return Row(place, None, label, str(error))
    room.take(image)
    return Row(place, image, label)


def assemble(rows: Rows) -> Raw:
    """The rows as one dataset, RGB if any image is. DataError lists every fault."""
    refuse(rows.where, faults(rows))
    return stacked(rows)


def stacked(rows: Rows) -> Raw:
    """Rows without faults as one dataset."""
    rgb = any(row.image.ndim == 3 for row in rows.train + rows.test)

    def tensors(part: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        return stack([row.image for row in part], rgb), torch.tensor([row.label for row in part])

    return Raw(*tensors(rows.train), *tensors(rows.test), rows.classes)


def sound(rows: Rows) -> tuple[Rows, list[str]]:
    """The same with only those rows that can be used together; where sizes are many, all are brought to one.

    Also the faults of those that cannot be brought to it.
    """
    common, label_ok, apart = _common_size(rows), range(len(rows.classes)), []
    side = min(common) if common and len(_odd(rows, common)) > FEW else 0

    def kept(part: list[Row]) -> Iterator[Row]:
        for row in part:
            if row.image is None or row.label not in label_ok or not (side or row.image.shape[:2] == common):
                continue
            try:
                yield replace(row, image=_brought(row.image, side)) if side else row
            except DataError as error:
                apart.append(f"{row.place}: {error}")

    return replace(rows, train=[*kept(rows.train)], test=[*kept(rows.test)]), apart


def _brought(image: np.ndarray, side: int) -> np.ndarray:
    return np.array(bring(Image.fromarray(image), side, "shorter"))


def faults(rows: Rows) -> list[str]:
    """Every row that cannot be used, and parts that are empty or smaller than the number of classes."""
    parts = (("train", rows.train), ("test", rows.test))
    found = [f"the {part} part has no rows: add images" for part, members in parts if not members]
    if 0 < len(rows.train) < len(rows.classes):
        found.append(
            f"{len(rows.train)} training images for {len(rows.classes)} classes: add images or raise dataset.limit"
        )
    common = _common_size(rows)
    odd = _odd(rows, common)
    if len(odd) > FEW:
        found.append(_many_sizes(odd, common))
    for row in rows.train + rows.test:
        if len(odd) <= FEW and _is_odd(row, common):
            sizes = f"{_size(row.image.shape)} pixels, most are {_size(common)}"
            found.append(f"{row.place}: {sizes}: set dataset.size, or resize or remove it")
        found += _row_faults(row, len(rows.classes))
    return found


def _common_size(rows: Rows) -> tuple[int, int] | None:
    """(h, w) of most images."""
    sizes = Counter(row.image.shape[:2] for row in rows.train + rows.test if row.image is not None)
    return sizes.most_common(1)[0][0] if sizes else None


def _is_odd(row: Row, common: tuple[int, int] | None) -> bool:
    return row.image is not None and row.image.shape[:2] != common


def _odd(rows: Rows, common: tuple[int, int] | None) -> list[Row]:
    """The images of another size."""
    return [row for row in rows.train + rows.test if _is_odd(row, common)]


def _many_sizes(odd: list[Row], common: tuple[int, int]) -> str:
    sides = [side for row in odd for side in row.image.shape[:2]]
    return (
        f"{len(odd)} images are not {_size(common)}, the most frequent size; their sides are {min(sides)} to "
        f"{max(sides)} pixels ({odd[0].place}, ...): set dataset.size to the side wanted, e.g. {min(sides)}"
    )


def _size(shape: tuple[int, ...]) -> str:
    """Width and height as people write them, of (h, w) or (h, w, c)."""
    return f"{shape[1]}x{shape[0]}"


def _row_faults(row: Row, classes: int) -> Iterator[str]:
    if row.fault:
        yield f"{row.place}: {row.fault}"
    if row.label is None and row.image is not None:
        yield f"{row.place}: no label: add it or remove the row"
    elif row.label is not None and not 0 <= row.label < classes:
        yield f"{row.place}: label {row.label} is not one of the classes 0..{classes - 1}: correct it"
