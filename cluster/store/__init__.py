"""Objects that are written once and never changed: in a local folder (`file:PATH`) or on S3 (`s3://bucket/prefix`).

store = open_store("file:~/stillhouse")
store.create("experts/digits/expert-00000.arrow", data)
head = store.read("experts/digits/expert-00000.arrow", 0, 8)
"""

from pathlib import Path

from cluster.store.base import Store, StoredObject
from cluster.store.local import LocalStore
from distill.errors import StoreError

__all__ = ["StoredObject", "Store", "open_store", "ray_url"]


def open_store(url: str) -> Store:
    """The store at `file:PATH` (~ is expanded, relative to the working directory) or `s3://bucket/prefix?options`.

    Opening writes nothing and sends no request. Raises StoreError for any other url.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "file" and rest and (not rest.startswith("//") or rest.startswith("///")):
        return LocalStore(Path("/" + rest.lstrip("/") if rest.startswith("/") else rest).expanduser().absolute())
    if scheme == "s3":
        from cluster.store.s3 import S3Store  # importing boto3 takes half a second

        return S3Store.from_url(url)
    raise StoreError(f"store {url!r}: write it as file:PATH or s3://bucket/prefix")


def ray_url(url: str, name: str) -> str:
    """The folder `name` of a store as Ray and pyarrow write it: a path, or an s3 url with the store's own options."""
    if url.startswith("file:"):
        return str(Path(url.removeprefix("file:")) / name)
    from cluster.store.s3_client import S3Options

    return S3Options.parse(url).pyarrow_url(name)
