"""A dataset looked over before it is used: every fault, a table's figures, and images of each class to look at.

report = inspect(settings, notice)
report.faults                 # empty: it can be used
sheet(report).save("sheet.png")
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib import import_module

import torch
from PIL import Image

from distill.data import rows as encoded
from distill.data.base import Raw
from distill.data.faults import Refused
from distill.data.places import local
from distill.data.size import sized
from distill.data.split import limited
from distill.errors import DataError
from distill.picture import grid
from distill.recipe import DatasetSettings

IMBALANCE = 10.0
"""Times as many images in the largest class as in the smallest that are a fault."""
SHOWN_CLASSES = 40
PER_CLASS = 8


@dataclass(frozen=True)
class Part:
    """Figures of one part: images, images of each class in label order."""

    images: int
    per_class: list[int]


@dataclass(frozen=True)
class Report:
    """What was found. `raw` is what can be used of the dataset, None where nothing can."""

    kind: str
    faults: list[str]
    notes: list[str]
    classes: tuple[str, ...]
    train: Part
    test: Part
    shape: tuple[int, int, int] | None
    """(c, h, w) of the images."""
    raw: Raw | None


def inspect(settings: DatasetSettings, notice: encoded.Notice = encoded.silent) -> Report:
    """Read a dataset whole, past its faults, and say all that is wrong with it. Nothing is kept in the cache."""
    raw, faults, notes, where = _read(local(settings, notice), notice)
    if raw is None:
        empty = Part(0, [])
        return Report(settings.kind, faults, notes, (), empty, empty, None, None)
    raw = limited(sized(raw, settings), settings.limit, settings.limit_test)
    counts = (("train", len(raw.train_y)), ("test", len(raw.test_y)))
    places = [[f"{part} image {i}" for i in range(n)] for part, n in counts]
    train, test = (_part(y, len(raw.classes)) for y in (raw.train_y, raw.test_y))
    faults = faults + _class_faults(raw.classes, train, test) + _leaks(raw, *(where or places))
    notes = notes + _notes(raw)
    return Report(settings.kind, faults, notes, raw.classes, train, test, tuple(raw.train_x.shape[1:]), raw)


def sheet(report: Report) -> Image.Image:
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


def _read(settings: DatasetSettings, notice: encoded.Notice) -> tuple[Raw | None, list[str], list[str], list | None]:
    """What can be used, the faults, notes, and the places of training and test images where they have names."""
    reader = import_module(f"distill.data.{settings.kind}")
    try:
        if not hasattr(reader, "rows"):
            return reader.read(settings, notice), [], [], None
        found = reader.rows(settings, notice)
    except Refused as error:
        return None, error.faults, [], None
    except DataError as error:
        return None, [str(error)], [], None
    sound, apart = encoded.sound(found)
    where = [[row.place for row in part] for part in (sound.train, sound.test)]
    usable = sound.train and sound.test
    return encoded.stacked(sound) if usable else None, encoded.faults(found) + apart, found.notes, where


def _part(y: torch.Tensor, classes: int) -> Part:
    return Part(len(y), torch.bincount(y, minlength=classes).tolist())


def _class_faults(classes: tuple[str, ...], train: Part, test: Part) -> list[str]:
    faults = [f"class {name!r} has no training image: add some" for name, n in _counted(classes, train) if n == 0]
    faults += [f"class {name!r} has no test image: add some" for name, n in _counted(classes, test) if n == 0]
    faults += [
        f"class {name!r} has 1 training image, and one must be held out: add some"
        for name, n in _counted(classes, train)
        if n == 1
    ]
    some = [n for n in train.per_class if n]
    few, many = min(some), max(some)
    if many >= IMBALANCE * few:
        least, most = (classes[train.per_class.index(n)] for n in (few, many))
        faults.append(f"class {least!r} has {few} training images, {most!r} has {many}: even them out")
    if len(classes) < 2:
        faults.append(f"only the class {classes}: a classifier needs two; add images of another class")
    doubled = [name for name, n in Counter(classes).items() if n > 1]
    return faults + [f"two classes are called {name!r}: rename one" for name in doubled]


def _counted(classes: tuple[str, ...], part: Part) -> list[tuple[str, int]]:
    return list(zip(classes, part.per_class, strict=True))


def _leaks(raw: Raw, train_places: list[str], test_places: list[str]) -> list[str]:
    """Test images that are training images too, pixel for pixel."""
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
    return [f"{doubled} training images are there more than once, {conflicting} of them in another class"]


def _digests(x: torch.Tensor) -> list[bytes]:
    """One digest of each image of x (n, c, h, w)."""
    return [hashlib.blake2b(image.numpy(), digest_size=16).digest() for image in x.contiguous()]
