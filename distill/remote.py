"""Functions that fetch datasets which are not on this machine, one for each scheme of a url, such as `s3`.

This package reads local files only; cluster/ adds its function here when it is imported.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from distill.errors import DataError

Fetch = Callable[[str, Callable[[str, int, int], None]], Path]
"""From a url to a local file or folder with its content; the second argument is called with (what, done, total)."""

fetchers: dict[str, Fetch] = {}


def published(scheme: str, url: str, folder: Path) -> Path:
    """Fetch a published set at `url` (models:/digits@best, s3://bucket/prefix) into `folder`; return the folder.

    Packages that can fetch name a function of (url, folder) in their entry points `stillhouse.published`. Raises
    DataError when none does for this scheme.
    """
    fetch = next(iter(entry_points(group="stillhouse.published", name=scheme)), None)
    if fetch is None:
        raise DataError(f"{url}: nothing installed here fetches {scheme}: urls; give a file or a folder")
    return fetch.load()(url, folder)
