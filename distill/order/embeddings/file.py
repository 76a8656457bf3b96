"""Embeddings from a file: one vector per class name. Nothing is unpickled.

.npz, .safetensors   one array per class, under its name; an array of any shape is flattened
.json                {"class name": [numbers], ...}
.npy                 one row per class, the names a JSON list beside it: X.json, or Y_labels.json for Y_anything.npy
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from distill.errors import RecipeError
from distill.order.embeddings.names import find


def read(path: str, classes: Sequence[str]) -> np.ndarray:
    """Embeddings (c, d) float64 of the classes, in their order.

    Raises RecipeError if the file is missing or damaged, or does not hold a vector of the same length for each class.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise RecipeError(f"no embeddings at {file}: correct the path after file:")
    if file.suffix not in READERS:
        raise RecipeError(f"embeddings {file}: not one of {', '.join(READERS)}: convert them")
    try:
        names, vectors = READERS[file.suffix](file)
        rows = [np.asarray(vectors[i], np.float64).ravel() for i in find(classes, names, str(file))]
    except RecipeError:
        raise
    except (ValueError, TypeError, AttributeError, OSError, zipfile.BadZipFile, SafetensorError) as error:
        raise RecipeError(f"embeddings {file}: not readable ({error}): write the file again") from None
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1 or not lengths[0]:
        raise RecipeError(f"embeddings {file}: vectors of different or no length ({lengths}): give all the same")
    return np.stack(rows)


def _npy(file: Path) -> tuple[list[str], Sequence]:
    vectors = np.load(file, allow_pickle=False)
    names = json.loads(_labels_of(file).read_text(encoding="utf8"))
    if vectors.ndim < 2 or len(vectors) != len(names):
        raise RecipeError(f"embeddings {file}: shape {vectors.shape} for {len(names)} labels: give one row for each")
    return list(names), vectors


def _labels_of(file: Path) -> Path:
    """The JSON list of names that belongs to a .npy file."""
    beside = [labels for labels in file.parent.glob("*_labels.json") if file.name.startswith(labels.name[:-11])]
    candidates = [file.with_suffix(".json"), *sorted(beside, key=lambda labels: -len(labels.name))]
    file_of_names = next((labels for labels in candidates if labels.is_file()), None)
    if file_of_names is None:
        raise RecipeError(f"embeddings {file}: no class names in its folder: write them as a list to {candidates[0]}")
    return file_of_names


def _npz(file: Path) -> tuple[list[str], Sequence]:
    with np.load(file, allow_pickle=False) as arrays:
        return list(arrays.files), [arrays[name] for name in arrays.files]


def _safetensors(file: Path) -> tuple[list[str], Sequence]:
    arrays = safetensors.numpy.load_file(file)
    return list(arrays), list(arrays.values())


def _json(file: Path) -> tuple[list[str], Sequence]:
    table = json.loads(file.read_text(encoding="utf8"))
    return list(table.keys()), list(table.values())


READERS = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".json": _json}
