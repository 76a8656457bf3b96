"""NumPy arrays: x_train, y_train, x_test, y_test in one .npz file, or each as an .npy file in a folder.

Images are (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels: integers 0..255, or floats in [0, 1], which are
rounded to 256 levels. Labels are integers from 0, (n,) or (n, 1). An array `classes` of texts may name the classes.
Objects are never read: NumPy would unpickle them.
"""

import tokenize
import zipfile
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
from distill.data.texts import utf8
from distill.errors import DataError
from distill.recipe import Npz

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3)
DAMAGED = (
    ValueError, OSError, EOFError, RuntimeError, LookupError, SyntaxError, tokenize.TokenError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""What NumPy and zipfile raise on files that are broken, encrypted or hostile."""


def read(settings: Npz, notice: Notice = silent) -> Raw:
    """The images as uint8 (n, c, h, w). DataError lists every array at fault."""
    place = places.locate(settings.path)
    faults: list[str] = []
    arrays = _arrays(place, faults, notice)
    missing = [name for name in ARRAYS if name not in arrays]
    faults += [f"no array {name}: save it under that name" for name in missing if not any(name in f for f in faults)]
    refuse(str(place), faults)
    converted: dict[str, np.ndarray] = {}
    for name in ARRAYS:
        try:
            convert = _images if name.startswith("x") else _labels
            converted[name] = convert(arrays.pop(name), settings)
        except DataError as error:
            faults.append(f"{name}: {error}")
    refuse(str(place), faults)
    try:
        classes = settings.classes or _names(arrays.get("classes"), converted)
    except DataError as error:
        refuse(str(place), [f"classes: {error}"])
    refuse(str(place), _faults(converted, len(classes)))
    return Raw(*(torch.from_numpy(converted[name]) for name in ARRAYS), classes)


def sources(settings: Npz) -> list[Path]:
    """The files that decide what read() returns."""
    place = places.locate(settings.path)
    names = [place / f"{name}.npy" for name in (*ARRAYS, "classes")]
    return [file for file in names if file.is_file()] if place.is_dir() else [place]


def _arrays(place: Path, faults: list[str], notice: Notice) -> dict[str, np.ndarray]:
    """The arrays that are there by name; those that cannot be read are added to `faults`."""
    arrays = {}
    with _opened(place) as opened:
        wanted = [name for name in (*ARRAYS, "classes") if name in opened]
        for done, name in enumerate(wanted):
            notice("reading arrays", done, len(wanted))
            try:
                arrays[name] = opened[name]
            except MemoryError as error:
                faults.append(f"{name}: does not fit in memory ({error}): save fewer images, or save it again")
            except DAMAGED as error:
                faults.append(f"{name}: damaged, or objects, which are not read ({error}): save it again")
    return arrays


def _opened(place: Path):
    if place.is_dir():
        return _Folder({file.stem: file for file in place.glob("*.npy")})
    if not zipfile.is_zipfile(place):
        raise DataError(f"{place}: not a NumPy .npz file: save it again, or give the folder of the .npy files")
    try:
        _check_room(place)
        return np.load(place, allow_pickle=False)
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(f"{place}: not a whole .npz file ({error}): save it again") from None


class _Folder:
    """.npy files read like the members of an .npz file."""

    def __init__(self, files: dict[str, Path]):
        self.files = files

    def __enter__(self) -> "_Folder":
        return self

    def __exit__(self, *error) -> None: ...

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def __getitem__(self, name: str) -> np.ndarray:
        return np.load(self.files[name], allow_pickle=False)


def _check_room(place: Path) -> None:
    """DataError for an archive that would unpack to more than half of the free memory."""
    with zipfile.ZipFile(place) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _room():
        raise DataError(f"{place} unpacks to {size / 1e9:.1f} GB, more than half of the free memory: save fewer images")


def _room() -> int:
    return psutil.virtual_memory().available // 2


def _images(x: np.ndarray, settings: Npz) -> np.ndarray:
    """uint8 (n, c, h, w), contiguous."""
    x = _channels_first(x[..., None] if x.ndim == 3 else x, "nhwc" if x.ndim == 3 else settings.layout)
    if max(x.shape[2:]) > MAX_SIDE or 0 in x.shape:
        raise DataError(f"impossible shape {x.shape}: give images of 1 to {MAX_SIDE} pixels a side")
    if x.dtype.kind not in "fiu":
        raise DataError(f"its type is {x.dtype}: save uint8, or floats in [0, 1]")
    top = 1 if x.dtype.kind == "f" else 255
    if not (x.min() >= 0 and x.max() <= top):
        raise DataError(f"{x.dtype} values from {x.min()} to {x.max()}: give integers 0..255 or floats in [0, 1]")
    if x.dtype.kind == "f":
        x = np.rint(x * np.float32(255))
    return np.ascontiguousarray(x, np.uint8)


def _channels_first(x: np.ndarray, layout: str) -> np.ndarray:
    if x.ndim != 4:
        raise DataError(f"shape {x.shape}: give (n, h, w), (n, h, w, c) or (n, c, h, w)")
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    if layout == "auto" and first == last:
        fix = (
            "both could be the channels: set dataset.layout"
            if first
            else "no axis of 1 or 3 channels: give grey or RGB"
        )
        raise DataError(f"shape {x.shape}: {fix}")
    if layout == "nhwc" or (layout == "auto" and last):
        x = x.transpose(0, 3, 1, 2)
    if x.shape[1] not in CHANNELS:
        raise DataError(f"shape {x.shape}: {x.shape[1]} channels, not 1 or 3: correct dataset.layout or the array")
    return x


def _labels(y: np.ndarray, settings: Npz) -> np.ndarray:
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(y) == 0:
        raise DataError(f"{y.dtype} of shape {y.shape}: give integers, one for each image")
    if y.min() < 0:
        raise DataError(f"label {y.min()}: number the classes from 0")
    return y.astype(np.int64)


def _names(names: np.ndarray | None, converted: dict[str, np.ndarray]) -> tuple[str, ...]:
    if names is not None:
        if names.dtype.kind not in "US" or names.ndim != 1:
            raise DataError(f"{names.dtype} of shape {names.shape}: save a list of texts, one for each class")
        return tuple(utf8(name, "a name") if isinstance(name, bytes) else str(name) for name in names)
    largest = max(int(converted["y_train"].max()), int(converted["y_test"].max()))
    return tuple(str(label) for label in range(min(largest + 1, len(converted["y_train"]))))


def _faults(converted: dict[str, np.ndarray], classes: int) -> list[str]:
    faults = []
    for part in ("train", "test"):
        x, y = converted[f"x_{part}"], converted[f"y_{part}"]
        if len(x) != len(y):
            faults.append(f"{len(x)} images in x_{part} and {len(y)} labels in y_{part}: save one label for each image")
        if y.max() >= classes:
            faults.append(f"y_{part}: label {y.max()} is not one of the classes 0..{classes - 1}: correct it")
    if converted["x_train"].shape[1:] != converted["x_test"].shape[1:]:
        shapes = " and ".join(str(converted[name].shape[1:]) for name in ("x_train", "x_test"))
        faults.append(f"x_train and x_test have images of {shapes}: give all the same shape")
    return faults
