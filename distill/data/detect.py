"""The kind of the dataset at a path, from names alone; files are only opened to see whether they are tar or zip."""

import tarfile
import zipfile
from pathlib import Path

from distill.data import cifar, cub, folder, idx, npz
from distill.errors import DataError


def detect(place: Path) -> str:
    """The `dataset.kind` that reads the file or folder `place`. DataError if none does."""
    kind = _of_folder(place) if place.is_dir() else _of_file(place)
    if kind is None:
        raise DataError(
            f"{place} is no dataset known by its names: give train*.parquet and test*.parquet, a folder of images for "
            f"each class, CIFAR's archive, MNIST's idx files, or x_train, y_train, x_test, y_test as .npz or .npy; "
            f"or name its kind in a recipe"
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
    if any(place.glob("*.parquet")) or any(place.glob("data/*.parquet")):
        return "parquet"
    if all(f"{name}.npy" in names for name in npz.ARRAYS):
        return "npz"
    if any(any(place.glob(pattern)) for pattern in idx.PATTERNS.values()):
        return "idx"
    if _holds_cifar(place):
        return "cifar"
    train, _ = folder.part_folders(place)
    return "folder" if folder.class_folders(train) else None


def _holds_cifar(place: Path) -> bool:
    """Whether the folder, or one in it, has the test part of a CIFAR version as a file."""
    tests = {version.test for version in cifar.VERSIONS}
    return any(file.is_file() for name in tests for file in (*place.glob(name), *place.glob(f"*/{name}")))
