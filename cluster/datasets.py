"""Datasets on S3: each machine that needs one copies its objects to a local folder once.

    dataset.path = "s3://bucket/cifar10"                        a prefix: all objects below it
    dataset.path = "s3://bucket/birds.parquet?endpoint=..."     one object; options as for a store

A recipe keeps the url; each process that reads the data, on any node, calls `fetch` (distill/data/places.py). The name
of the folder is a digest of the listing: endpoint, keys, sizes and ETags. So a new version of an object makes a new
folder, and the content of a folder never changes. It appears whole, with the SHA-256 of each file, which is checked
each time it is used. Folders stay below `$STILLHOUSE_HOME/cache/objects` until the user deletes them.
"""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.home import home
from cluster.store.s3_client import S3Options, explained
from distill.data.faults import refuse
from distill.data.images import Notice, silent
from distill.disk_cache import Damaged, DiskCache
from distill.errors import DataError

_NAME = re.compile(r"(?!\.)[\w .,()+@=-]{1,200}")
MANIFEST = "manifest.json"
AT_ONCE = 8


@dataclass(frozen=True)
class Object:
    """An object: its key, its name below the url, bytes, and the server's tag of its content."""

    key: str
    name: str
    size: int
    etag: str


def fetch(url: str, notice: Notice = silent) -> Path:
    """The local file or folder with the content of `url`, copied if it is not there yet.

    StoreError if the server refuses; DataError if nothing is there, a key cannot be a file name, or the disk is full.
    """
    options = S3Options.parse(url)
    client = options.client()
    objects = _list(client, options, url)
    single = len(objects) == 1 and objects[0].name == ""
    listing = json.dumps([client.meta.endpoint_url, options.bucket, [(o.key, o.size, o.etag) for o in objects]])
    cache = Copies(home() / "cache" / "objects", limit=None)
    try:
        folder = cache.place(
            hashlib.sha256(listing.encode()).hexdigest()[:32],
            lambda folder: _copy(client, options, objects, folder, notice),
        )
    except OSError as error:
        raise DataError(f"{url} cannot be copied to {cache.folder}: {error}: {cache.fix}") from None
    name = options.prefix.rstrip("/").rpartition("/")[2] or options.bucket
    return folder / "files" / (name if single else "")


class Copies(DiskCache[Path]):
    """A folder for each listing: `files/` and the SHA-256 of each of them."""

    fix = "free space or set STILLHOUSE_HOME"

    def load(self, path: Path) -> Path:
        try:
            digests = json.loads((path / MANIFEST).read_text(encoding="utf8"))
        except ValueError as error:
            raise Damaged(f"{MANIFEST}: {error}") from None
        for name, digest in digests.items():
            file = path / "files" / name
            if not file.is_file() or _digest(file) != digest:
                raise Damaged(f"{name} is not what was fetched")
        return path


def _list(client, options: S3Options, url: str) -> list[Object]:
    """The object at the url, or all below it, by key."""
    key, listed = options.prefix.rstrip("/"), []
    with explained(url, options.bucket):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=options.bucket, Prefix=key):
            listed += [(o["Key"], o["Size"], o["ETag"]) for o in page.get("Contents", ())]
    below = f"{key}/" if key else ""
    exact = [Object(k, "", size, etag) for k, size, etag in listed if k == key]
    within = [
        Object(k, k.removeprefix(below), size, etag) for k, size, etag in listed if k.startswith(below) and k != key
    ]
    objects = [o for o in within if not o.name.endswith("/")] or exact
    if not objects:
        raise DataError(f"nothing is at {url}: correct dataset.path, or the endpoint (AWS_ENDPOINT_URL)")
    wrong = [o.key for o in objects if o.name and not all(_NAME.fullmatch(part) for part in o.name.split("/"))]
    refuse(url, [f"the key {key!r} cannot be the name of a file here: rename it" for key in wrong])
    return objects


def _copy(client, options: S3Options, objects: list[Object], folder: Path, notice: Notice) -> None:
    """All objects, and the SHA-256 of what arrived, into a folder that is not there yet."""
    total, done, digests = sum(o.size for o in objects), 0, {}
    single = options.prefix.rstrip("/").rpartition("/")[2]

    def fetched(o: Object) -> tuple[Object, str]:
        file = folder / "files" / (o.name or single)
        file.parent.mkdir(parents=True, exist_ok=True)
        with explained(f"s3://{options.bucket}/{o.key}", options.bucket):
            client.download_file(options.bucket, o.key, str(file))
        return o, _digest(file)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for o, digest in pool.map(fetched, objects):
            digests[o.name or single] = digest
            done += o.size
            notice("fetching, kB", done // 1000, max(1, total // 1000))
    (folder / MANIFEST).write_text(json.dumps(digests), encoding="utf8")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
