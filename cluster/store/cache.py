"""Bytes fetched from far, kept on the local disk up to a size.

They are filed under their own SHA-256, not under key and range: what was deleted and written anew is never mistaken
for what it was, copies share what they have in common, and a damaged file here is noticed and fetched again.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

LIMIT = 2 << 30  # bytes
LOCK = ".lock-"
_log = logging.getLogger("stillhouse")


class Cache:
    """Files below `folder`, the longest unused deleted when they are over `limit` bytes together.

    May be shared by threads and processes; n processes together may pass the limit by n/16 of it.
    """

    def __init__(self, folder: Path, limit: int = LIMIT):
        self.folder = folder
        self.limit = limit
        self._lock = threading.Lock()
        self._room: int | None = None  # bytes that may be written before the folder is measured again
        self._works = True

    def fetch(self, sha256: str, read: Callable[[], bytes]) -> bytes:
        """The bytes with that digest: from here, else from `read`, which must return just those and may raise.

        Threads and processes that want the same at once read it once: the others wait for the first.
        """
        if (data := self._kept(sha256)) is not None:
            return data
        with self._reading(sha256):
            if (data := self._kept(sha256)) is None:
                data = read()
                if self._works and len(data) <= self.limit:
                    self._keep(self.folder / sha256, data)
        return data

    def _kept(self, sha256: str) -> bytes | None:
        path = self.folder / sha256
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                os.utime(path)  # used now
                return data
        except OSError:
            pass  # never fetched, or another process made room; a disk that fails will say so when written
        return None

    @contextlib.contextmanager
    def _reading(self, sha256: str) -> Iterator[None]:
        """Held by the one that reads; the lock is the operating system's, so that it dies with its holder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / f"{LOCK}{sha256[:2]}", "w")
        except OSError:  # nothing can be kept here either
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _keep(self, path: Path, data: bytes) -> None:
        temp = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(8)}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            temp.write_bytes(data)
            os.replace(temp, path)
        except OSError as error:
            self._works = False
            with contextlib.suppress(OSError):
                temp.unlink()
            _log.warning("cache %s: %s; going on without it: free space or choose another folder", self.folder, error)

    def _make_room(self, size: int) -> None:
        with self._lock:
            if self._room is None or self._room < size:
                free = self._shrink(min(self.limit - size, self.limit - self.limit // 16))
                self._room = max(size, min(free, self.limit // 16))
            self._room -= size

    def _shrink(self, most: int) -> int:
        """Delete the longest unused until `most` bytes are left at most; how many more may be written now."""
        files = []
        for entry in os.scandir(self.folder):
            if entry.name.startswith(LOCK):
                continue
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= most:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
        return self.limit - total
