"""The interface of stores and what they guarantee; keys are checked here alone."""

from __future__ import annotations  # `list` is also the name of a method

import io
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from cluster.patience import patiently
from distill.errors import AwayError, ConflictError, MissingError, StoreError

T = TypeVar("T")
_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
CHUNK = 1 << 20  # bytes copied or compared at a time
STALE_SECONDS = 3600  # a write in progress changes its file more often than this


class Traffic:
    """Bytes that this process has read from and written to stores; many threads add to it."""

    def __init__(self):
        self._bytes = {"read": 0, "written": 0}
        self._lock = threading.Lock()

    def add(self, kind: str, size: int) -> None:
        with self._lock:
            self._bytes[kind] += size

    def copy(self) -> dict[str, int]:
        with self._lock:
            return dict(self._bytes)


TRAFFIC = Traffic()


@dataclass(frozen=True, order=True)
class StoredObject:
    """An object in a list; size in bytes."""

    key: str
    size: int


class Store(ABC):
    """Immutable objects by key. A key is `segment/segment/...`, each segment `[a-z0-9][a-z0-9_.-]{0,62}` without `..`.

    Every method raises StoreError, with the fix, if the backend refuses; MissingError if an object is missing.
    An object is visible whole or not at all, even if its writer dies. Methods may be called from many threads.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """The url with which `open_store` opens this store again, from any working directory."""

    def create(self, key: str, data: bytes | Path) -> None:
        """Write a new object, from memory or from a file.

        If it exists with the same bytes, as after a retry, this succeeds; other bytes stay and raise ConflictError.
        """
        self._patiently(lambda: self._create(check_key(key), data))
        TRAFFIC.add("written", len(data) if isinstance(data, bytes) else data.stat().st_size)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes start .. stop-1 of an object, cut at its end, as slicing does; by default all of it."""
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"range {start}..{stop} of {key!r}")
        read = self._patiently(lambda: self._read(check_key(key), start, stop))
        TRAFFIC.add("read", len(read))
        return read

    def size(self, key: str) -> int:
        """Bytes of an object."""
        return self._patiently(lambda: self._size(check_key(key)))

    def list(self, prefix: str = "") -> list[StoredObject]:
        """The object `prefix`, if it is one, and all objects below the folder `prefix`, sorted by key; "" is all.

        Whole segments only: `a/b` finds `a/b` and `a/b/c`, not `a/bc`; `a/b/` finds `a/b/c` only.
        """
        return self._patiently(lambda: self._listed(prefix))

    def _listed(self, prefix: str) -> list[StoredObject]:
        folder = prefix.removesuffix("/")
        if not folder:
            return sorted(self._list(""))
        objects = self._list(check_key(folder) + "/")
        if folder == prefix:
            try:
                objects.append(StoredObject(folder, self._size(folder)))
            except MissingError:
                pass
        return sorted(objects)

    def delete(self, prefix: str, dry_run: bool) -> list[StoredObject]:
        """Delete and return the objects of `list(prefix)`, and sweep what dead writers left. A dry run only returns."""
        if not prefix.strip("/"):
            raise StoreError(f"store {self.url}: refusing to delete everything; name a prefix")
        objects = self.list(prefix)
        if not dry_run:
            self._patiently(lambda: self._delete([o.key for o in objects]))
            self._patiently(lambda: self._sweep(prefix.removesuffix("/") + "/"))
        return objects

    def check_writable(self) -> None:
        """Raise StoreError, with the fix, if `create` would fail. Leaves nothing behind."""
        self._patiently(self._check_writable)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Wait for a store that answered before; requests may be repeated: objects never change."""
        return patiently(call, lambda error: isinstance(error, AwayError), f"store {self.url}")

    @abstractmethod
    def _check_writable(self) -> None: ...

    @abstractmethod
    def _create(self, key: str, data: bytes | Path) -> None: ...

    @abstractmethod
    def _read(self, key: str, start: int, stop: int | None) -> bytes: ...

    @abstractmethod
    def _size(self, key: str) -> int: ...

    @abstractmethod
    def _list(self, folder: str) -> list[StoredObject]:
        """Everything below `folder`, which is "" or ends in "/"; in any order."""

    @abstractmethod
    def _delete(self, keys: list[str]) -> None:
        """Delete these; missing ones are ignored."""

    @abstractmethod
    def _sweep(self, folder: str) -> None:
        """Remove the invisible files or uploads below `folder` of writers that died more than STALE_SECONDS ago."""


def check_key(key: str) -> str:
    """The key itself if every segment is on the allow-list; else StoreError."""
    if not valid_key(key):
        raise StoreError(
            f"key {key!r}: its segments must be lower-case letters, digits, '_', '.' and '-', "
            "begin with a letter or digit, have at most 63 characters and no '..'"
        )
    return key


def valid_key(key: str) -> bool:
    """Whether a name in a backend is a key of this store; temporary and foreign files are not."""
    return ".." not in key and all(_SEGMENT.fullmatch(segment) for segment in key.split("/"))


def conflict(where: str) -> ConflictError:
    """The error of a `create` for an object that exists with other bytes."""
    return ConflictError(f"{where} exists with other bytes; delete it or use another name")


def open_data(data: bytes | Path) -> BinaryIO:
    """The argument of `create` as a stream."""
    return io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb")


def same_bytes(a: BinaryIO, b: BinaryIO) -> bool:
    """Whether two streams hold the same bytes."""
    while True:
        x, y = a.read(CHUNK), b.read(CHUNK)
        if x != y:
            return False
        if not x:
            return True
