"""Embeddings from files of every kind, and files that are refused."""

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

from distill.errors import RecipeError
from distill.order.embeddings.file import read

NAMES = ["sea_lion", "cat", "Boat"]
VECTORS = np.arange(12, dtype=np.float16).reshape(3, 2, 2)  # as hidden states: flattened when read
CLASSES = ("boat", "sea lion", "cat")
WANTED = VECTORS.reshape(3, 4)[[2, 0, 1]]


def write(folder, kind: str):
    file = folder / f"things_clip.{kind}"
    table = dict(zip(NAMES, VECTORS, strict=True))
    if kind == "npy":
        np.save(file, VECTORS)
        (folder / "things_labels.json").write_text(json.dumps(NAMES))
    elif kind == "npz":
        np.savez(file, **table)
    elif kind == "safetensors":
        safetensors.numpy.save_file(table, file)
    else:
        file.write_text(json.dumps({name: vector.ravel().tolist() for name, vector in table.items()}))
    return file


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "json"])
def test_vectors_are_found_by_name(tmp_path, kind):
    np.testing.assert_array_equal(read(str(write(tmp_path, kind)), CLASSES), WANTED)


def test_labels_of_the_files_own_name_come_first(tmp_path):
    file = write(tmp_path, "npy")
    (tmp_path / "things_clip.json").write_text(json.dumps(["cat", "boat", "sea lion"]))
    np.testing.assert_array_equal(read(str(file), CLASSES), VECTORS.reshape(3, 4)[[1, 2, 0]])


def test_classes_that_are_not_there_are_named(tmp_path):
    with pytest.raises(RecipeError, match="'dog' is missing, 'cow' is missing"):
        read(str(write(tmp_path, "json")), ("cat", "dog", "cow"))


class Trap:
    def __reduce__(self):
        return exit, (3,)


def attacks(folder) -> dict[str, str]:
    """File: what its refusal must say."""
    np.save(folder / "objects.npy", np.array([Trap(), Trap()], object), allow_pickle=True)
    (folder / "objects.json").write_text('["cat", "dog"]')
    np.savez(folder / "objects.npz", cat=np.array([Trap()], object))
    (folder / "pickle.npy").write_bytes(pickle.dumps(Trap()))
    (folder / "pickle.json").write_text('["cat"]')
    np.save(folder / "nameless.npy", np.ones((2, 3)))
    np.save(folder / "short.npy", np.ones((2, 3)))
    (folder / "short.json").write_text('["cat"]')
    (folder / "lengths.json").write_text('{"cat": [1, 2], "dog": [1, 2, 3]}')
    (folder / "list.json").write_text("[1, 2]")
    (folder / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    (folder / "cut.npz").write_bytes(b"PK\x03\x04")
    (folder / "weights.pt").write_bytes(pickle.dumps(Trap()))
    return {
        "objects.npy": "not readable", "objects.npz": "not readable", "pickle.npy": "not readable",
        "nameless.npy": "no class names", "short.npy": "one row for each", "lengths.json": "different",
        "list.json": "not readable", "cut.safetensors": "not readable", "cut.npz": "not readable",
        "weights.pt": "not one of", "absent.npz": "no embeddings",
    }  # fmt: skip


def test_what_is_no_embedding_is_refused_and_nothing_is_unpickled(tmp_path):
    for name, said in attacks(tmp_path).items():
        classes = ("cat",) if name in ("objects.npz", "pickle.npy") else ("cat", "dog")
        with pytest.raises(RecipeError, match=said):
            read(str(tmp_path / name), classes)
