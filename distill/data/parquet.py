"""Hugging Face image Parquet: a folder of `train*.parquet` and `test*.parquet`, as `datasets` writes them.

The image column is a struct with `bytes`, or plain binary; class names come from a ClassLabel in the schema metadata,
key `huggingface`, else they are the numbers. `validation*.parquet` is the test part of a folder without `test*`.
A relative path is looked up in $STILLHOUSE_DATA if that is set, else in the working directory.
"""

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from distill.data.base import Raw
from distill.data.decode import decode, stack
from distill.data.faults import refuse
from distill.errors import DataError
from distill.recipe import Parquet

THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Group:
    """A row group to read: its file, its number, the file's row it begins at, and how many rows are wanted."""

    file: Path
    number: int
    start: int
    rows: int


@dataclass(frozen=True)
class Row:
    """One row as read: where it stands, its image (None: refused), its label (None: missing) and its fault."""

    place: str
    image: np.ndarray | None
    label: int | None
    fault: str = ""


def read(settings: Parquet) -> Raw:
    """The folder's images at one size, RGB if any is. DataError lists every file, column and row at fault."""
    folder = locate(settings.path)
    train_files, test_files = find_parts(folder)
    names = _schema_names([*train_files, *test_files], settings)
    train = _read_part(train_files, settings, settings.limit)
    test = _read_part(test_files, settings, settings.limit_test)
    classes = names or _numbers(train, test)
    refuse(str(folder), _row_faults(train, test, len(classes)))
    rgb = any(row.image.ndim == 3 for row in train + test)

    def tensors(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        return stack([row.image for row in rows], rgb), torch.tensor([row.label for row in rows])

    return Raw(*tensors(train), *tensors(test), classes)


def locate(path: str) -> Path:
    """The folder a recipe's path means. DataError if it is not there."""
    folder = Path(os.environ.get("STILLHOUSE_DATA") or ".").absolute() / path
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: correct dataset.path, or set STILLHOUSE_DATA to the folder that holds it")
    return folder


def find_parts(folder: Path) -> tuple[list[Path], list[Path]]:
    """The training files and the test files of a folder, sorted by name. DataError if either is missing."""
    train = sorted(folder.glob("train*.parquet"))
    test = sorted(folder.glob("test*.parquet")) or sorted(folder.glob("validation*.parquet"))
    faults = [] if train else ["no train*.parquet: put the training part there under that name"]
    if not test:
        faults.append("no test*.parquet or validation*.parquet: put the test part there under that name")
    refuse(str(folder), faults)
    return train, test


# ---------------------------------------------------------------- columns and class names


def _schema_names(files: list[Path], settings: Parquet) -> tuple[str, ...]:
    """The class names all files agree on; empty if they give none. DataError lists every file and column at fault."""
    faults: list[str] = []
    names: dict[tuple[str, ...], Path] = {}
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            faults.append(f"{file.name}: not a readable Parquet file ({error}): copy it again")
            continue
        faults += [f"{file.name}: {fault}" for fault in _column_faults(schema, settings)]
        try:
            names.setdefault(_class_names(schema, settings.label), file)
        except DataError as error:
            faults.append(f"{file.name}: {error}")
    if len(names) > 1:
        shown = "; ".join(f"{file.name} {list(n) or 'no names'}" for n, file in names.items())
        faults.append(f"class names differ between files: {shown}: give all the same ClassLabel")
    refuse(str(files[0].parent), faults)
    return next(iter(names))


def _column_faults(schema: pa.Schema, settings: Parquet) -> list[str]:
    have = ", ".join(schema.names)
    faults = []
    for key, column in (("image", settings.image), ("label", settings.label)):
        if column not in schema.names:
            faults.append(f"no column {column!r}: set dataset.{key} to one of {have}")
    if settings.image in schema.names and not _holds_bytes(schema.field(settings.image).type):
        kind = schema.field(settings.image).type
        faults.append(f"column {settings.image!r} is {kind}, not binary or a struct with `bytes`: embed the images")
    if settings.label in schema.names and not pa.types.is_integer(schema.field(settings.label).type):
        kind = schema.field(settings.label).type
        faults.append(f"column {settings.label!r} is {kind}, not integers: number the classes from 0")
    return faults


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Names of the ClassLabel in the metadata; empty if there is none. DataError if it does not parse."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return ()
    try:
        feature = json.loads(text)["info"]["features"].get(label, {})
        names = feature["names"] if feature.get("_type") == "ClassLabel" else []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError("metadata key `huggingface` does not describe features: write it again or drop it") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"metadata key `huggingface` has class names that are not a list of texts: {names!r}")
    return tuple(names)


