"""CUB-200-2011 as published: 11,788 photographs of 200 kinds of birds with the official split, here at 32 px.

    images.txt, image_class_labels.txt, train_test_split.txt, classes.txt     lines of `<id> <value>`
    images/001.Black_footed_Albatross/....jpg

The classes take turns, each in the order of its images' ids, so that `limit` takes as many of each.
"""

from pathlib import Path, PurePosixPath

from distill.data import places
from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.folder import interleaved
from distill.data.images import DecodedDataset, ImageFile, Notice, assemble, decode_files, silent
from distill.data.texts import lines
from distill.recipe import Cub

LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def read(settings: Cub, notice: Notice = silent) -> Raw:
    """The images at one size, RGB. DataError lists every file and line at fault."""
    return assemble(decode_all(settings, notice))


def decode_all(settings: Cub, notice: Notice = silent) -> DecodedDataset:
    """Every image of both parts. DataError if the lists are not those of the dataset."""
    train, test, classes = _items(settings)
    where = str(places.folder(settings.path))
    return DecodedDataset(where, decode_files(train, settings, notice), decode_files(test, settings, notice), classes)


def sources(settings: Cub) -> list[Path]:
    """The files that decide what read() returns."""
    root = places.folder(settings.path)
    train, test, _ = _items(settings)
    return [root / name for name in LISTS] + [item.root / item.name for item in train + test]


def _items(settings: Cub) -> tuple[list[ImageFile], list[ImageFile], tuple[str, ...]]:
    root = places.folder(settings.path)
    refuse(str(root), [f"no {name}: unpack the archive again" for name in LISTS if not (root / name).is_file()])
    faults: list[str] = []
    images, labels, train, classes = (_table(root / name, faults) for name in LISTS)
    order = {number: label for label, number in enumerate(classes)}
    parts: tuple[list[ImageFile], list[ImageFile]] = ([], [])
    for number, name in images.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            faults.append(f"images.txt: {name!r} leaves the folder images: correct it")
        elif labels.get(number) not in order:
            faults.append(
                f"image_class_labels.txt: image {number} is of class {labels.get(number)}, not in classes.txt"
            )
        elif train.get(number) not in ("0", "1"):
            faults.append(
                f"train_test_split.txt: image {number} is {train.get(number)}, neither 1 (train) nor 0 (test)"
            )
        else:
            parts[train[number] == "0"].append(ImageFile(root, f"images/{name}", order[labels[number]]))
    refuse(str(root), faults)
    names = tuple(name.partition(".")[2].replace("_", " ") or name for name in classes.values())
    return interleaved(parts[0])[: settings.limit or None], interleaved(parts[1])[: settings.limit_test or None], names


def _table(file: Path, faults: list[str]) -> dict[str, str]:
    """The values of `<id> <value>` lines by id, in their order; other lines are added to `faults`."""
    table = {}
    for number, line in enumerate(lines(file), 1):
        key, space, value = line.strip().partition(" ")
        if not space or not key.isdecimal():
            faults.append(f"{file.name} line {number}: {line[:60]!r} is not a number and a value")
        else:
            table[key] = value
    return table
