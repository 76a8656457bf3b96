"""CIFAR's archives in all their forms: rebuilt from known pixels, the published bytes among them."""

import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.cifar_files import archive, binary_file, python_file

from distill.data.cifar import read
from distill.data.decode import decode
from distill.errors import DataError
from distill.recipe import Cifar

DATA_ROOT = Path(os.environ.get("STILLHOUSE_DATA") or Path(__file__).parents[4] / "shared" / "data")
NAMES_10 = ["airplane", "automobile", "bird"]
X = np.random.default_rng(0).integers(0, 256, (12, 3072), np.uint8)
Y = [0, 1, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0]


def python_10() -> dict[str, bytes]:
    files = {
        f"data_batch_{i}": python_file(labels=Y[2 * i - 2 : 2 * i], data=X[2 * i - 2 : 2 * i]) for i in range(1, 6)
    }
    files["test_batch"] = python_file(labels=Y[10:], data=X[10:])
    return files | {"batches.meta": python_file(label_names=NAMES_10)}


def binary_10() -> dict[str, bytes]:
    files = {f"data_batch_{i}.bin": binary_file(X[2 * i - 2 : 2 * i], Y[2 * i - 2 : 2 * i]) for i in range(1, 6)}
    files["test_batch.bin"] = binary_file(X[10:], Y[10:])
    return files | {"batches.meta.txt": "\n".join(NAMES_10).encode() + b"\n\n"}


