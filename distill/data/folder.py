"""Folders of images, one folder for each class: a user's own, or ImageNet's, or one of its named subsets.

    train/<class>/*.jpg   with test/<class>/*.jpg or val/<class>/*.jpg beside it, in many spellings (data/parts.py)
    <class>/*.jpg         alone: the test part is a share of each class, chosen by the files' names

Classes are in the order of their folders' names, or in the published order of a subset. The classes take turns (the
first image of each, then the second of each, ...), so that `limit` takes as many of each. What is passed over is noted.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from distill.data import places
from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.imagenet import SUBSETS, names_file, readable
from distill.data.images import DecodedDataset, ImageFile, Notice, assemble, decode_files, silent
from distill.data.parts import Layout, class_folders, layout
from distill.data.split import test_part
from distill.data.texts import shown
from distill.data.walk import Found, below
from distill.recipe import Folder

NAMED = 5  # files that a note names


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
    found = layout(root)
    parts = [part for part in (found.train, found.test) if part]
    return [item.root / item.name for item in train + test] + parts + ([names] if names else [])


def interleaved(items: list[ImageFile]) -> list[ImageFile]:
    """The files with their order within a class, the first of every class before the second of any."""
    seen: Counter[int] = Counter()
    turns = []
    for item in items:
        turns.append((seen[item.label], item.label))
        seen[item.label] += 1
    return [items[i] for i in sorted(range(len(items)), key=turns.__getitem__)]


def _items(settings: Folder) -> tuple[list[ImageFile], list[ImageFile], tuple[str, ...], list[str]]:
    """Training and test images within their limits, class names, notes on what was passed over."""
    root = places.folder(settings.path)
    found = layout(root)
    chosen = list(SUBSETS[settings.subset]) if settings.subset else class_folders(found.train)
    refuse(shown(str(root)), found.faults or _layout_faults(found, chosen))
    passed = Found()
    train = _part(root, found.train, chosen, passed)
    if found.test:
        test = _part(root, found.test, chosen, passed)
    else:
        labels = np.array([item.label for item in train])
        tests = test_part([item.name for item in train], labels, settings.test_part)
        train, test = ([item for item, t in zip(train, tests, strict=True) if t == part] for part in (False, True))
    names = tuple(SUBSETS[settings.subset].values()) if settings.subset else readable(root, chosen)
    notes = found.notes + _notes(root, passed)
    return interleaved(train)[: settings.limit or None], interleaved(test)[: settings.limit_test or None], names, notes


def _layout_faults(found: Layout, chosen: list[str]) -> list[str]:
    """Class folders that are missing in either part, or that only the test part has."""
    train, test = found.train, found.test
    have, name = class_folders(train), shown(train.name)
    faults = [f"no folder {name}/{shown(c)}: add the images of that class" for c in chosen if c not in have]
    if not chosen:
        faults.append(
            f"no folders of classes in {shown(str(train))}: put the images of each class into a folder with its name"
        )
    if test is None:
        return faults
    tested, other = class_folders(test), shown(test.name)
    faults += [f"no folder {other}/{shown(c)}: add test images of that class" for c in chosen if c not in tested]
    if set(chosen) == set(have):
        extra = sorted(set(tested) - set(chosen))
        faults += [f"{other}/{shown(c)} is a class that {name} does not have: remove it" for c in extra]
    return faults


def _part(root: Path, part: Path, chosen: list[str], passed: Found) -> list[ImageFile]:
    """The images of a part, by class and then by name; other files and links are added to `passed`."""
    items = []
    for label, name in enumerate(chosen):
        found = below(part / name)
        items += [ImageFile(root, str(file.relative_to(root)), label) for file in found.images]
        passed.others.extend(found.others)
        passed.links.extend(found.links)
    return items


def _notes(root: Path, passed: Found) -> list[str]:
    """What was passed over, with the first names."""
    notes = []
    if passed.others:
        kinds = Counter(file.suffix.lower() or "no suffix" for file in passed.others)
        counts = ", ".join(f"{n} {shown(kind)}" for kind, n in kinds.most_common(NAMED))
        notes.append(
            f"{len(passed.others)} files are not images by their names ({counts}): {_first(root, passed.others)}; "
            f"convert pictures among them to PNG or JPEG"
        )
    for reason in sorted({why for _, why in passed.links}):
        links = [link for link, why in passed.links if why == reason]
        count = f"{len(links)} link{'s are' if len(links) > 1 else ' is'} not followed"
        notes.append(f"{count} ({reason}): {_first(root, links)}")
    return notes


def _first(root: Path, files: list[Path]) -> str:
    return ", ".join(shown(str(file.relative_to(root))) for file in files[:NAMED])
