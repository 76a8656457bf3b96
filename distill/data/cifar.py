"""CIFAR-10 and CIFAR-100 as their authors publish them: the python or the binary version, .tar.gz or unpacked.

Which of the two, and which version, follows from the names of the files. The pickles of the python version are read as
data, nothing in them is run (distill/safe_pickle.py); members of an archive are read in memory by the last part
of their names, nothing is unpacked.
"""

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from distill.data import numpy_pickle, places
from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.images import Notice, silent
from distill.data.texts import utf8
from distill.errors import DataError
from distill.recipe import Cifar

PIXELS = 3 * 32 * 32
MOST_BYTES = 200 << 20  # of one file; the largest, CIFAR-100's python training file, has 155 MB
MOST_PADDING = 1 << 20  # bytes after the last file
MOST_MEMBERS = 100


@dataclass(frozen=True)
class Version:
    """The files of one published form, and how they hold labels."""

    train: tuple[str, ...]
    test: str
    names: dict[str, tuple[str, str]]
    """For `fine` and `coarse`: the file of class names, and its key if the file is a pickle."""
    label_bytes: tuple[str, ...]
    """Of the binary version: the labels in the bytes before the pixels of each image."""

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test)


PYTHON_10 = Version(
    tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", {"fine": ("batches.meta", "label_names")}, ()
)
BINARY_10 = Version(
    tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", {"fine": ("batches.meta.txt", "")}, ("fine",)
)
PYTHON_100 = Version(
    ("train",), "test", {"fine": ("meta", "fine_label_names"), "coarse": ("meta", "coarse_label_names")}, ()
)
BINARY_100 = Version(
    ("train.bin",),
    "test.bin",
    {"fine": ("fine_label_names.txt", ""), "coarse": ("coarse_label_names.txt", "")},
    ("coarse", "fine"),
)
VERSIONS = (PYTHON_10, BINARY_10, PYTHON_100, BINARY_100)
WANTED = {name for version in VERSIONS for name in (*version.files, *(file for file, _ in version.names.values()))}


def read(settings: Cifar, notice: Notice = silent) -> Raw:
    """The images, uint8 (n, 3, 32, 32), in the published order. DataError lists every file at fault."""
    place = places.locate(settings.path)
    files = _files(place)
    version = max(VERSIONS, key=lambda version: sum(name in files for name in version.files))
    name_file = version.names.get(settings.labels, ("",))[0]
    if not name_file:
        raise DataError(f'{place} is CIFAR-10, which has no coarse labels: set dataset.labels = "fine"')
    missing = [name for name in (*version.files, name_file) if name not in files]
    refuse(str(place), [f"no file {name}: fetch the archive again" for name in missing])
    classes = _class_names(files[name_file], version, settings.labels, name_file)
    parts, faults = [], []
    for done, name in enumerate(version.files):
        notice("reading images", done, len(version.files))
        try:
            parts.append(_batch(files[name], name, version, settings.labels, len(classes)))
        except DataError as error:
            faults.append(str(error))
    refuse(str(place), faults)
    x, y = (torch.from_numpy(np.concatenate([part[i] for part in parts[:-1]])) for i in (0, 1))
    return Raw(x, y, *(torch.from_numpy(array.copy()) for array in parts[-1]), classes)


def sources(settings: Cifar) -> list[Path]:
    """The files that decide what read() returns."""
    place = places.locate(settings.path)
    return [file for file in sorted(_folder(place).iterdir()) if file.name in WANTED] if place.is_dir() else [place]


def _folder(place: Path) -> Path:
    """The folder of the files: `place` itself or a folder in it."""
    within = [folder for folder in sorted(place.iterdir()) if folder.is_dir()]
    return next((f for f in (place, *within) if any((f / v.test).is_file() for v in VERSIONS)), place)


def _files(place: Path) -> dict[str, bytes]:
    """The contents of the dataset's files that exist, by name."""
    if place.is_dir():
        files = [file for file in _folder(place).iterdir() if file.name in WANTED and file.is_file()]
        refuse(str(place), [_too_large(file.name) for file in files if file.stat().st_size > MOST_BYTES])
        return {file.name: file.read_bytes() for file in files}
    try:
        with tarfile.open(place) as archive:
            return _members(archive, place)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place}: not a whole tar archive ({error}): fetch it again") from None


def _members(archive: tarfile.TarFile, place: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number, member in enumerate(archive):
        name = PurePosixPath(member.name).name
        if number >= MOST_MEMBERS or member.size > MOST_BYTES:
            raise DataError(f"{place}: {_too_large(member.name)}")
        if member.isfile() and name in WANTED:
            files[name] = archive.extractfile(member).read()
    if len(archive.fileobj.read(MOST_PADDING + 1)) > MOST_PADDING:  # to the end, where gzip checks what was unpacked
        raise DataError(f"{place}: {_too_large(place.name)}")
    return files


def _too_large(name: str) -> str:
    return f"{name[:80]!r}: more files or bytes than CIFAR has: fetch the archive again"


def _class_names(data: bytes, version: Version, labels: str, file: str) -> tuple[str, ...]:
    if version.label_bytes:
        return tuple(utf8(data, file).split())
    _, key = version.names[labels]
    names = _texts(numpy_pickle.loads(data, file)).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{file}: no list {key}: fetch the archive again")
    return tuple(utf8(name, file) if isinstance(name, bytes) else name for name in names)


def _texts(table: dict) -> dict:
    """The table with its keys as text: Python 2 wrote bytes."""
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in table.items()}


def _batch(data: bytes, name: str, version: Version, labels: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) and labels (n,) of one file. DataError if they are not what CIFAR files hold."""
    x, y = _binary(data, name, version, labels) if version.label_bytes else _pickled(data, name, labels)
    if y.min(initial=0) < 0 or y.max(initial=0) >= classes or len(y) == 0:
        raise DataError(f"{name}: labels that are not 0..{classes - 1}: fetch the archive again")
    return x.reshape(-1, 3, 32, 32), y


def _binary(data: bytes, name: str, version: Version, labels: str) -> tuple[np.ndarray, np.ndarray]:
    width = len(version.label_bytes) + PIXELS
    if len(data) % width:
        raise DataError(f"{name}: {len(data)} bytes, not a multiple of {width}: fetch the archive again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, width)
    return rows[:, len(version.label_bytes) :], rows[:, version.label_bytes.index(labels)].astype(np.int64)


def _pickled(data: bytes, name: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    table = _texts(numpy_pickle.loads(data, name))
    x, y = table.get("data"), table.get(f"{labels}_labels", table.get("labels"))
    sound = isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 2 and x.shape[1] == PIXELS
    if not sound or not isinstance(y, list) or len(y) != len(x) or not all(type(label) is int for label in y):
        raise DataError(f"{name}: not `data` of n x {PIXELS} bytes with n labels: fetch the archive again")
    return x, np.array(y, np.int64)
