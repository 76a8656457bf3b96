"""Loading a set for training, from wherever it is."""

import tempfile
from pathlib import Path

from distill import remote
from distill.published.files import read
from distill.published.published import Published


def load(source: str | Path) -> Published:
    """The set in a file, in a folder, or at a URL: `models:/digits@best`, `s3://bucket/prefix/published`.

    Fetching URLs needs an installed package that supports their scheme, such as this application. Raises DataError if
    there is no set, or if no installed package can fetch the URL.
    """
    source = str(source).removeprefix("file:")
    scheme, separator, _ = source.partition(":/")
    if not separator or Path(source).exists():
        return read(Path(source))
    with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder:
        return read(remote.published(scheme, source, Path(folder)))
