"""The kind of the dataset at a path, from names alone; files are only opened to see whether they are tar or zip.

settings_at("my-photos")           # Folder(path="/.../my-photos"), as a recipe's `dataset` block would give it
detect(Path("cifar-10.tar.gz"))    # "cifar"
"""

import tarfile
import zipfile
from pathlib import Path

from pydantic import TypeAdapter

from distill.data import cifar, cub, idx, npz
from distill.data.parts import layout
from distill.data.places import locate
from distill.data.texts import shown
from distill.data.walk import below, folders_in
from distill.errors import DataError
from distill.recipe import Dataset, DatasetSettings


def settings_at(path: str, **more) -> DatasetSettings:
    """Settings of the dataset at a path or url, its kind detected; `more` are settings beside kind and path.

    DataError if nothing is there or nothing known.
    """
    place = locate(path)
    return TypeAdapter(Dataset).validate_python(
        {"kind": detect(place), "path": path if "://" in path else str(place), **more}
    )


def detect(place: Path) -> str:
    """The `dataset.kind` that reads the file or folder `place`. DataError if none does."""
    kind = _of_folder(place) if place.is_dir() else _of_file(place)
    if kind is None:
        raise DataError(
            f"{shown(str(place))} is no dataset known by its names: give train*.parquet and test*.parquet, a folder of "
            f"images for each class, CIFAR's archive, MNIST's idx files, or x_train, y_train, x_test, y_test as .npz "
            f"or .npy; or name its kind in a recipe"
        )
    return kind


def _of_file(place: Path) -> str | None:
    if place.suffix == ".parquet":
        return "parquet"
    if zipfile.is_zipfile(place):
        return "npz"
    return "cifar" if tarfile.is_tarfile(place) else None


def _of_folder(place: Path) -> str | None:
    names = {entry.name for entry in place.iterdir()}
    if {"wnids.txt", "train", "val"} <= names:
        return "tiny_imagenet"
    if set(cub.LISTS) <= names:
        return "cub"
    if all(f"{name}.npy" in names for name in npz.ARRAYS):
        return "npz"
    if any(any(place.glob(pattern)) for pattern in idx.PATTERNS.values()):
        return "idx"
    if _holds_cifar(place):
        return "cifar"
    found = below(place)
    if any(file.suffix == ".parquet" for file in found.others):
        return "parquet"
    # a folder without classes too, whose reader says what is wrong with its layout
    return "folder" if found.images or folders_in(layout(place).train) else None


def _holds_cifar(place: Path) -> bool:
    """Whether the folder, or one in it, has the test part of a CIFAR version as a file."""
    tests = {version.test for version in cifar.VERSIONS}
    return any(file.is_file() for name in tests for file in (*place.glob(name), *place.glob(f"*/{name}")))
