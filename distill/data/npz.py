"""NumPy arrays: x_train, y_train, x_test, y_test in one .npz file, or each as an .npy file in a folder.

Images are (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels: integers 0..255, or floats in [0, 1], [-1, 1]
or [0, 255], the same for both parts, which are rounded to 256 levels. Labels are numbers, texts or truth values, (n,)
or (n, 1), or one-hot rows (n, classes). An array `classes` of texts may name the classes. What is not the plain form is
noted. Objects are never read: NumPy would unpickle them.
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
from distill.data.labels import Numbering, numbering
from distill.data.texts import utf8
from distill.errors import DataError
from distill.recipe import Npz

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3)
DARK = 128
"""Floats up to 255 are pixels if the brightest is at least this; else their scale is not clear."""
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
    notes: list[str] = []
    levels = _Levels(arrays, notes)
    converted: dict[str, np.ndarray] = {}
    for name in ARRAYS:
        try:
            array = arrays.pop(name)
            converted[name] = _images(array, settings, levels) if name.startswith("x") else _labels(array, name, notes)
        except DataError as error:
            faults.append(f"{name}: {error}")
    refuse(str(place), faults)
    try:
        found = numbering(converted["y_train"].tolist(), settings.classes or _names(arrays.get("classes")))
    except DataError as error:
        refuse(str(place), [f"classes: {error}"])
    refuse(str(place), _faults(converted))
    for name in ("y_train", "y_test"):
        converted[name], wrong = _numbered(converted[name], found)
        faults += [f"{name}: {fault}" for fault in wrong]
    refuse(str(place), faults)
    notes += [found.note] if found.note else []
    return Raw(*(torch.from_numpy(converted[name]) for name in ARRAYS), found.names, notes=tuple(notes))


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


class _Levels:
    """How floats become levels 0..255, decided by the values of all images together."""

    def __init__(self, arrays: dict[str, np.ndarray], notes: list[str]):
        floats = [x for name in ("x_train", "x_test") if (x := arrays[name]).dtype.kind == "f" and np.isfinite(x).any()]
        self.low = min((float(x.min(where=np.isfinite(x), initial=np.inf)) for x in floats), default=0.0)
        self.high = max((float(x.max(where=np.isfinite(x), initial=-np.inf)) for x in floats), default=1.0)
        self.minus, self.times = (1.0, 127.5) if -1 <= self.low < 0 and 0 < self.high <= 1 else (0.0, 255.0)
        if self.low >= 0 and DARK <= self.high <= 255:
            self.times = 1.0
        if floats and (self.minus, self.times) != (0.0, 255.0):
            scale = "[-1, 1]" if self.minus else "[0, 255]"
            notes.append(f"floats from {self.low:g} to {self.high:g} are read as pixels in {scale}")

    def of(self, x: np.ndarray) -> np.ndarray:
        """uint8 levels of floats x (n, c, h, w). DataError if their scale is not known."""
        broken = ~np.isfinite(x).all((1, 2, 3))
        if broken.any():
            row, count = int(broken.argmax()), int(broken.sum())
            raise DataError(f"NaN or Inf in row {row} ({count} rows have some): repair them")
        if self.low < -self.minus or self.high * self.times > 255:
            raise DataError(
                f"{x.dtype} values from {self.low:g} to {self.high:g}, whose scale is not clear (standardised?): give "
                f"integers 0..255 or floats in [0, 1], [-1, 1] or [0, 255]"
            )
        return np.rint((x + np.float32(self.minus) if self.minus else x) * np.float32(self.times))


def _images(x: np.ndarray, settings: Npz, levels: _Levels) -> np.ndarray:
    """uint8 (n, c, h, w), contiguous."""
    x = _channels_first(x[..., None] if x.ndim == 3 else x, "nhwc" if x.ndim == 3 else settings.layout)
    if max(x.shape[2:]) > MAX_SIDE or 0 in x.shape:
        raise DataError(f"impossible shape {x.shape}: give images of 1 to {MAX_SIDE} pixels a side")
    if x.dtype.kind == "b":
        x = x * np.uint8(255)
    if x.dtype.kind not in "fiu":
        raise DataError(f"its type is {x.dtype}: save uint8, or floats in [0, 1]")
    if x.dtype.kind == "f":
        x = levels.of(x)
    elif not (x.min() >= 0 and x.max() <= 255):
        raise DataError(f"{x.dtype} values from {x.min()} to {x.max()}: give integers 0..255 or floats in [0, 1]")
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


def _labels(y: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
    """Labels (n,) as they are in the file; the positions of the ones of one-hot rows."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim == 2 and y.dtype.kind in "fiub" and len(y):
        ones = y == 1
        wrong = (ones.sum(1) != 1) | ((y != 0) & ~ones).any(1)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(f"{y.dtype} of shape {y.shape}, row {row} of which is not one-hot: give one label an image")
        notes.append(f"{name}: one-hot rows of {y.shape[1]} classes are read as numbers")
        return ones.argmax(1)
    if y.ndim != 1 or y.dtype.kind not in "iufbUS" or len(y) == 0:
        raise DataError(f"{y.dtype} of shape {y.shape}: give one label for each image")
    if y.dtype.kind == "f" and (broken := ~np.isfinite(y) | (y != np.rint(y))).any():
        row = int(broken.argmax())
        raise DataError(f"label {y[row]} in row {row} is not a whole number: give the class of each image")
    if y.dtype.kind in "if" and y.min() < 0:
        raise DataError(f"label {y.min():g}: number the classes from 0")
    return y


def _numbered(y: np.ndarray, found: Numbering) -> tuple[np.ndarray, list[str]]:
    """Class numbers, int64 (n,), and the labels that are no class of the training part."""
    values, index = np.unique(y, return_inverse=True)
    numbers = [found.number(value) for value in values.tolist()]
    wrong = [n for n in numbers if not (isinstance(n, int) and 0 <= n < len(found.names))]
    if wrong:
        of = f"0..{len(found.names) - 1}" if isinstance(wrong[0], int) else "of the training part"
        return y, [f"label {wrong[0]} is not one of the classes {of}: correct it"]
    return np.array(numbers, np.int64)[index], []


def _names(names: np.ndarray | None) -> tuple[str, ...]:
    if names is None:
        return ()
    if names.dtype.kind not in "US" or names.ndim != 1:
        raise DataError(f"{names.dtype} of shape {names.shape}: save a list of texts, one for each class")
    texts = [utf8(name, "a name") if isinstance(name, bytes) else str(name) for name in names]
    return tuple(text.encode("utf8", "backslashreplace").decode() for text in texts)  # halves of a pair in UTF-16


def _faults(converted: dict[str, np.ndarray]) -> list[str]:
    faults = []
    for part in ("train", "test"):
        x, y = converted[f"x_{part}"], converted[f"y_{part}"]
        if len(x) != len(y):
            faults.append(f"{len(x)} images in x_{part} and {len(y)} labels in y_{part}: save one label for each image")
    if converted["x_train"].shape[1:] != converted["x_test"].shape[1:]:
        shapes = " and ".join(str(converted[name].shape[1:]) for name in ("x_train", "x_test"))
        faults.append(f"x_train and x_test have images of {shapes}: give all the same shape")
    return faults
