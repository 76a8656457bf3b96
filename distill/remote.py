"""Functions that fetch datasets which are not on this machine, one for each scheme of a url, such as `s3`.

This package reads local files only; cluster/ adds its function here when it is imported.
"""

from collections.abc import Callable
from pathlib import Path

Fetch = Callable[[str, Callable[[str, int, int], None]], Path]
"""From a url to a local file or folder with its content; the second argument is called with (what, done, total)."""

fetchers: dict[str, Fetch] = {}
