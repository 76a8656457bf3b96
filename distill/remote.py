"""How paths that are not on this machine are brought here: one function for each scheme, such as `s3`.

This package reads local files only. What can fetch others adds its function here when it is imported (cluster/).
"""

from collections.abc import Callable
from pathlib import Path

Fetch = Callable[[str, Callable[[str, int, int], None]], Path]
"""From a url to the local file or folder that holds the same; told how far it is by (what, done, total)."""

fetchers: dict[str, Fetch] = {}
