"""Hugging Face image Parquet: a folder of `train*.parquet` and `test*.parquet`, as `datasets` writes them, or one file.

The image column is a struct with `bytes`, or plain binary; class names come from a ClassLabel in the schema metadata,
key `huggingface`, else they are the numbers. `validation*.parquet` is the test part of a folder without `test*`. The
test part of a single file is a share of each class, always the same rows.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.images import (
    DecodedDataset,
    DecodedImage,
    MemoryLimit,
    Notice,
    assemble,
    decode_one,
    in_parallel,
    silent,
)
from distill.data.places import locate
from distill.data.split import test_part
from distill.errors import DataError
from distill.recipe import Parquet


@dataclass(frozen=True)
class RowGroup:
    """A row group to read: its file, its number, the number of its first row in the file, and how many rows to read."""

    file: Path
    number: int
    start: int
    rows: int


def read(settings: Parquet, notice: Notice = silent) -> Raw:
    """The images at one size, RGB if any is. DataError lists every file, column and row at fault."""
    return assemble(decode_all(settings, notice))


def decode_all(settings: Parquet, notice: Notice = silent) -> DecodedDataset:
    """Every row of both parts. DataError lists every file and column at fault."""
    place = locate(settings.path)
    train_files, test_files = find_parts(place) if place.is_dir() else ([place], [])
    names = _schema_names([*train_files, *test_files], settings)
    if place.is_dir():
        train = _read_part(train_files, settings, settings.limit, notice)
        test = _read_part(test_files, settings, settings.limit_test, notice)
    else:
        train, test = _divide(_read_part(train_files, settings, 0, notice), settings)
    return DecodedDataset(str(place), train, test, names or _numbers(train, test))


def sources(settings: Parquet) -> list[Path]:
    """The files that decide what read() returns."""
    place = locate(settings.path)
    return [file for part in find_parts(place) for file in part] if place.is_dir() else [place]


def find_parts(folder: Path) -> tuple[list[Path], list[Path]]:
    """The training and the test files of a folder or its folder `data`, by name. DataError if either is missing."""
    candidates = [_parts(place) for place in (folder, folder / "data")]
    train, test = next((parts for parts in candidates if all(parts)), candidates[0])
    faults = [] if train else ["no train*.parquet: put the training part there under that name"]
    if not test:
        faults.append("no test*.parquet or validation*.parquet: put the test part there under that name")
    refuse(str(folder), faults)
    return train, test


def _parts(folder: Path) -> tuple[list[Path], list[Path]]:
    train, test, validation = (sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "test", "validation"))
    return train, test or validation


def _divide(rows: list[DecodedImage], settings: Parquet) -> tuple[list[DecodedImage], list[DecodedImage]]:
    """The training and the test rows of one file."""
    labels = np.array([-1 if row.label is None else row.label for row in rows])
    tests = test_part([str(i) for i in range(len(rows))], labels, settings.test_part)
    train, test = ([row for row, t in zip(rows, tests, strict=True) if t == wanted] for wanted in (False, True))
    return train[: settings.limit or None], test[: settings.limit_test or None]


# ---------------------------------------------------------------- columns and class names


def _schema_names(files: list[Path], settings: Parquet) -> tuple[str, ...]:
    """The class names, the same in all files; empty if they have none. DataError lists every fault."""
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
        raise DataError("metadata key `huggingface` does not describe features: write it again or remove it") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"metadata key `huggingface` has class names that are not a list of texts: {names!r}")
    return tuple(names)


# ---------------------------------------------------------------- rows


def _read_part(files: list[Path], settings: Parquet, limit: int, notice: Notice) -> list[DecodedImage]:
    """The first `limit` rows (0: all) of a part, decoded by threads, one row group each."""
    groups = _plan(files, limit)
    return in_parallel(
        groups, partial(_read_group, settings, MemoryLimit()), notice, sum(group.rows for group in groups)
    )


def _plan(files: list[Path], limit: int) -> list[RowGroup]:
    """The row groups that hold the first `limit` rows (0: all)."""
    groups: list[RowGroup] = []
    left = limit or float("inf")
    for file in files:
        metadata = pq.read_metadata(file)
        start = 0
        for number in range(metadata.num_row_groups):
            rows = min(metadata.row_group(number).num_rows, left)
            if rows > 0:
                groups.append(RowGroup(file, number, start, rows))
            start += metadata.row_group(number).num_rows
            left -= rows
    return groups


def _read_group(settings: Parquet, memory: MemoryLimit, group: RowGroup) -> list[DecodedImage]:
    try:
        with pq.ParquetFile(group.file) as file:
            table = file.read_row_group(group.number, [settings.image, settings.label], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        place = f"{group.file.name} row group {group.number}"
        return [DecodedImage(place, None, None, f"damaged ({error}): copy the file again")]
    table = table.slice(0, group.rows)
    image = table[settings.image]
    if pa.types.is_struct(image.type):
        image = pc.struct_field(image, "bytes")
    labels = table[settings.label].to_pylist()
    return [
        decode_one(f"{group.file.name} row {group.start + i}", value.as_py, label, settings, memory)
        for i, (value, label) in enumerate(zip(image, labels, strict=True))
    ]


def _numbers(train: list[DecodedImage], test: list[DecodedImage]) -> tuple[str, ...]:
    """Class names if the files have none: the numbers up to the largest label, at most one per training image."""
    largest = max((row.label for row in train + test if row.label is not None), default=-1)
    return tuple(str(label) for label in range(min(largest + 1, len(train))))