def python_100() -> dict[str, bytes]:
    coarse = [y // 2 for y in Y]
    return {
        "train": python_file(data=X[:10], coarse_labels=coarse[:10], fine_labels=Y[:10], filenames=["a"] * 10),
        "test": python_file(data=X[10:], coarse_labels=coarse[10:], fine_labels=Y[10:]),
        "meta": python_file(fine_label_names=["apple", "bear", "cup"], coarse_label_names=["few", "many"]),
    }


def binary_100() -> dict[str, bytes]:
    coarse = [y // 2 for y in Y]
    return {
        "train.bin": binary_file(X[:10], coarse[:10], Y[:10]),
        "test.bin": binary_file(X[10:], coarse[10:], Y[10:]),
        "fine_label_names.txt": b"apple\nbear\ncup\n",
        "coarse_label_names.txt": b"few\nmany\n",
    }


FORMS = {"python 10": python_10, "binary 10": binary_10, "python 100": python_100, "binary 100": binary_100}


def unpacked(folder: Path, files: dict[str, bytes]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return str(folder)


@pytest.mark.parametrize("how", ["folder", "parent", "tar.gz", "tar"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form, how, tmp_path):
    files = FORMS[form]()
    path = tmp_path / "cifar.bin"
    if how in ("folder", "parent"):
        path = Path(unpacked(tmp_path / "a" / "cifar", files))
        path = path if how == "folder" else path.parent
    else:
        path.write_bytes(archive("cifar-batches", files | {"readme.html": b"<p>"}, "w:gz" if how == "tar.gz" else "w"))
    raw = read(Cifar(path=str(path)))
    assert torch.equal(raw.train_x, torch.from_numpy(X[:10].reshape(-1, 3, 32, 32)))
    assert torch.equal(raw.test_x, torch.from_numpy(X[10:].reshape(-1, 3, 32, 32)))
    assert raw.train_y.tolist() == Y[:10] and raw.test_y.tolist() == Y[10:]
    assert raw.classes == (tuple(NAMES_10) if "10" in form.split() else ("apple", "bear", "cup"))


@pytest.mark.parametrize("form", ["python 100", "binary 100"])
def test_the_groups_of_cifar_100(form, tmp_path):
    raw = read(Cifar(path=unpacked(tmp_path, FORMS[form]()), labels="coarse"))
    assert raw.train_y.tolist() == [y // 2 for y in Y[:10]] and raw.classes == ("few", "many")


def test_cifar_10_has_no_groups(tmp_path):
    with pytest.raises(DataError, match='is CIFAR-10, which has no coarse labels: set dataset.labels = "fine"'):
        read(Cifar(path=unpacked(tmp_path, python_10()), labels="coarse"))


def test_the_published_bytes_are_read(tmp_path):
    """data_batch_1 rebuilt from the pixels has its published MD5, so the reader reads the real file."""
    parquet = DATA_ROOT / "cifar10" / "train-00000-of-00001.parquet"
    if not parquet.is_file():
        pytest.skip(f"no {parquet}: set STILLHOUSE_DATA to the folder that holds cifar10")
    rows = pq.ParquetFile(parquet).read_row_groups(range(10)).to_pylist()
    x = np.stack([decode(row["image"]["bytes"]).transpose(2, 0, 1).reshape(-1) for row in rows])
    batch = python_file(
        batch_label="training batch 1 of 5",
        labels=[row["label"] for row in rows],
        data=x,
        filenames=[row["image"]["path"] for row in rows],
    )
    assert hashlib.md5(batch).hexdigest() == "c99cafc152244af753f735de768cd75f"
    names = {"batches.meta": python_file(label_names=[str(i) for i in range(10)])}
    others = {f"data_batch_{i}": python_file(labels=[0], data=X[:1]) for i in range(2, 6)}
    files = {"data_batch_1": batch, "test_batch": python_file(labels=[1], data=X[:1])} | others | names
    raw = read(Cifar(path=unpacked(tmp_path, files)))
    assert raw.train_y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3] and len(raw.train_y) == 10004
    assert torch.equal(raw.train_x[:10000].flatten(1), torch.from_numpy(x))


def test_faults_of_all_files_come_at_once(tmp_path):
    files = python_10()
    files["data_batch_2"] = files["data_batch_2"][:-20]
    files["data_batch_3"] = python_file(labels=[0, 7], data=X[:2])
    files["test_batch"] = python_file(labels=[0], data=X[:2])
    with pytest.raises(DataError) as error:
        read(Cifar(path=unpacked(tmp_path, files)))
    text = str(error.value)
    assert "3 faults" in text and "data_batch_2: " in text
    assert "data_batch_3: labels that are not 0..2" in text and "test_batch: not `data` of n x 3072" in text


@pytest.mark.parametrize("form, name", [("python 10", "batches.meta"), ("binary 10", "batches.meta.txt")])
def test_class_names_that_are_not_text(form, name, tmp_path):
    files = FORMS[form]()
    files[name] = files[name].replace(b"bird", b"b\xe9rd")
    with pytest.raises(DataError, match=f"{name}: not UTF-8 at byte"):
        read(Cifar(path=unpacked(tmp_path, files)))


def test_missing_files_are_all_named(tmp_path):
    files = python_10()
    del files["data_batch_4"], files["batches.meta"]
    with pytest.raises(DataError, match=r"(?s)2 faults.*no file data_batch_4.*no file batches.meta"):
        read(Cifar(path=unpacked(tmp_path, files)))


def test_a_cut_binary_file(tmp_path):
    files = binary_10()
    files["test_batch.bin"] = files["test_batch.bin"][:-1]
    with pytest.raises(DataError, match="test_batch.bin: 6145 bytes, not a multiple of 3073"):
        read(Cifar(path=unpacked(tmp_path, files)))


@pytest.mark.parametrize("damage", ["cut", "text", "flipped", "many", "huge"])
def test_archives_that_are_refused(damage, tmp_path, monkeypatch):
    path = tmp_path / "cifar.tar.gz"
    data = archive("c", python_10() | ({f"f{i}": b"" for i in range(100)} if damage == "many" else {}))
    if damage == "huge":
        monkeypatch.setattr("distill.data.cifar.MOST_BYTES", 5000)
    half = len(data) // 2
    flipped = data[:half] + bytes(b ^ 255 for b in data[half : half + 20]) + data[half + 20 :]
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"hello" * 500, "flipped": flipped}.get(damage, data))
    broken = damage in ("cut", "text", "flipped")
    wanted = "not a whole tar archive" if broken else "more files or bytes than CIFAR has"
    with pytest.raises(DataError, match=wanted) as error:
        read(Cifar(path=str(path)))
    assert ("not a whole" in str(error.value)) is broken


def test_a_deflate_stream_that_is_broken(tmp_path, monkeypatch):
    def broken(archive, place):
        raise zlib.error("invalid distance too far back")

    monkeypatch.setattr("distill.data.cifar._members", broken)
    (tmp_path / "cifar.tar.gz").write_bytes(archive("c", python_10()))
    with pytest.raises(DataError, match="not a whole tar archive .*invalid distance"):
        read(Cifar(path=str(tmp_path / "cifar.tar.gz")))


def test_names_in_an_archive_lead_nowhere(tmp_path, monkeypatch):
    path = tmp_path / "a" / "b" / "cifar.tar.gz"
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(path.parent)  # where an unpacked archive would go
    path.write_bytes(archive("..", python_10() | {"../outside": b"!"}))
    assert len(read(Cifar(path=str(path))).train_y) == 10
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "cifar.tar.gz"]
