"""Datasets of encoded images: threads decode every image and keep its fault, then all of them become one Raw.

    train, test = (decode_files(part, settings, notice) for part in (train, test))
    raw = assemble(DecodedDataset(where, train, test, classes))    # DataError lists the faults of all images

A fault of one image never hides those of the others; `stillhouse data check` shows the good images beside the faults.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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
from distill.data.labels import Label
from distill.data.size import LONGEST, resize_image
from distill.data.texts import shown
from distill.errors import DataError
from distill.recipe import DatasetSettings

THREADS = min(8, os.cpu_count() or 1)
CHUNK = 32  # images that a thread takes at a time
FEW = 10  # images of other sizes than most, up to which each is named
MANY = 100  # images with the same fault, up to which each is named
NAMED = 5  # images that a note or a fault of many images names
Task = TypeVar("Task")

Notice = Callable[[str, int, int], None]
"""Progress: called with what is being done, how much of it is done, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """A Notice that shows nothing."""


@dataclass(frozen=True)
class DecodedImage:
    """One image as read: its location for messages, pixels (None: refused), label and fault."""

    place: str
    pixels: np.ndarray | None
    label: Label
    """Number of the class; a text or a fraction if it is none, None if it is missing."""
    fault: str = ""
    long: str = ""
    """Width and height of an image of which only the central square is used, since it is so long; else empty."""


@dataclass(frozen=True)
class DecodedDataset:
    """Both parts of a dataset as read, including the images with faults."""

    where: str
    """The dataset's file or folder."""
    train: list[DecodedImage]
    test: list[DecodedImage]
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    """What is worth knowing but not a fault, such as files that were skipped."""


@dataclass(frozen=True)
class ImageFile:
    """An image file that has not been read: its path below `root`, which names it in errors, and its label."""

    root: Path
    name: str
    label: int


class MemoryLimit:
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


def in_parallel(
    tasks: Sequence[Task], work: Callable[[Task], list[DecodedImage]], notice: Notice, total: int
) -> list[DecodedImage]:
    """The images of all tasks in order, decoded by threads; the first exception stops them."""
    images: list[DecodedImage] = []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for decoded in pool.map(work, tasks):
            images += decoded
            notice("reading images", len(images), total)
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def decode_files(files: list[ImageFile], settings: DatasetSettings, notice: Notice) -> list[DecodedImage]:
    """The images in these files, in their order."""
    memory = MemoryLimit()

    def decode_chunk(chunk: list[ImageFile]) -> list[DecodedImage]:
        return [decode_one(shown(f.name), (f.root / f.name).read_bytes, f.label, settings, memory) for f in chunk]

    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    return in_parallel(chunks, decode_chunk, notice, len(files))


def decode_one(
    place: str, read: Callable[[], bytes | None], label: Label, settings: DatasetSettings, memory: MemoryLimit
) -> DecodedImage:
    """The encoded image that `read` returns, decoded; with its fault if it cannot be read or decoded."""
    try:
        data = read()
        if data is None:
            return DecodedImage(place, None, label, "no image bytes (a path alone is not enough): embed the image")
        long: list[str] = []
        image = decode(data, settings.size, settings.resize, long.append)
    except OSError as error:
        fault = f"cannot be read ({error.strerror}): copy it again or correct its permissions"
        return DecodedImage(place, None, label, fault)
    except DataError as error:
        return DecodedImage(place, None, label, str(error))
    memory.take(image)
    return DecodedImage(place, image, label, long="".join(long))


def assemble(dataset: DecodedDataset) -> Raw:
    """The images as one dataset, RGB if any image is. DataError lists every fault."""
    refuse(dataset.where, faults(dataset))
    return stacked(dataset)


def stacked(dataset: DecodedDataset) -> Raw:
    """Images without faults as one dataset."""
    rgb = any(image.pixels.ndim == 3 for image in dataset.train + dataset.test)

    def tensors(part: list[DecodedImage]) -> tuple[torch.Tensor, torch.Tensor]:
        return stack([image.pixels for image in part], rgb), torch.tensor([image.label for image in part])

    return Raw(*tensors(dataset.train), *tensors(dataset.test), dataset.classes, notes=tuple(notes(dataset)))


def notes(dataset: DecodedDataset) -> list[str]:
    """What is worth knowing but not a fault: what was passed over, and images that are cut down to their centre."""
    long = [f"{image.place} ({image.long})" for image in dataset.train + dataset.test if image.long]
    if not long:
        return dataset.notes
    images = f"{len(long)} image{'s have one side' if len(long) > 1 else ' has one side'} more than {LONGEST} times"
    return [*dataset.notes, f"{images} the other, and only the central square is used: {', '.join(long[:NAMED])}"]


