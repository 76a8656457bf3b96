"""Bytes fetched from a store, kept on the local disk up to a size.

They are filed under their own SHA-256, not under key and range: what was deleted and written anew is never mistaken
for what it was, copies share what they have in common, and a damaged file here is noticed and fetched again.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from distill.disk_cache import Damaged, DiskCache

LIMIT = 2 << 30  # bytes


class Cache(DiskCache[bytes]):
    """Files below `folder`, the longest unused deleted when they are over `limit` bytes together."""

    def __init__(self, folder: Path, limit: int = LIMIT):
        super().__init__(folder, limit)

    def fetch(self, sha256: str, read: Callable[[], bytes]) -> bytes:
        """The bytes with that digest: from here, else from `read`, which must return exactly those and may raise.

        Threads and processes that want the same at once read it once: the others wait for the first.
        """
        return self.get(sha256, read)

    def load(self, path: Path) -> bytes:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.name:
            raise Damaged("its SHA-256 is not its name")
        return data

    def save(self, value: bytes, path: Path) -> None:
        path.write_bytes(value)

    def size(self, value: bytes) -> int:
        return len(value)
