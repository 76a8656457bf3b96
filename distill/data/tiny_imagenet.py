"""Tiny ImageNet-200 as published: 100,000 training and 10,000 labelled validation images, 64 px, 200 classes.

    wnids.txt, words.txt
    train/<wnid>/images/<wnid>_<i>.JPEG
    val/images/val_<i>.JPEG, val/val_annotations.txt    the test part here, as its own has no labels

Classes are in the order of their wnids; some images are grey. The classes take turns, so that `limit` takes as many of
each.
"""

from pathlib import Path

from distill.data import places
from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.folder import interleaved
from distill.data.imagenet import WNID, readable
from distill.data.images import DecodedDataset, ImageFile, Notice, assemble, decode_files, silent
from distill.data.texts import lines
from distill.data.walk import IMAGES
from distill.recipe import TinyImagenet


def read(settings: TinyImagenet, notice: Notice = silent) -> Raw:
    """The images at one size, RGB. DataError lists every file at fault."""
    return assemble(decode_all(settings, notice))


def decode_all(settings: TinyImagenet, notice: Notice = silent) -> DecodedDataset:
    """Every image of both parts. DataError if the lists are not those of the dataset."""
    train, test, classes = _items(settings)
    where = str(places.folder(settings.path))
    return DecodedDataset(where, decode_files(train, settings, notice), decode_files(test, settings, notice), classes)


def sources(settings: TinyImagenet) -> list[Path]:
    """The files that decide what read() returns."""
    root = places.folder(settings.path)
    train, test, _ = _items(settings)
    lists = [root / "wnids.txt", root / "words.txt", root / "val" / "val_annotations.txt"]
    return lists + [item.root / item.name for item in train + test]


def _items(settings: TinyImagenet) -> tuple[list[ImageFile], list[ImageFile], tuple[str, ...]]:
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
    return (
        interleaved(train)[: settings.limit or None],
        interleaved(test)[: settings.limit_test or None],
        readable(root, wnids),
    )


def _train(root: Path, wnids: list[str]) -> list[ImageFile]:
    """The training images in the order of their numbers; a class without a folder has none, which load() refuses."""
    items = []
    for label, wnid in enumerate(wnids):
        files = (file for file in (root / "train" / wnid / "images").glob("*") if file.suffix.lower() in IMAGES)
        for file in sorted(files, key=lambda file: (len(file.name), file.name)):  # _2 before _10
            items.append(ImageFile(root, str(file.relative_to(root)), label))
    return items


def _test(root: Path, annotations: Path, labels: dict[str, int]) -> tuple[list[ImageFile], list[str]]:
    """The images of val/ in the order of the list, and the lines of the list that cannot be used."""
    items, faults = [], []
    for number, line in enumerate(lines(annotations), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if "/" in name or not name or wnid not in labels:
            faults.append(f"val/val_annotations.txt line {number}: {line[:60]!r} is not an image and its class")
        else:
            items.append(ImageFile(root, f"val/images/{name}", labels[wnid]))
    return items, faults