def usable(dataset: DecodedDataset) -> tuple[DecodedDataset, list[str]]:
    """The dataset with only those images that can be used together, and the faults that only resizing shows.

    If many images have another size than most, all are resized to the shorter side of the most frequent size.
    """
    common, labels, resize_faults = _common_size(dataset), range(len(dataset.classes)), []
    side = min(common) if common and len(_of_other_sizes(dataset, common)) > FEW else 0

    def kept(part: list[DecodedImage]) -> Iterator[DecodedImage]:
        for image in part:
            if image.pixels is None or image.label not in labels:
                continue
            if not side:
                if image.pixels.shape[:2] == common:
                    yield image
                continue
            try:
                pixels = np.array(resize_image(Image.fromarray(image.pixels), side, "shorter"))
                yield replace(image, pixels=pixels)
            except DataError as error:
                resize_faults.append(f"{image.place}: {error}")

    return replace(dataset, train=[*kept(dataset.train)], test=[*kept(dataset.test)]), resize_faults


def faults(dataset: DecodedDataset) -> list[str]:
    """Every image that cannot be used, and parts that are empty or smaller than the number of classes."""
    parts, classes = (("train", dataset.train), ("test", dataset.test)), len(dataset.classes)
    faults = [f"the {part} part has no images: add some" for part, images in parts if not images]
    if 0 < len(dataset.train) < classes:
        faults.append(f"{len(dataset.train)} training images for {classes} classes: add images or raise dataset.limit")
    common = _common_size(dataset)
    others = _of_other_sizes(dataset, common)
    if len(others) > FEW:
        sides = [side for image in others for side in image.pixels.shape[:2]]
        faults.append(
            f"{len(others)} images are not {_size(common)}, the most frequent size; their sides are {min(sides)} to "
            f"{max(sides)} pixels ({others[0].place}, ...): set dataset.size to the side you want, e.g. {min(sides)}"
        )
    found: dict[str, list[str]] = {}
    for image in dataset.train + dataset.test:
        for fault in _faults_of(image, classes, common if len(others) <= FEW else None):
            found.setdefault(fault, []).append(image.place)
    return faults + [line for fault, named in found.items() for line in _lines(fault, named)]


def _faults_of(image: DecodedImage, classes: int, common: tuple[int, int] | None) -> list[str]:
    """What is wrong with an image; its size only if it must be `common`."""
    faults = []
    if common and _has_other_size(image, common):
        sizes = f"{_size(image.pixels.shape)} pixels, most are {_size(common)}"
        faults.append(f"{sizes}: set dataset.size, or resize or remove it")
    if image.fault:
        faults.append(image.fault)
    if image.label is None and image.pixels is not None:
        faults.append("no label: add it or remove the image")
    elif isinstance(image.label, int) and not 0 <= image.label < classes:
        faults.append(f"label {image.label} is not one of the classes 0..{classes - 1}: correct it")
    elif image.label is not None and not isinstance(image.label, int):
        faults.append(f"label {image.label} is not one of the {classes} classes of the training part: correct it")
    return faults


def _lines(fault: str, places: list[str]) -> list[str]:
    """A line for each image with a fault, or one for all of them if they are many."""
    if len(places) <= MANY:
        return [f"{place}: {fault}" for place in places]
    return [f"{len(places)} images ({', '.join(places[:NAMED])}, ..., {places[-1]}): {fault}"]


def _common_size(dataset: DecodedDataset) -> tuple[int, int] | None:
    """(h, w) of most images."""
    images = dataset.train + dataset.test
    sizes = Counter(image.pixels.shape[:2] for image in images if image.pixels is not None)
    return sizes.most_common(1)[0][0] if sizes else None


def _of_other_sizes(dataset: DecodedDataset, common: tuple[int, int] | None) -> list[DecodedImage]:
    return [image for image in dataset.train + dataset.test if _has_other_size(image, common)]


def _has_other_size(image: DecodedImage, common: tuple[int, int] | None) -> bool:
    return image.pixels is not None and image.pixels.shape[:2] != common


def _size(shape: tuple[int, ...]) -> str:
    """Width and height as people write them, of (h, w) or (h, w, c)."""
    return f"{shape[1]}x{shape[0]}"
