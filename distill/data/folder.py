"""Folders of images, one folder for each class: a user's own, or ImageNet's, or one of its named subsets.

    train/<class>/*.jpg   with test/<class>/*.jpg or val/<class>/*.jpg beside it
    <class>/*.jpg         alone: the test part is a share of each class, chosen by the files' names

Classes are in the order of their folders' names, or in the published order of a subset. The classes take turns (the
first image of each, then the second of each, ...), so that `limit` takes as many of each.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from distill.data import places
from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.imagenet import SUBSETS, names_file, readable
from distill.data.images import DecodedDataset, ImageFile, Notice, assemble, decode_files, silent
from distill.data.split import test_part
from distill.recipe import Folder

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
TRAIN = ("train", "training")
TEST = ("test", "val", "validation", "valid")


def read(settings: Folder, notice: Notice = silent) -> Raw:
    """The images at one size, RGB if any is. DataError lists every file and folder at fault."""
    return assemble(decode_all(settings, notice))


def decode_all(settings: Folder, notice: Notice = silent) -> DecodedDataset:
    """Every image of both parts. DataError if the folders are not those of a dataset."""
    train, test, classes, notes = _items(settings)
    where = str(places.folder(settings.path))
    return DecodedDataset(
        where, decode_files(train, settings, notice), decode_files(test, settings, notice), classes, notes
    )


def sources(settings: Folder) -> list[Path]:
    """The files that decide what read() returns, and the folders whose entries are the classes."""
    train, test, _, _ = _items(settings)
    root = places.folder(settings.path)
    names = names_file(root)
    parts = [part for part in part_folders(root) if part]
    return [item.root / item.name for item in train + test] + parts + ([names] if names else [])


def interleaved(items: list[ImageFile]) -> list[ImageFile]:
    """The files with their order within a class, the first of every class before the second of any."""
    seen: Counter[int] = Counter()
    turns = []
    for item in items:
        turns.append((seen[item.label], item.label))
        seen[item.label] += 1
    return [items[i] for i in sorted(range(len(items)), key=turns.__getitem__)]


def part_folders(root: Path) -> tuple[Path, Path | None]:
    """The folder of the training part, and that of the test part if the dataset has one."""
    train = next((root / name for name in TRAIN if (root / name).is_dir()), None)
    if train is None:
        return root, None
    tests = [root / name for name in TEST if (root / name).is_dir()]
    # ImageNet's test/ holds images without labels; its val/ is the test part
    return train, next((part for part in tests if class_folders(part)), tests[0] if tests else None)


def class_folders(part: Path) -> list[str]:
    """Names of the folders of a part, hidden ones left out, sorted."""
    return sorted(entry.name for entry in part.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _items(settings: Folder) -> tuple[list[ImageFile], list[ImageFile], tuple[str, ...], list[str]]:
    """Training and test images within their limits, class names, notes on files that were skipped."""
    root = places.folder(settings.path)
    train_folder, test_folder = part_folders(root)
    chosen = list(SUBSETS[settings.subset]) if settings.subset else class_folders(train_folder)
    refuse(str(root), _layout_faults(train_folder, test_folder, chosen))
    skipped: list[str] = []
    train = _part(root, train_folder, chosen, skipped)
    if test_folder:
        test = _part(root, test_folder, chosen, skipped)
    else:
        labels = np.array([item.label for item in train])
        tests = test_part([item.name for item in train], labels, settings.test_part)
        train, test = ([item for item, t in zip(train, tests, strict=True) if t == part] for part in (False, True))
    notes = [f"{len(skipped)} files are not images by their names: {', '.join(skipped[:5])}"] if skipped else []
    names = tuple(SUBSETS[settings.subset].values()) if settings.subset else readable(root, chosen)
    return interleaved(train)[: settings.limit or None], interleaved(test)[: settings.limit_test or None], names, notes


def _layout_faults(train: Path, test: Path | None, chosen: list[str]) -> list[str]:
    """Class folders that are missing in either part, or that only the test part has."""
    have = class_folders(train)
    missing = [name for name in chosen if name not in have]
    faults = [f"no folder {train.name}/{name}: add the images of that class" for name in missing]
    if not chosen:
        faults.append(f"no folders of classes in {train}: put the images of each class into a folder with its name")
    if test is None:
        return faults
    tested = class_folders(test)
    faults += [f"no folder {test.name}/{name}: add test images of that class" for name in chosen if name not in tested]
    if set(chosen) == set(have):
        extra = sorted(set(tested) - set(chosen))
        faults += [f"{test.name}/{name} is a class that {train.name} does not have: remove it" for name in extra]
    return faults


def _part(root: Path, part: Path, chosen: list[str], skipped: list[str]) -> list[ImageFile]:
    """The images of a part, by class and then by name; names of other files are added to `skipped`."""
    items = []
    for label, name in enumerate(chosen):
        for file in sorted(file for file in (part / name).rglob("*") if file.is_file()):
            relative = str(file.relative_to(root))
            if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                items.append(ImageFile(root, relative, label))
            else:
                skipped.append(relative)
    return items
