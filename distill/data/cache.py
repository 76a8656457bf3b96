"""Decoded datasets kept on the local disk: the second reading of a dataset skips decoding and resizing.

One safetensors file for each dataset as read, below `$STILLHOUSE_HOME/cache/data` (`~/stillhouse` where that is not
set). Its name is a digest of what decides the tensors: the settings that the reader sees, the version of Pillow and,
for every source file, path, inode, size, time of change and time of status change. The last is set by the kernel alone,
so a file that was replaced, touched back or written in place has another name here; files changed in the last seconds,
which a coarse clock could confuse, are not kept. The tensors carry the fingerprint of the dataset, and what is read
back must have it: a damaged file is dropped and made again.

Together the files take at most LIMIT bytes; those unused for longest go first.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL
import safetensors.torch
from safetensors import SafetensorError, safe_open

from distill.data.base import Raw
from distill.recipe import DatasetSettings

FORMAT = 2
LIMIT = 32 << 30  # bytes of all files together
WORTH = 8 << 20  # bytes of sources; what is smaller is read as fast as it would be found here
SETTLED = 2.0  # seconds after which a file's times can be told from those of its next change
PARTS = ("train_x", "train_y", "test_x", "test_y")
_log = logging.getLogger("stillhouse.data")


def folder() -> Path:
    """Where decoded datasets are kept on this machine."""
    home = Path(os.environ.get("STILLHOUSE_HOME") or "~/stillhouse").expanduser().absolute()
    return home / "cache" / "data"


def cached(settings: DatasetSettings, sources: list[Path], make: Callable[[], Raw]) -> Raw:
    """The dataset that `make` reads from the files `sources`: kept from an earlier reading, else made and kept."""
    before, now = stamps(sources), time.time()
    if sum(size for _, _, size, _, _ in before) < WORTH:
        return make()
    place = folder() / f"{key(settings, before)}.safetensors"
    with locked(place):
        raw = load(place)
        if raw is not None:
            return raw
        raw = make()
        if _settled(before, now) and stamps(sources) == before:
            _keep(place, raw)
        return raw


def stamps(files: list[Path]) -> list[tuple[str, int, int, int, int]]:
    """(path, inode, size, time of change, time of status change) of each file; times in nanoseconds."""
    stats = ((str(file), file.stat()) for file in files)
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats]


def key(settings: DatasetSettings, stamped: list[tuple[str, int, int, int, int]]) -> str:
    """32 hex digits that differ when the tensors may."""
    seen = settings.model_dump(mode="json", exclude={"path", "preprocess", "validation"})
    text = json.dumps([FORMAT, PIL.__version__, seen, stamped], sort_keys=True)
    return hashlib.sha256(text.encode("utf8", "surrogateescape")).hexdigest()[:32]


def load(place: Path) -> Raw | None:
    """The dataset in a file of this cache; None if it is not there, or damaged, and then it is dropped."""
    if not place.is_file():
        return None
    try:
        with safe_open(place, framework="pt") as opened:
            about = json.loads((opened.metadata() or {}).get("stillhouse", "{}"))
            raw = Raw(*(opened.get_tensor(part) for part in PARTS), tuple(about.get("classes", ())))
        if raw.fingerprint == about.get("fingerprint"):
            os.utime(place)  # used now
            return raw
        reason = "its pixels are not those that were kept"
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error)
    _log.warning("cache %s is damaged (%s): the dataset is decoded again", place, reason)
    place.unlink(missing_ok=True)
    return None


def _settled(stamped: list[tuple[str, int, int, int, int]], now: float) -> bool:
    newest = max(max(changed, status) for *_, changed, status in stamped)
    return newest / 1e9 < now - SETTLED


def _keep(place: Path, raw: Raw) -> None:
    """Write a file whole or not at all; a disk that is full or refuses is noted and no error."""
    size = sum(getattr(raw, part).nbytes for part in PARTS)
    temporary = place.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(8)}")
    about = {"classes": raw.classes, "fingerprint": raw.fingerprint}
    try:
        if size > min(LIMIT, shutil.disk_usage(place.parent).free // 2):
            return _log.info("the decoded dataset (%.1f GB) is too large to keep in %s", size / 1e9, place.parent)
        _make_room(place.parent, LIMIT - size)
        tensors = {part: getattr(raw, part).contiguous() for part in PARTS}
        safetensors.torch.save_file(tensors, temporary, {"stillhouse": json.dumps(about)})
        os.replace(temporary, place)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        _log.warning("cache %s: %s; going on without it: free space or set STILLHOUSE_HOME", place.parent, error)


def _make_room(place: Path, most: int) -> None:
    """Delete the longest unused files until `most` bytes are left at most."""
    files = sorted(place.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    total = sum(file.stat().st_size for file in files)
    for file in files:
        if total <= most:
            return
        total -= file.stat().st_size
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """One process of this machine at a time; the others wait and find what it made. No lock where none can be made."""
    with contextlib.ExitStack() as held:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(open(place.with_suffix(".lock"), "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            _log.warning("cache %s: %s; going on without it: free space or set STILLHOUSE_HOME", place.parent, error)
        yield
