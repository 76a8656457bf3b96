"""A check of a dataset before it is used: every fault, figures for a table, and a sheet of images of each class.

report = inspect(settings, notice)
report.faults                 # empty: the dataset can be used
sheet(report).save("sheet.png")
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib import import_module

import torch
from PIL import Image

from distill.data import images
from distill.data.base import Raw
from distill.data.faults import Refused
from distill.data.places import local
from distill.data.size import resize_dataset
from distill.data.split import imbalance, limited
from distill.errors import DataError
from distill.picture import grid
from distill.recipe import DatasetSettings

SHOWN_CLASSES = 40
PER_CLASS = 8


@dataclass(frozen=True)
class PartCounts:
    """Images of one part, and of each class of it in label order."""

    images: int
    per_class: list[int]


@dataclass(frozen=True)
class DatasetReport:
    """The result of a check. `raw` is the usable part of the dataset, None if there is none."""

    kind: str
    faults: list[str]
    notes: list[str]
    classes: tuple[str, ...]
    train: PartCounts
    test: PartCounts
    shape: tuple[int, int, int] | None
    """(c, h, w) of the images."""
    raw: Raw | None


def inspect(settings: DatasetSettings, notice: images.Notice = images.silent) -> DatasetReport:
    """Read the whole dataset, continuing after faults, and list them all. Nothing is kept in the cache."""
    raw, faults, notes, places = _read(local(settings, notice), notice)
    if raw is None:
        empty = PartCounts(0, [])
        return DatasetReport(settings.kind, faults, notes, (), empty, empty, None, None)
    raw = limited(resize_dataset(raw, settings), settings.limit, settings.limit_test)
    if places is None:
        counts = (("train", len(raw.train_y)), ("test", len(raw.test_y)))
        places = [[f"{part} image {i}" for i in range(n)] for part, n in counts]
    leaks = _leaks(raw, *places)
    raw = limited(raw, 0, 0, settings.limit_class)
    train, test = (_part(y, len(raw.classes)) for y in (raw.train_y, raw.test_y))
    faults = faults + _class_faults(raw.classes, train, test) + leaks
    notes = notes + _notes(raw) + ([uneven] if (uneven := imbalance(raw.train_y, raw.classes)) else [])
    return DatasetReport(settings.kind, faults, notes, raw.classes, train, test, tuple(raw.train_x.shape[1:]), raw)


def sheet(report: DatasetReport) -> Image.Image:
    """Up to eight training images of each of the first forty classes, a row for each. DataError if there are none."""
    if report.raw is None:
        raise DataError("no image could be read, so there is nothing to draw")
    chosen, labels = [], []
    columns = max(1, min(PER_CLASS, max(report.train.per_class)))
    for label, name in list(enumerate(report.classes))[:SHOWN_CLASSES]:
        members = (report.raw.train_y == label).nonzero().flatten()[:columns]
        row = torch.full((columns, *report.raw.train_x.shape[1:]), 255, dtype=torch.uint8)
        row[: len(members)] = report.raw.train_x[members]
        chosen.append(row)
        labels += [name] * len(members) + [""] * (columns - len(members))
    return grid(torch.cat(chosen).float() / 255, columns=columns, labels=labels)


def _read(settings: DatasetSettings, notice: images.Notice) -> tuple[Raw | None, list[str], list[str], list | None]:
    """The usable part, faults, notes, and the locations of training and test images if they have names."""
    reader = import_module(f"distill.data.{settings.kind}")
    try:
        if not hasattr(reader, "decode_all"):
            raw = reader.read(settings, notice)
            return raw, [], list(raw.notes), None
        decoded = reader.decode_all(settings, notice)
    except Refused as error:
        return None, error.faults, [], None
    except DataError as error:
        return None, [str(error)], [], None
    usable, resize_faults = images.usable(decoded)
    places = [[image.place for image in part] for part in (usable.train, usable.test)]
    raw = images.stacked(usable) if usable.train and usable.test else None
    return raw, images.faults(decoded) + resize_faults, images.notes(decoded), places


def _part(y: torch.Tensor, classes: int) -> PartCounts:
    return PartCounts(len(y), torch.bincount(y, minlength=classes).tolist())


def _class_faults(classes: tuple[str, ...], train: PartCounts, test: PartCounts) -> list[str]:
    faults = [f"class {name!r} has no training image: add some" for name, n in _counted(classes, train) if n == 0]
    faults += [f"class {name!r} has no test image: add some" for name, n in _counted(classes, test) if n == 0]
    faults += [
        f"class {name!r} has 1 training image, and one must be held out: add some"
        for name, n in _counted(classes, train)
        if n == 1
    ]
    if len(classes) < 2:
        faults.append(f"only the class {classes}: a classifier needs two; add images of another class")
    repeated = [name for name, n in Counter(classes).items() if n > 1]
    return faults + [f"two classes are called {name!r}: rename one" for name in repeated]


def _counted(classes: tuple[str, ...], part: PartCounts) -> list[tuple[str, int]]:
    return list(zip(classes, part.per_class, strict=True))


def _leaks(raw: Raw, train_places: list[str], test_places: list[str]) -> list[str]:
    """Test images that equal a training image, pixel for pixel."""
    known = defaultdict(list)
    for place, digest in zip(train_places, _digests(raw.train_x), strict=True):
        known[digest].append(place)
    return [
        f"{place} is {known[digest][0]} pixel for pixel: remove one of them"
        for place, digest in zip(test_places, _digests(raw.test_x), strict=True)
        if digest in known
    ]


def _notes(raw: Raw) -> list[str]:
    first: dict[bytes, int] = {}
    doubled = conflicting = 0
    for digest, label in zip(_digests(raw.train_x), raw.train_y.tolist(), strict=True):
        doubled += digest in first
        conflicting += first.setdefault(digest, label) != label
    if not doubled:
        return []
    return [f"{doubled} training images occur more than once, {conflicting} of them in another class"]


def _digests(x: torch.Tensor) -> list[bytes]:
    """One digest of each image of x (n, c, h, w)."""
    return [hashlib.blake2b(image.numpy(), digest_size=16).digest() for image in x.contiguous()]
