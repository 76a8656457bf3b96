"""NumPy arrays: layouts and types that are taken, values that are kept, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.data.npz import read
from distill.errors import DataError
from distill.recipe import Npz

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)  # (n, h, w, c)
Y = np.array([0, 1, 2, 2, 1, 0])


def save(folder: Path, **changes) -> str:
    arrays = {"x_train": X[:4], "y_train": Y[:4], "x_test": X[4:], "y_test": Y[4:]} | changes
    np.savez_compressed(folder / "data.npz", **{k: v for k, v in arrays.items() if v is not None})
    return str(folder / "data.npz")


def fails(path: str, *parts: str, **settings) -> None:
    with pytest.raises(DataError) as error:
        read(Npz(path=path, **settings))
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_channels_last_become_first(tmp_path):
    raw = read(Npz(path=save(tmp_path)))
    assert torch.equal(raw.train_x, torch.from_numpy(X[:4]).permute(0, 3, 1, 2)) and raw.train_x.is_contiguous()
    assert torch.equal(raw.test_x, torch.from_numpy(X[4:]).permute(0, 3, 1, 2))
    assert raw.train_y.tolist() == [0, 1, 2, 2] and raw.test_y.tolist() == [1, 0] and raw.classes == ("0", "1", "2")


def test_channels_first_grey_and_npy_files(tmp_path):
    first = X.transpose(0, 3, 1, 2)
    assert torch.equal(
        read(Npz(path=save(tmp_path, x_train=first[:4], x_test=first[4:]))).train_x, torch.tensor(first[:4])
    )
    grey = read(Npz(path=save(tmp_path, x_train=X[:4, ..., 0], x_test=X[4:, ..., 0])))
    assert torch.equal(grey.train_x, torch.from_numpy(X[:4, None, ..., 0]))
    for name, array in {"x_train": X[:4], "y_train": Y[:4, None], "x_test": X[4:], "y_test": Y[4:]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert read(Npz(path=str(tmp_path))).fingerprint == read(Npz(path=save(tmp_path))).fingerprint


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_the_nearest_level(tmp_path, kind):
    x = (np.arange(256).reshape(1, 16, 16) / 255).astype(kind)
    raw = read(Npz(path=save(tmp_path, x_train=x, y_train=Y[:1], x_test=x, y_test=Y[:1])))
    assert raw.train_x.flatten().tolist() == list(range(256))


def test_integers_of_other_widths(tmp_path):
    assert torch.equal(
        read(Npz(path=save(tmp_path, x_train=X[:4].astype(np.int64)))).train_x, read(Npz(path=save(tmp_path))).train_x
    )


def test_an_axis_that_could_be_either_is_asked_for(tmp_path):
    x = RNG.integers(0, 256, (4, 3, 7, 3), np.uint8)
    path = save(tmp_path, x_train=x, x_test=x[:2])
    fails(path, "2 faults", "x_train: shape (4, 3, 7, 3): both could be the channels: set dataset.layout", "x_test: ")
    assert read(Npz(path=path, layout="nchw")).train_x.shape == (4, 3, 7, 3)
    assert read(Npz(path=path, layout="nhwc")).train_x.shape == (4, 3, 3, 7)
    fails(save(tmp_path), "5 channels, not 1 or 3", layout="nchw")


def test_names_of_classes(tmp_path):
    names = np.array(["ant", "bee", "cat"])
    assert read(Npz(path=save(tmp_path, classes=names))).classes == ("ant", "bee", "cat")
    assert read(Npz(path=save(tmp_path, classes=names), classes=("x", "y", "z"))).classes == ("x", "y", "z")


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"x_test": None, "y_train": None}, ("2 faults", "no array y_train", "no array x_test")),
        ({"x_train": X[:4] / 128}, ("float64 values from", "whose scale is not clear")),
        ({"x_train": np.full((4, 2, 2), np.nan)}, ("x_train: NaN or Inf in row 0 (4 rows have some)",)),
        ({"x_train": X[:4].astype(np.int64) - 1}, ("x_train: int64 values from -1",)),
        ({"x_train": X[:4].astype(complex)}, ("x_train: its type is complex128",)),
        ({"x_train": X[0, 0], "y_test": Y[4:] / 2}, ("x_train: shape (4, 3)", "y_test: label 0.5 in row 0 is")),
        ({"x_train": np.zeros((4, 2, 5, 2), np.uint8)}, ("no axis of 1 or 3 channels",)),
        ({"x_train": np.zeros((4, 2, 20000), np.uint8)}, ("impossible shape",)),
        ({"y_train": Y}, ("4 images in x_train and 6 labels in y_train",)),
        ({"y_train": -Y[:4]}, ("y_train: label -2: number the classes from 0",)),
        ({"y_test": np.array([0, 2**60])}, ("y_test: label 1152921504606846976 is not one of the classes 0..2",)),
        ({"x_test": X[4:, :4]}, ("have images of (3, 5, 4) and (3, 4, 4)",)),
        ({"classes": np.array([["a", "b", "c"]])}, ("classes: <U1 of shape (1, 3): save a list of texts",)),
        ({"classes": np.array([1, 2, 3])}, ("classes: int64 of shape (3,): save a list of texts",)),
        ({"x_train": np.array([{}, 1, 2, 3], object)}, ("x_train: damaged, or objects, which are not read",)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_refused(tmp_path, changes, messages):
    fails(save(tmp_path, **changes), *messages)


class Attack:
    """Unpickled, it would make a folder."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_pickled_objects_are_never_run(tmp_path):
    mark = tmp_path / "mark"
    fails(save(tmp_path, x_train=np.array([Attack(str(mark))], object)), "x_train: damaged, or objects")
    assert not mark.exists()


