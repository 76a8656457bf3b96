"""Functions that fetch remote datasets, one for each URL scheme, such as `s3`.

This package reads only local files; cluster/ registers its function here when it is imported.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from distill.errors import DataError

Fetch = Callable[[str, Callable[[str, int, int], None]], Path]
"""Fetches a URL to a local file or folder and returns its path; the second argument reports (what, done, total)."""

fetchers: dict[str, Fetch] = {}


def published(scheme: str, url: str, folder: Path) -> Path:
    """Fetch a published set at `url` (models:/digits@best, s3://bucket/prefix) into `folder`; return the folder.

    Packages register functions of (url, folder) by scheme as entry points in the group `stillhouse.published`. Raises
    DataError if there is none for this scheme.
    """
    fetch = next(iter(entry_points(group="stillhouse.published", name=scheme)), None)
    if fetch is None:
        raise DataError(f"{url}: no installed package fetches {scheme}: URLs; give a file or a folder")
    return fetch.load()(url, folder)
