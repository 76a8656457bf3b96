"""Where a recipe's path leads."""

import os
from pathlib import Path

from distill.errors import DataError


def locate(path: str) -> Path:
    """The file or folder a recipe's path means: in $STILLHOUSE_DATA if that is set, else here. DataError if absent."""
    if path.startswith("s3:"):
        raise DataError(f"{path} is not on this machine: cluster/datasets.py fetches it before it is read")
    place = Path(os.environ.get("STILLHOUSE_DATA") or ".").absolute() / Path(path).expanduser()
    if not place.exists():
        raise DataError(
            f"no file or folder {place}: correct dataset.path, or set STILLHOUSE_DATA to the folder that holds it"
        )
    return place


def folder(path: str) -> Path:
    """The same where only a folder will do."""
    place = locate(path)
    if not place.is_dir():
        raise DataError(f"{place} is a file: set dataset.path to the folder that holds the dataset")
    return place
