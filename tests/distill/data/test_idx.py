"""idx files as MNIST has them: written by their specification, compressed or not, and damaged."""

import gzip
import hashlib
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from distill.data.decode import decode
from distill.data.idx import read
from distill.errors import DataError
from distill.recipe import Idx

DATA_ROOT = Path(os.environ.get("STILLHOUSE_DATA") or Path(__file__).parents[4] / "shared" / "data")
X = np.random.default_rng(0).integers(0, 256, (5, 3, 4), np.uint8)
Y = np.array([0, 2, 1, 2, 0], np.uint8)


def idx(array: np.ndarray) -> bytes:
    """Two zero bytes, type 8 (unsigned byte), the number of axes, each axis as a big-endian integer, the bytes."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


FILES = {
    "train-images-idx3-ubyte": idx(X[:3]),
    "train-labels-idx1-ubyte": idx(Y[:3]),
    "t10k-images-idx3-ubyte": idx(X[3:]),
    "t10k-labels-idx1-ubyte": idx(Y[3:]),
}


def write(folder: Path, files: dict[str, bytes], packed: bool = False) -> str:
    for name, data in files.items():
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return str(folder)


def fails(folder: str, *parts: str, **settings) -> None:
    with pytest.raises(DataError) as error:
        read(Idx(path=folder, **settings))
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
def test_both_parts(tmp_path, packed, prefix):
    raw = read(Idx(path=write(tmp_path, {prefix + name: data for name, data in FILES.items()}, packed)))
    assert torch.equal(raw.train_x, torch.from_numpy(X[:3, None])) and torch.equal(
        raw.test_x[:, 0], torch.tensor(X[3:])
    )
    assert raw.train_y.tolist() == [0, 2, 1] and raw.test_y.tolist() == [2, 0] and raw.train_y.dtype == torch.int64
    assert raw.classes == ("0", "1", "2")


def test_other_spellings_and_given_names(tmp_path):
    files = {name.replace("t10k", "test").replace("-idx", ".idx"): data for name, data in FILES.items()}
    assert read(Idx(path=write(tmp_path, files), classes=("a", "b", "c"))).classes == ("a", "b", "c")


def test_the_published_bytes_are_read(tmp_path):
    """Fashion-MNIST's test images as an idx file have their published MD5, so the reader reads the real file."""
    parquet = DATA_ROOT / "fashion_mnist" / "test-00000-of-00001.parquet"
    if not parquet.is_file():
        pytest.skip(f"no {parquet}: set STILLHOUSE_DATA to the folder that holds fashion_mnist")
    rows = pq.read_table(parquet).to_pylist()
    x = np.stack([decode(row["image"]["bytes"]) for row in rows])
    y = np.array([row["label"] for row in rows], np.uint8)
    assert hashlib.md5(idx(x)).hexdigest() == "8181f5470baa50b63fa0f6fddb340f0a"
    files = {f"{part}-{what}-idx{a.ndim}-ubyte": idx(a) for part in ("train", "t10k")
             for what, a in (("images", x), ("labels", y))}  # fmt: skip
    raw = read(Idx(path=write(tmp_path, files)))
    assert torch.equal(raw.test_x[:, 0], torch.from_numpy(x)) and raw.test_y[:5].tolist() == [9, 2, 1, 1, 6]


def test_missing_and_doubled_files_are_all_named(tmp_path):
    files = {name: data for name, data in FILES.items() if "labels" in name}
    write(tmp_path, files | {"b-train-labels-idx1-ubyte": b""})
    fails(str(tmp_path), "3 faults", "0 files of the training images", "2 files of the training labels", "test images")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FILES["train-images-idx3-ubyte"][:-1], "35 bytes, 36 belong to its shape"),
        (FILES["train-images-idx3-ubyte"] + b"x", "36+ bytes, 36 belong"),
        (FILES["train-labels-idx1-ubyte"], "not an idx file of bytes with 3 axes (it begins with 0x801)"),
        (b"\x00\x00\x0d\x03" + FILES["train-images-idx3-ubyte"][4:], "not an idx file of bytes"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 2**31, 2**31), "impossible shape"),
        (b"\x00", "damaged"),
    ],
)
def test_damaged_files_are_named_together(tmp_path, data, message):
    folder = write(tmp_path, FILES | {"train-images-idx3-ubyte": data, "t10k-labels-idx1-ubyte": b""})
    fails(folder, "2 faults", f"train-images-idx3-ubyte: {message}", "t10k-labels-idx1-ubyte: damaged")


def test_a_cut_gzip_file_and_one_that_unpacks_to_too_much(tmp_path):
    write(tmp_path, FILES, packed=True)
    images, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-9])
    labels.write_bytes(gzip.compress(FILES["train-labels-idx1-ubyte"] + bytes(50_000_000)))
    fails(str(tmp_path), "2 faults", "train-images-idx3-ubyte.gz: damaged", "train-labels-idx1-ubyte.gz: 3+ bytes")


def test_a_file_that_would_fill_the_memory_is_not_unpacked(tmp_path, monkeypatch):
    folder = write(tmp_path, FILES)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * X[:3].size - 2))
    fails(folder, "train-images-idx3-ubyte: 0.0 GB, more than half of the free memory")


def test_parts_that_do_not_fit(tmp_path):
    files = FILES | {"train-labels-idx1-ubyte": idx(Y), "t10k-images-idx3-ubyte": idx(np.zeros((2, 4, 4), np.uint8))}
    fails(write(tmp_path, files), "2 faults", "3 training images and 5 labels", "test images (4, 4)")
    fails(write(tmp_path, FILES), "a training label is 2, not one of 0..1", classes=("a", "b"))
