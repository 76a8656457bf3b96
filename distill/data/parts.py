"""Which folder of a dataset is its training part and which its test part, in the spellings that people use.

    part_of("Training_Set")    # "train"
    layout(root)               # the parts of a folder of images, what is left unread, and what cannot be decided

A name is that of a part if nothing but words such as "set", "images" or a year stands beside `train`, `test` or `val`:
`seg_train`, `TestData` and `val2017` are parts, `bullet_train` is a class. What is not read is always said.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from distill.data.texts import shown
from distill.data.walk import IMAGES, below, folders_in

Part = Literal["train", "test", "validation"]
SPELLED: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tests", "tst", "eval", "evaluation"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
}
BESIDE = r"sets?|data|datasets?|images?|imgs?|photos?|pictures?|parts?|splits?|folders?|seg|all|the|my"
WORD = re.compile(rf"(?:{BESIDE})?({'|'.join(sorted(SPELLED, key=len, reverse=True))})(?:{BESIDE})?\d*")


def part_of(name: str) -> Part | None:
    """The part that a folder or file (without its suffix) is named after; None if it is not named after one."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    words = [word for word in words if not re.fullmatch(rf"(?:{BESIDE})?\d*(?:x\d+)?", word)]
    match = WORD.fullmatch(words[0]) if len(words) == 1 else None
    return SPELLED[match[1]] if match else None


@dataclass(frozen=True)
class Layout:
    """The folders that hold the classes of each part; `test` is None if it must be drawn from the training part."""

    train: Path
    test: Path | None = None
    notes: list[str] = field(default_factory=list)
    """What is left unread."""
    faults: list[str] = field(default_factory=list)
    """What cannot be decided, with the fix."""


def layout(root: Path) -> Layout:
    """The parts of a folder of images: parts with a folder for each class, else the folders of classes themselves."""
    root = inner(root)
    folders = folders_in(root)
    parts = [folder for folder in folders if part_of(folder.name)]
    trains = _ordered(folders, "train")
    if not any(_has_classes(folder) for folder in trains):
        if trains and len(parts) == len(folders):  # images of all classes are mixed in it
            return Layout(trains[0])
        return Layout(root, notes=_loose(root), faults=_undecided(root, folders, parts))
    train = next(folder for folder in trains if _has_classes(folder))
    tests = [*_ordered(folders, "test"), *_ordered(folders, "validation")]
    test = next((folder for folder in tests if _has_classes(folder)), None)
    unread = [folder for folder in folders if folder not in (train, test)]
    faults, notes = [], []
    for folder in unread:
        images, name = len(below(folder).images), shown(folder.name)
        if test is None and part_of(folder.name) is None and images:
            faults.append(
                f"{name}/ ({images} images) is beside {train.name}/, which has folders of classes: if it is a class, "
                f"move it into {train.name}/; if it is the test part, name it test; else move it elsewhere"
            )
        else:
            notes.append(f"{name}/ is left unread ({images} images{_why_unread(folder, test)})")
    found = [inner(part) if part else None for part in (train, test)]
    loose = [note for place in (root, *found) if place for note in _loose(place)]
    return Layout(*found, notes + loose, faults)


def inner(folder: Path) -> Path:
    """The folder itself or, if all that it holds is one folder of folders, that one: archives often unpack so."""
    while True:
        folders = folders_in(folder)
        if len(folders) != 1 or part_of(folders[0].name) == "train" and part_of(folder.name) != "train":
            return folder
        if not folders_in(folders[0]) or any(_is_image(entry) for entry in folder.iterdir()):
            return folder
        folder = folders[0]


def class_folders(part: Path) -> list[str]:
    """Names of the folders of a part, hidden ones left out, sorted."""
    return [folder.name for folder in folders_in(part)]


def _ordered(folders: list[Path], part: Part) -> list[Path]:
    """The folders named after a part, the plainest names first."""
    return sorted((f for f in folders if part_of(f.name) == part), key=lambda f: (len(f.name), f.name.lower(), f.name))


def _has_classes(part: Path) -> bool:
    return bool(folders_in(inner(part)))


def _undecided(root: Path, folders: list[Path], parts: list[Path]) -> list[str]:
    """Why the folders of `root` cannot be taken for classes."""
    names = ", ".join(f"{shown(folder.name)}/" for folder in folders[:5])
    nested = [folder for folder in parts if part_of(folder.name) != "train" and folders_in(folder)]
    if nested:
        return [f"{nested[0].name}/ has folders of classes but no training part is beside it: name that part train"]
    inside = [frozenset(class_folders(folder)) for folder in folders]
    direct = any(_is_image(entry) for folder in folders for entry in folder.iterdir())
    if len(folders) > 1 and len(inside[0]) > 1 and len(set(inside)) == 1 and not direct:
        return [
            f"{names} hold folders of the same names ({', '.join(sorted(map(shown, inside[0]))[:3])}, ...), as parts "
            f"of a dataset do: name them train and test, or move the images of a class out of their folders"
        ]
    return []


def _loose(folder: Path) -> list[str]:
    images = sum(_is_image(entry) for entry in folder.iterdir())
    if not images or not folders_in(folder):
        return []
    return [f"{images} images in {shown(folder.name)}/ itself, in no folder of a class, are left unread"]


def _why_unread(folder: Path, test: Path | None) -> str:
    if part_of(folder.name) is None:
        return ""
    if not _has_classes(folder):
        return ", no folders of classes" + ("" if test else "; test images are drawn from the training part")
    return f"; {shown(test.name)}/ is the test part" if test and part_of(folder.name) != "train" else ""


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in IMAGES and not entry.name.startswith(".") and entry.is_file()