# ---------------------------------------------------------------- rows


def _read_part(files: list[Path], settings: Parquet, limit: int) -> list[Row]:
    """The first `limit` rows (0: all) of a part, decoded by threads, one row group each."""
    groups = _plan(files, limit)
    with ThreadPoolExecutor(THREADS) as pool:
        return [row for rows in pool.map(partial(_read_group, settings), groups) for row in rows]


def _plan(files: list[Path], limit: int) -> list[Group]:
    """The row groups that hold the first `limit` rows (0: all)."""
    groups: list[Group] = []
    left = limit or float("inf")
    for file in files:
        metadata = pq.read_metadata(file)
        start = 0
        for number in range(metadata.num_row_groups):
            rows = min(metadata.row_group(number).num_rows, left)
            if rows > 0:
                groups.append(Group(file, number, start, rows))
            start += metadata.row_group(number).num_rows
            left -= rows
    return groups


def _read_group(settings: Parquet, group: Group) -> list[Row]:
    try:
        with pq.ParquetFile(group.file) as file:
            table = file.read_row_group(group.number, [settings.image, settings.label], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        place = f"{group.file.name} row group {group.number}"
        return [Row(place, None, None, f"damaged ({error}): copy the file again")]
    table = table.slice(0, group.rows)
    image = table[settings.image]
    if pa.types.is_struct(image.type):
        image = pc.struct_field(image, "bytes")
    labels = table[settings.label].to_pylist()
    return [
        _row(f"{group.file.name} row {group.start + i}", data, label)
        for i, (data, label) in enumerate(zip(image.to_pylist(), labels, strict=True))
    ]


def _row(place: str, data: bytes | None, label: int | None) -> Row:
    if data is None:
        return Row(place, None, label, "no image bytes (a path alone is not enough): embed the image")
    try:
        return Row(place, decode(data), label)
    except DataError as error:
        return Row(place, None, label, str(error))


def _numbers(train: list[Row], test: list[Row]) -> tuple[str, ...]:
    """Class names where files give none: the numbers up to the largest label, at most one per training image."""
    largest = max((row.label for row in train + test if row.label is not None), default=-1)
    return tuple(str(label) for label in range(min(largest + 1, len(train))))


def _row_faults(train: list[Row], test: list[Row], classes: int) -> list[str]:
    """Every row that cannot be used, and parts that are empty or smaller than the number of classes."""
    parts = (("train", train), ("test", test))
    faults = [f"the {part} part has no rows: add images" for part, rows in parts if not rows]
    if 0 < len(train) < classes:
        faults.append(f"{len(train)} training images for {classes} classes: add images or raise dataset.limit")
    sizes = Counter(row.image.shape[:2] for row in train + test if row.image is not None)
    common = sizes.most_common(1)[0][0] if sizes else None
    for row in train + test:
        if row.fault:
            faults.append(f"{row.place}: {row.fault}")
        elif row.image.shape[:2] != common:
            (h, w), (common_h, common_w) = row.image.shape[:2], common
            faults.append(f"{row.place}: {w}x{h} pixels, most are {common_w}x{common_h}: resize or remove it")
        if row.label is None and row.image is not None:
            faults.append(f"{row.place}: no label: add it or remove the row")
        elif row.label is not None and not 0 <= row.label < classes:
            faults.append(f"{row.place}: label {row.label} is not one of the classes 0..{classes - 1}: correct it")
    return faults
