"""A store in a local folder: key `a/b` is the file ROOT/a/b."""

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.store.base import CHUNK, STALE_SECONDS, Store, StoredObject, conflict, open_data, same_bytes, valid_key
from distill.errors import MissingError, StoreError

_TEMP = ".tmp-"  # no key begins with a dot, so unfinished files are never read or listed


class LocalStore(Store):
    """Objects as files below `root`, which the first `create` creates."""

    def __init__(self, root: Path):
        self.root = root

    @property
    def url(self) -> str:
        return f"file:{self.root}"

    def _check_writable(self) -> None:
        folder = next(p for p in (self.root, *self.root.parents) if p.exists())
        if not folder.is_dir():
            raise StoreError(f"store {self.url}: {folder} is a file; choose another folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreError(f"store {self.url}: no permission to write in {folder}; grant it or choose another folder")

    def _create(self, key: str, data: bytes | Path) -> None:
        target = self.root / key
        temp = target.parent / f"{_TEMP}{os.getpid()}-{secrets.token_hex(8)}"
        with open_data(data) as source, self._explained(key):
            if target.is_dir() or any(p.is_file() for p in target.parents):
                raise StoreError(
                    f"{self.url}/{key}: a folder cannot have an object and a prefix of the same name; use another"
                )
            _make_folder(target.parent)
            try:
                with open(temp, "xb") as out:
                    with contextlib.suppress(OSError):  # of a disk that cannot have locks
                        fcntl.flock(out, fcntl.LOCK_EX)
                    shutil.copyfileobj(source, out, CHUNK)
                    out.flush()
                    os.fsync(out.fileno())
                    os.link(temp, target)  # unlike a rename, fails if the name is taken
                _sync_folder(target.parent)
            except FileExistsError:
                source.seek(0)
                with open(target, "rb") as theirs:
                    if not same_bytes(source, theirs):
                        raise conflict(f"{self.url}/{key}") from None
            finally:
                temp.unlink(missing_ok=True)

    def _read(self, key: str, start: int, stop: int | None) -> bytes:
        with self._explained(key), open(self.root / key, "rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)

    def _size(self, key: str) -> int:
        with self._explained(key):
            path = self.root / key
            if path.is_dir():
                raise MissingError(f"{self.url}/{key} is a folder, not an object")
            return path.stat().st_size

    def _list(self, folder: str) -> list[StoredObject]:
        files = ((path.relative_to(self.root).as_posix(), stat) for path, stat in self._files(folder))
        return [StoredObject(key, stat.st_size) for key, stat in files if valid_key(key)]

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            with self._explained(key):
                (self.root / key).unlink(missing_ok=True)

    def _sweep(self, folder: str) -> None:
        for path, stat in self._files(folder):
            if path.name.startswith(_TEMP) and time.time() - stat.st_mtime > STALE_SECONDS and not _is_locked(path):
                path.unlink(missing_ok=True)

    def _files(self, folder: str) -> Iterator[tuple[Path, os.stat_result]]:
        def refused(error: OSError) -> None:
            """A folder that cannot be read is an error, not an empty folder."""
            if not isinstance(error, FileNotFoundError | NotADirectoryError):  # not created yet, or deleted meanwhile
                raise error

        with self._explained(folder):
            for parent, _, names in os.walk(self.root / folder, onerror=refused):
                for path in (Path(parent, name) for name in names):
                    try:
                        yield path, path.stat()
                    except FileNotFoundError:
                        pass  # deleted while the folder was listed

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn errors of the file system into StoreErrors with a fix."""
        where = f"{self.url}/{key}"
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingError(f"{where} is not there ({error.strerror}); check the store and the name") from None
        except PermissionError as error:
            raise StoreError(f"{where}: no permission ({error.filename}); grant it or choose another folder") from None
        except OSError as error:
            raise StoreError(
                f"{where}: {error.strerror}; free space, check the disk or choose another folder"
            ) from None


def _is_locked(path: Path) -> bool:
    """Whether its writer lives; a clock that was set makes a file look old."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents; they are on the disk when this returns."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for created in reversed(missing):
        _sync_folder(created.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
