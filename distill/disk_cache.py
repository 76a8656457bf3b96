"""Files and folders kept on the local disk because they are slow to make or to fetch, up to a size.

    class Texts(DiskCache[str]):
        def load(self, path): return path.read_text()       # raises Damaged for what must not be used
        def save(self, value, path): path.write_text(value)
        def size(self, value): return len(value)

    text = Texts(folder, limit=1 << 30).get("name", make)

An entry appears whole or not at all, and one thread of one process at a time makes it: the others wait and load what it
made. The lock is the operating system's, so it dies with its holder. Loading marks an entry as used; those unused for
longest are deleted first. A disk that is full or refuses costs the cache and not the run: the log says so once.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
LOCK, TEMPORARY = ".lock-", ".tmp-"
STALE_SECONDS = 24 * 3600
"""A temporary file or folder that has not changed for so long was left by a process that died."""
_log = logging.getLogger("stillhouse.cache")


class Damaged(Exception):
    """An entry that must not be used: `get` and `place` delete it and make it again."""


class DiskCache(ABC, Generic[T]):
    """Entries below `folder`, each a file or a folder, together at most `limit` bytes; None: nothing is deleted.

    May be shared by threads and processes; n processes together may pass the limit by n/16 of it.
    """

    fix = "free space or choose another folder"

    def __init__(self, folder: Path, limit: int | None):
        self.folder = folder
        self.limit = limit
        self._lock = threading.Lock()
        self._room: int | None = None  # bytes that may be written before the folder is measured again
        self._works = self._silent = True

    @abstractmethod
    def load(self, path: Path) -> T:
        """What an entry holds. Damaged, with the reason, if it is not what was saved; OSError if it cannot be read."""

    def save(self, value: T, path: Path) -> None:
        """Write a value to a new file or folder."""
        raise NotImplementedError

    def size(self, value: T) -> int:
        """Bytes that `save` will write."""
        raise NotImplementedError

    def get(self, name: str, make: Callable[[], T], worth: Callable[[], bool] = lambda: True) -> T:
        """The value of an entry, from the disk or from `make`, whose errors are raised.

        What is made is kept unless `worth` then says no.
        """
        if (value := self._kept(name)) is not None:
            return value
        with self._locked(name):
            if (value := self._kept(name)) is None:
                value = make()
                if worth():
                    self._keep(name, value)
        return value

    def place(self, name: str, fill: Callable[[Path], None]) -> T:
        """The value of an entry that must be on the disk: `fill` writes it to a temporary path if it is not there.

        OSError if the disk refuses.
        """
        with self._locked(name):
            if (value := self._kept(name)) is not None:
                return value
            with self._temporary() as path:
                fill(path)
                _remove(self.folder / name)  # what could not be loaded: no folder replaces a folder
                os.replace(path, self.folder / name)
            return self.load(self.folder / name)

    def _kept(self, name: str) -> T | None:
        path = self.folder / name
        try:
            value = self.load(path)
        except (FileNotFoundError, NotADirectoryError):  # never made, or another process made room
            return None
        except (Damaged, OSError) as error:
            _log.warning("cache %s is damaged (%s): it is made again", path, error)
            _remove(path)
            return None
        with contextlib.suppress(OSError):  # of a read-only disk
            os.utime(path)
        return value

    def _keep(self, name: str, value: T) -> None:
        """Save a value, whole or not at all."""
        if not self._works:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            size, free = self.size(value), shutil.disk_usage(self.folder).free
            if size > free // 2 or (self.limit is not None and size > self.limit):
                self._say(logging.INFO, f"{size / 1e9:.3g} GB are too much to keep, {free / 1e9:.3g} GB are free")
                return
            self._make_room(size)
            with self._temporary() as path:
                self.save(value, path)
                os.replace(path, self.folder / name)
        except OSError as error:
            self._works = False
            self._say(logging.WARNING, f"{error}; continuing without it")

    def _say(self, level: int, text: str) -> None:
        if self._silent:
            _log.log(level, "cache %s: %s: %s", self.folder, text, self.fix)
        self._silent = False

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self.folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            _remove(path)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold the lock of an entry while making it; on a disk that cannot have locks, continue without one."""
        path = self.folder / f"{LOCK}{name}"
        with contextlib.ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                while True:
                    lock = held.enter_context(open(path, "w"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    with contextlib.suppress(FileNotFoundError):
                        if os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                            break
                    lock.close()  # its holder deleted the file while we waited for it
                held.callback(path.unlink, missing_ok=True)
            except OSError as error:
                self._say(logging.WARNING, f"{error}; continuing without it")
            yield

    def _make_room(self, size: int) -> None:
        with self._lock:
            if self._room is None or self._room < size:
                entries = self._measure()
                if self.limit is None:
                    self._room = 1 << 62
                    return
                most, total = min(self.limit - size, self.limit - self.limit // 16), sum(e[1] for e in entries)
                for _, bytes_, path in sorted(entries):
                    if total <= most:
                        break
                    _remove(path)
                    total -= bytes_
                self._room = max(size, min(self.limit - total, self.limit // 16))
            self._room -= size

    def _measure(self) -> list[tuple[int, int, Path]]:
        """(time of last use, bytes, path) of each entry; what dead processes left is deleted on the way."""
        entries = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                files = [path, *path.rglob("*")] if path.is_dir() else [path]
                stats = [file.stat() for file in files]
                if not path.name.startswith((LOCK, TEMPORARY)):
                    entries.append((stats[0].st_mtime_ns, sum(s.st_size for s in stats), path))
                elif max(s.st_mtime for s in stats) < time.time() - STALE_SECONDS and path.name.startswith(TEMPORARY):
                    _remove(path)
        return entries


def _remove(path: Path) -> None:
    """Delete a file or a folder; what cannot be deleted stays, and the next to write there says why."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
