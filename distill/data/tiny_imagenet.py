"""Tiny ImageNet-200 as published: 100,000 training and 10,000 labelled validation images, 64 px, 200 classes.

    wnids.txt, words.txt
    train/<wnid>/images/<wnid>_<i>.JPEG
    val/images/val_<i>.JPEG, val/val_annotations.txt    the test part here, as its own has no labels

Classes are in the order of their wnids; some images are grey. Images go around the classes, so that `limit` takes of
all alike.
"""

from pathlib import Path

from distill.data import places
from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.folder import SUFFIXES, around
from distill.data.imagenet import WNID, readable
from distill.data.rows import Item, Notice, Rows, assemble, gather, silent
from distill.data.texts import lines
from distill.recipe import TinyImagenet


def read(settings: TinyImagenet, notice: Notice = silent) -> Raw:
    """The images at one size, RGB. DataError lists every file at fault."""
    return assemble(rows(settings, notice))


def rows(settings: TinyImagenet, notice: Notice = silent) -> Rows:
    """Every image of both parts. DataError if the lists are not those of the dataset."""
    train, test, classes = _items(settings)
    where = str(places.folder(settings.path))
    return Rows(where, gather(train, settings, notice), gather(test, settings, notice), classes)


def sources(settings: TinyImagenet) -> list[Path]:
    """The files that decide what read() returns."""
    root = places.folder(settings.path)
    train, test, _ = _items(settings)
    lists = [root / "wnids.txt", root / "words.txt", root / "val" / "val_annotations.txt"]
    return lists + [item.root / item.name for item in train + test]


def _items(settings: TinyImagenet) -> tuple[list[Item], list[Item], tuple[str, ...]]:
    root = places.folder(settings.path)
    annotations = root / "val" / "val_annotations.txt"
    needed = (root / "wnids.txt", root / "words.txt", annotations)
    refuse(
        str(root), [f"no {file.relative_to(root)}: unpack the archive again" for file in needed if not file.is_file()]
    )
    wnids = sorted(" ".join(lines(root / "wnids.txt")).split())
    train = _train(root, wnids)
    test, faults = _test(root, annotations, {wnid: label for label, wnid in enumerate(wnids)})
    faults = [f"wnids.txt: {wnid!r} is not a class number" for wnid in wnids if not WNID.fullmatch(wnid)] + faults
    refuse(str(root), faults)
    return around(train)[: settings.limit or None], around(test)[: settings.limit_test or None], readable(root, wnids)


def _train(root: Path, wnids: list[str]) -> list[Item]:
    """The training images in the order of their numbers; a class without a folder has none."""
    items = []
    for label, wnid in enumerate(wnids):
        files = (file for file in (root / "train" / wnid / "images").glob("*") if file.suffix.lower() in SUFFIXES)
        for file in sorted(files, key=lambda file: (len(file.name), file.name)):  # _2 before _10
            items.append(Item(root, str(file.relative_to(root)), label))
    return items


def _test(root: Path, annotations: Path, labels: dict[str, int]) -> tuple[list[Item], list[str]]:
    """The images of val/ in the order of the list, and the lines of the list that cannot be used."""
    items, faults = [], []
    for number, line in enumerate(lines(annotations), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if "/" in name or not name or wnid not in labels:
            faults.append(f"val/val_annotations.txt line {number}: {line[:60]!r} is not an image and its class")
        else:
            items.append(Item(root, f"val/images/{name}", labels[wnid]))
    return items, faults