def test_files_that_are_no_archive_or_damaged(tmp_path):
    path = Path(save(tmp_path))
    data = path.read_bytes()
    path.write_bytes(b"junk")
    fails(str(path), "not a NumPy .npz file")
    np.save(tmp_path / "single.npy", X)
    fails(str(tmp_path / "single.npy"), "not a NumPy .npz file", "give the folder")
    path.write_bytes(data[:100] + bytes(20) + data[120:])
    fails(str(path), "damaged")
    path.write_bytes(data.replace(b"PK\x01\x02", b"PK\x01\x03", 1))  # the list of its arrays
    fails(str(path), "not a whole .npz file")


def test_class_names_may_be_bytes(tmp_path):
    assert read(Npz(path=save(tmp_path, classes=np.array([b"cat", b"dog", b"cow"])))).classes == ("cat", "dog", "cow")


def test_class_names_that_are_not_text(tmp_path):
    fails(save(tmp_path, classes=np.array([b"cat", b"d\xe9g", b"cow"])), "classes: a name: not UTF-8 at byte 1")


def test_an_array_that_claims_more_than_memory(tmp_path):
    for name, array in (("x_train", X[:4]), ("y_train", Y[:4]), ("x_test", X[4:]), ("y_test", Y[4:])):
        np.save(tmp_path / f"{name}.npy", array)
    header = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 2**10, 8, 1)}
    with open(tmp_path / "x_train.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    fails(str(tmp_path), "x_train: does not fit in memory", "save fewer images")


def test_an_archive_that_unpacks_to_more_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("distill.data.npz._room", lambda: 300)
    path = save(tmp_path)
    fails(path, f"{path} unpacks to 0.0 GB, more than half of the free memory")
    with pytest.raises(DataError) as error:
        read(Npz(path=path))
    assert "not a whole" not in str(error.value)


# ---------------------------------------------------------------- other forms


def levels(low: float, high: float) -> np.ndarray:
    """Four images of 8x8 with all 256 levels, as floats from low to high."""
    return (np.arange(256) / 255 * (high - low) + low).astype(np.float32).reshape(4, 8, 8)


@pytest.mark.parametrize(
    ("low", "high", "note"),
    [(0, 1, ()), (-1, 1, ("floats from -1 to 1 are read as pixels in [-1, 1]",)),
     (0, 255, ("floats from 0 to 255 are read as pixels in [0, 255]",))],
)  # fmt: skip
def test_floats_of_every_clear_scale(tmp_path, low, high, note):
    x = levels(low, high)
    dark = np.clip(x, low, low + (high - low) / 4)  # both parts have the same scale, a dark one too
    raw = read(Npz(path=save(tmp_path, x_train=x, x_test=dark[:2])))
    assert raw.train_x.flatten().tolist() == list(range(256)) and raw.notes == note
    assert raw.test_x.flatten().tolist() == [min(i, 64) for i in range(128)]


@pytest.mark.parametrize("scale", [(-2, 2.6), (0, 16), (-1, 255)])
def test_floats_without_a_clear_scale(tmp_path, scale):
    x = levels(*scale)
    fails(save(tmp_path, x_train=x, x_test=x[:2]), "2 faults", "whose scale is not clear")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_values_name_their_row(tmp_path, bad):
    x = levels(0, 1)
    x[2, 3, 3] = bad
    fails(save(tmp_path, x_train=x, x_test=levels(0, 1)[:2]), "1 fault", "x_train: NaN or Inf in row 2 (1 rows have")


def test_black_and_white(tmp_path):
    raw = read(Npz(path=save(tmp_path, x_train=X[:4] > 99, x_test=X[4:] > 99)))
    assert torch.equal(raw.train_x, torch.from_numpy((X[:4] > 99) * np.uint8(255)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("kind", [np.float32, np.int64, bool])
def test_one_hot_labels(tmp_path, kind):
    hot = np.eye(3, dtype=kind)
    raw = read(Npz(path=save(tmp_path, y_train=hot[Y[:4]], y_test=hot[Y[4:]])))
    assert raw.train_y.tolist() == [0, 1, 2, 2] and raw.test_y.tolist() == [1, 0] and raw.classes == ("0", "1", "2")
    assert raw.notes[0] == "y_train: one-hot rows of 3 classes are read as numbers"


def test_soft_labels_are_refused_with_their_row(tmp_path):
    soft = np.eye(3)[Y[:4]]
    soft[1] = 1 / 3
    fails(save(tmp_path, y_train=soft), "y_train: float64 of shape (4, 3), row 1 of which is not one-hot")


@pytest.mark.parametrize(
    ("train", "test", "classes", "numbers"),
    [
        (["dog", "cat", "cow", "dog"], ["cow", "cat"], ("cat", "cow", "dog"), [2, 0, 1, 2]),
        ([b"dog", b"cat", b"cow", b"dog"], [b"cow", b"cat"], ("cat", "cow", "dog"), [2, 0, 1, 2]),
        ([5, 1, 2, 5], [2, 1], ("1", "2", "5"), [2, 0, 1, 2]),
        ([2.0, 0.0, 1.0, 2.0], [1.0, 0.0], ("0", "1", "2"), [2, 0, 1, 2]),
    ],
)
def test_labels_of_every_type(tmp_path, train, test, classes, numbers):
    raw = read(Npz(path=save(tmp_path, y_train=np.array(train), y_test=np.array(test))))
    assert raw.classes == classes and raw.train_y.tolist() == numbers and raw.test_y.tolist() == [1, 0]
    assert bool(raw.notes) == (classes != ("0", "1", "2"))


def test_labels_that_only_the_test_part_has(tmp_path):
    path = save(tmp_path, y_train=np.array(["a", "b", "a", "b"]), y_test=np.array(["a", "c"]))
    fails(path, "y_test: label c is not one of the classes of the training part")
    fails(save(tmp_path, y_train=np.array([1, 2, 1, 5]), y_test=np.array([1, 0])), "y_test: label 0 is not one of")


def test_labels_that_are_not_whole(tmp_path):
    fails(save(tmp_path, y_train=np.array([0, 1, np.nan, 1])), "y_train: label nan in row 2 is not a whole number")
