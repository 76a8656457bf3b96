"""Loading a set for training, from wherever it is."""

import tempfile
from pathlib import Path

from distill import remote
from distill.published.files import read
from distill.published.published import Published


def load(source: str | Path) -> Published:
    """The set at a file, a folder, or a url: `models:/digits@best`, `s3://bucket/prefix/published`.

    Urls are fetched by the application around this package, which must be installed. Raises DataError when there is no
    set, or when nothing here fetches such urls.
    """
    scheme, separator, _ = str(source).partition(":/")
    if not separator or Path(source).exists():
        return read(Path(source))
    with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder:
        return read(remote.published(scheme, str(source), Path(folder)))
