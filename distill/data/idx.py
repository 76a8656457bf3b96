"""MNIST's idx files, as Fashion-MNIST, KMNIST and EMNIST have them too: big-endian header, then bytes; .gz or not.

    train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz

A prefix (`emnist-balanced-train-images-...`), `test` for `t10k` and a dot before `idx` are accepted too.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import psutil
import torch

from distill.data import places
from distill.data.base import Raw
from distill.data.decode import MAX_SIDE
from distill.data.faults import refuse
from distill.data.images import Notice, silent
from distill.errors import DataError
from distill.recipe import Idx

PATTERNS = {
    "training images": "*train-images*ubyte*",
    "training labels": "*train-labels*ubyte*",
    "test images": "*t[1e][0s][kt]-images*ubyte*",
    "test labels": "*t[1e][0s][kt]-labels*ubyte*",
}
MOST_IMAGES = 10_000_000


def read(settings: Idx, notice: Notice = silent) -> Raw:
    """Grey images, uint8 (n, 1, h, w). DataError lists every file at fault."""
    arrays: list[np.ndarray] = []
    faults: list[str] = []
    files = sources(settings)
    for done, (file, axes) in enumerate(zip(files, (3, 1, 3, 1), strict=True)):
        notice("reading files", done, len(files))
        try:
            arrays.append(_read_file(file, axes))
        except DataError as error:
            faults.append(f"{file.name}: {error}: fetch it again")
    refuse(str(places.folder(settings.path)), faults)
    classes = settings.classes or tuple(str(label) for label in range(max(map(int, arrays[1])) + 1))
    refuse(str(places.folder(settings.path)), _faults(arrays, len(classes)))
    x, y, test_x, test_y = (torch.from_numpy(array) for array in arrays)
    return Raw(x[:, None], y.long(), test_x[:, None], test_y.long(), classes)


def sources(settings: Idx) -> list[Path]:
    """The four files. DataError names those that are missing."""
    root = places.folder(settings.path)
    matches = {what: sorted(root.glob(pattern)) for what, pattern in PATTERNS.items()}
    refuse(
        str(root),
        [
            f"{len(files)} files of the {what} ({PATTERNS[what]}): put exactly one there"
            for what, files in matches.items()
            if len(files) != 1
        ],
    )
    return [files[0] for files in matches.values()]


def _read_file(file: Path, axes: int) -> np.ndarray:
    """The array of an idx file of unsigned bytes with `axes` axes; no more is unpacked than its header says."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            (kind,) = struct.unpack(">I", opened.read(4))
            if kind != 0x800 + axes:
                raise DataError(f"not an idx file of bytes with {axes} axes (it begins with {kind:#x})")
            shape = struct.unpack(f">{axes}I", opened.read(4 * axes))
            if shape[0] > MOST_IMAGES or max(shape[1:], default=1) > MAX_SIDE or 0 in shape:
                raise DataError(f"impossible shape {shape}")
            if math.prod(shape) > psutil.virtual_memory().available // 2:
                raise DataError(f"{math.prod(shape) / 1e9:.1f} GB, more than half of the free memory: use fewer images")
            data = opened.read(math.prod(shape))
            more = opened.read(1)
    except MemoryError:
        raise DataError(f"{math.prod(shape) / 1e9:.1f} GB do not fit in memory: use fewer images") from None
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"damaged ({error})") from None
    if len(data) != math.prod(shape) or more:
        raise DataError(f"{len(data)}{'+' if more else ''} bytes, {math.prod(shape)} belong to its shape {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def _faults(arrays: list[np.ndarray], classes: int) -> list[str]:
    x, y, test_x, test_y = arrays
    faults = []
    for part, images, labels in (("training", x, y), ("test", test_x, test_y)):
        if len(images) != len(labels):
            faults.append(f"{len(images)} {part} images and {len(labels)} labels: fetch both again")
        if labels.max() >= classes:
            faults.append(f"a {part} label is {labels.max()}, not one of 0..{classes - 1}: correct dataset.classes")
    if x.shape[1:] != test_x.shape[1:]:
        faults.append(f"training images are {x.shape[1:]}, test images {test_x.shape[1:]}: fetch both again")
    return faults
