"""Decoded datasets kept on the local disk: the second reading of a dataset skips decoding and resizing.

One safetensors file for each dataset as read, below `$STILLHOUSE_HOME/cache/data` (`~/stillhouse` if that is not set).
Its name is a digest of what decides the tensors: the settings that the reader sees, the version of Pillow and, for
every source file, path, inode, size, time of change and time of status change. The last is set by the kernel alone, so
a file that was replaced, touched back or written in place has another name here; files changed in the last seconds,
which a coarse clock could confuse, are not kept. The tensors carry the fingerprint of the dataset, and what is read
back must have it: a damaged file is deleted and the dataset decoded again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import PIL
import safetensors.torch
from safetensors import SafetensorError, safe_open

from distill.data.base import Raw
from distill.disk_cache import Damaged, DiskCache
from distill.recipe import DatasetSettings

FORMAT = 3
LIMIT = 32 << 30  # bytes of all files together; those unused for longest are deleted first
WORTH = 1 << 20  # bytes of sources; less is decoded as fast as it would be loaded from here
SETTLED = 2.0  # seconds after which a next change surely has other times
PARTS = ("train_x", "train_y", "test_x", "test_y")
AFTER = {"preprocess", "validation", "limit_class"}
"""Settings of what is done after reading."""
Stamp = tuple[str, int, int, int, int]
"""(path, inode, size, time of change, time of status change) of a file; times in nanoseconds."""


class DecodedDatasets(DiskCache[Raw]):
    """A safetensors file for each dataset."""

    fix = "free space or set STILLHOUSE_HOME"

    def load(self, path: Path) -> Raw:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get("stillhouse", "{}"))
                texts = {name: tuple(metadata.get(name, ())) for name in ("classes", "notes")}
                raw = Raw(*(file.get_tensor(part) for part in PARTS), **texts)
        except (SafetensorError, ValueError) as error:
            raise Damaged(str(error)) from None
        if raw.fingerprint != metadata.get("fingerprint"):
            raise Damaged("its pixels are not those that were kept")
        return raw

    def save(self, value: Raw, path: Path) -> None:
        metadata = json.dumps({"classes": value.classes, "notes": value.notes, "fingerprint": value.fingerprint})
        try:
            safetensors.torch.save_file(
                {part: getattr(value, part).contiguous() for part in PARTS}, path, {"stillhouse": metadata}
            )
        except SafetensorError as error:  # what the disk refuses too
            raise OSError(str(error)) from None

    def size(self, value: Raw) -> int:
        return sum(getattr(value, part).nbytes for part in PARTS)


def folder() -> Path:
    """The folder of decoded datasets on this machine."""
    home = Path(os.environ.get("STILLHOUSE_HOME") or "~/stillhouse").expanduser().absolute()
    return home / "cache" / "data"


def cached(settings: DatasetSettings, sources: list[Path], make: Callable[[], Raw]) -> Raw:
    """The dataset that `make` reads from the files `sources`: kept from an earlier reading, else made and kept."""
    before, now = stamps(sources), time.time()
    if sum(size for _, _, size, _, _ in before) < WORTH:
        return make()

    def unchanged() -> bool:
        newest = max(max(changed, status) for *_, changed, status in before)
        return newest / 1e9 < now - SETTLED and stamps(sources) == before

    return DecodedDatasets(folder(), LIMIT).get(f"{key(settings, before)}.safetensors", make, worth=unchanged)


def stamps(files: list[Path]) -> list[Stamp]:
    stats = ((str(file), file.stat()) for file in files)
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats]


def key(settings: DatasetSettings, stamped: list[Stamp]) -> str:
    """32 hex digits that differ when the tensors may."""
    seen = settings.model_dump(mode="json", exclude={"path", *AFTER})
    text = json.dumps([FORMAT, PIL.__version__, seen, stamped], sort_keys=True)
    return hashlib.sha256(text.encode("utf8", "surrogateescape")).hexdigest()[:32]
