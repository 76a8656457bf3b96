"""Hugging Face image Parquet, as `datasets` lays it out, or one file.

    train*.parquet and test*.parquet, in the folder, in data/ or in a configuration such as plain_text/
    default/train/0000.parquet and default/test/0000.parquet

The image column is a struct with `bytes`, or plain binary; class names come from a ClassLabel in the schema metadata,
key `huggingface`, else they are the labels that occur (distill/data/labels.py). `validation*.parquet` is the test part
of a folder without `test*`. The test part of a single file, or of a folder with a training part only, is a share of
each class, always the same rows. Row groups are read in batches, so their size does not matter.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill.data.base import Raw
from distill.data.faults import refuse
from distill.data.hub import Parts, find_parts
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
from distill.data.labels import Numbering, numbering
from distill.data.places import locate
from distill.data.split import test_part
from distill.errors import DataError
from distill.recipe import Parquet

BATCH_BYTES = 64 << 20
"""Of encoded images that a thread reads at a time; a column of more than 2 GiB cannot be read at once."""


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
    parts = _parts(settings)
    settings, notes = _columns(parts, settings)
    names = _schema_names([*parts.train, *parts.test], settings)
    classes = numbering(() if names else _distinct(parts.train, settings), names)
    if parts.test:
        train = _read_part(parts.train, settings, settings.limit, classes, notice)
        test = _read_part(parts.test, settings, settings.limit_test, classes, notice)
    else:
        train, test = _divide(_read_part(parts.train, settings, 0, classes, notice), settings)
    notes = [*parts.notes, *notes, *([classes.note] if classes.note else [])]
    return DecodedDataset(str(place), train, test, classes.names, notes)


def sources(settings: Parquet) -> list[Path]:
    """The files that decide what read() returns."""
    parts = _parts(settings)
    return [*parts.train, *parts.test]


def _parts(settings: Parquet) -> Parts:
    return find_parts(locate(settings.path), lambda files: not _distinct(files, settings) - {-1, None})


def _divide(rows: list[DecodedImage], settings: Parquet) -> tuple[list[DecodedImage], list[DecodedImage]]:
    """The training and the test rows of one file."""
    labels = np.array([-1 if row.label is None else row.label for row in rows])
    tests = test_part([str(i) for i in range(len(rows))], labels, settings.test_part)
    train, test = ([row for row, t in zip(rows, tests, strict=True) if t == wanted] for wanted in (False, True))
    return train[: settings.limit or None], test[: settings.limit_test or None]


# ---------------------------------------------------------------- columns and class names


def _columns(parts: Parts, settings: Parquet) -> tuple[Parquet, list[str]]:
    """The settings with the columns to read: if the usual name is missing, the only one with images, or classes."""
    try:
        schema = pq.read_schema(parts.train[0])
    except (pa.ArrowException, OSError):
        return settings, []  # to be named by _schema_names()
    images = [name for name in schema.names if _holds_bytes(schema.field(name).type)]
    labels = [name for name in schema.names if _is_class_label(schema, name)]
    found, notes = {}, []
    for key, column, candidates in (("image", settings.image, images), ("label", settings.label, labels)):
        if column not in schema.names and key not in settings.model_fields_set and len(candidates) == 1:
            found[key] = candidates[0]
            notes.append(f"the {key} column is {candidates[0]!r}")
    return settings.model_copy(update=found), notes


def _is_class_label(schema: pa.Schema, column: str) -> bool:
    try:
        return bool(_class_names(schema, column))
    except DataError:
        return False


def _distinct(files: list[Path], settings: Parquet) -> set:
    """The labels that occur in the files, the readable part of them; only this column is read."""
    found = set()
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(columns=[settings.label], use_threads=False):
                    found.update(batch.column(0).unique().to_pylist())
        except (pa.ArrowException, OSError, IndexError):
            continue  # to be named where the file is read
    return found


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
    if settings.label in schema.names and not _holds_labels(schema.field(settings.label).type):
        kind = schema.field(settings.label).type
        faults.append(f"column {settings.label!r} is {kind}, not numbers or texts: give the class of each image")
    return faults


def _holds_labels(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_labels(kind.value_type)
    texts = ("string", "large_string", "string_view", "binary", "large_binary")
    return any(getattr(pa.types, f"is_{name}")(kind) for name in ("integer", "floating", "boolean", "null", *texts))


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


def _read_part(
    files: list[Path], settings: Parquet, limit: int, classes: Numbering, notice: Notice
) -> list[DecodedImage]:
    """The first `limit` rows (0: all) of a part, decoded by threads, one row group each."""
    groups, memory = _plan(files, limit), MemoryLimit()

    def decoded(group: RowGroup) -> list[DecodedImage]:
        rows = _read_group(settings, memory, group)
        return [replace(row, label=classes.number(row.label)) for row in rows]

    return in_parallel(groups, decoded, notice, sum(group.rows for group in groups))


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
    """Every row of a group with its label as the file has it; if the group is damaged, those before the damage."""
    rows: list[DecodedImage] = []
    try:
        for batch in _batches(settings, group):
            image = batch.column(settings.image)
            if pa.types.is_struct(image.type):
                image = pc.struct_field(image, "bytes")
            for value, label in zip(image, batch.column(settings.label).to_pylist(), strict=True):
                if len(rows) == group.rows:
                    return rows
                place = f"{group.file.name} row {group.start + len(rows)}"
                rows.append(decode_one(place, value.as_py, label, settings, memory))
    except (pa.ArrowException, OSError) as error:
        place = f"{group.file.name} row group {group.number}"
        rows.append(DecodedImage(place, None, None, f"damaged ({error}): copy the file again"))
    return rows


def _batches(settings: Parquet, group: RowGroup) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(group.file) as file:
        about = file.metadata.row_group(group.number)
        rows = max(1, BATCH_BYTES * about.num_rows // max(1, about.total_byte_size))
        yield from file.iter_batches(rows, [group.number], [settings.image, settings.label], use_threads=False)
