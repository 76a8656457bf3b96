"""One expert as bytes: an Arrow IPC file, one record batch per saved epoch, one row of one column `theta` in each.

The schema metadata has everything needed to use the file alone. Format version 1; any Arrow reader opens it:

    pyarrow.ipc.open_file("expert-00000.arrow").get_batch(0)["theta"]
"""

import hashlib
import io
import json
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from distill.errors import TrajectoryError

FORMAT = 1
COLUMN = "theta"
_PREFIX = "stillhouse."
_FIX = "delete it and train that expert again"
# Arrow has no bfloat16: its bits are stored as uint16, and the metadata has the dtype.
_ARROW = {"float32": pa.float32(), "float16": pa.float16(), "bfloat16": pa.uint16()}


@dataclass(frozen=True)
class SetSpec:
    """What all experts of a set share."""

    recipe_hash: str
    """Of the recipe's blocks that determine an expert."""
    dataset: str
    """Fingerprint of the dataset they were trained on."""
    network: dict
    """The network's settings, as JSON."""
    layout: list[tuple[str, tuple[int, ...]]]
    """Names and shapes of the parameters, in their order in a snapshot."""
    epochs: list[int]
    """The saved epochs in ascending order; 0 is the initial network."""
    dtype: str
    """float32, bfloat16 or float16: how snapshots are stored."""

    def __post_init__(self):
        if self.dtype not in _ARROW:
            raise ValueError(f"dtype {self.dtype!r}: one of {', '.join(_ARROW)}")
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError(f"epochs {self.epochs}: must be in ascending order")

    @property
    def size(self) -> int:
        """p, the number of parameters."""
        return sum(math.prod(shape) for _, shape in self.layout)

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of one stored snapshot."""
        return self.size * _ARROW[self.dtype].byte_width

    def json(self) -> dict:
        """As JSON values; `from_json` is the way back."""
        return {
            "recipe_hash": self.recipe_hash,
            "dataset": self.dataset,
            "network": self.network,
            "layout": [[name, list(shape)] for name, shape in self.layout],
            "epochs": list(self.epochs),
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, value: dict) -> "SetSpec":
        return cls(**{**value, "layout": [(name, tuple(shape)) for name, shape in value["layout"]]})


@dataclass(frozen=True)
class ExpertRecord:
    """One trained expert."""

    index: int
    snapshots: Tensor
    """(saved epochs, p) float32, in the order of SetSpec.epochs; the first is the initial network."""
    train_accuracy: list[float]
    """Per saved epoch, in [0, 1]."""
    test_accuracy: list[float]
    """Per saved epoch, in [0, 1]."""
    seed: int


@dataclass(frozen=True)
class ExpertIndex:
    """What a reader needs to fetch and verify any snapshot of an expert's object with one ranged read."""

    size: int
    sha256: str
    """Of the whole object."""
    snapshots: list[tuple[int, int, str]]
    """Per saved epoch: byte offset and length of the parameters in the object, and the SHA-256 of just those."""
    train_accuracy: list[float]
    test_accuracy: list[float]
    seed: int


def encode(spec: SetSpec, record: ExpertRecord) -> bytes:
    """The expert's object. The same inputs give the same bytes. Raises TrajectoryError for numbers it cannot hold."""
    _check_record(spec, record)
    metadata = {
        "format": FORMAT,
        **spec.json(),
        "expert": record.index,
        "seed": record.seed,
        "train_accuracy": record.train_accuracy,
        "test_accuracy": record.test_accuracy,
    }
    kind = pa.list_(pa.field("item", _ARROW[spec.dtype], nullable=False), spec.size)
    schema = pa.schema(
        [pa.field(COLUMN, kind, nullable=False)],
        metadata={_PREFIX + name: canonical(value) for name, value in metadata.items()},
    )
    out = io.BytesIO()
    with pa.ipc.new_file(out, schema) as file:
        for bits in _stored(spec, record):
            values = pa.array(bits, _ARROW[spec.dtype])
            file.write_batch(pa.record_batch([pa.FixedSizeListArray.from_arrays(values, type=kind)], schema))
    return out.getvalue()


def decode(data: bytes, where: str) -> tuple[SetSpec, int, ExpertIndex]:
    """Spec, expert number and index of an object.

    Raises TrajectoryError, naming `where`, if the object is damaged or of another version.
    """
    buffer = pa.py_buffer(data)
    try:
        file = pa.ipc.open_file(buffer)
        stored = {k.decode(): json.loads(v) for k, v in (file.schema.metadata or {}).items()}
        batches = [file.get_batch(i) for i in range(file.num_record_batches)]
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # OSError is Arrow's, the last two are json's
        raise TrajectoryError(f"{where} is not a trajectory file ({error}); {_FIX}") from None
    meta = {name.removeprefix(_PREFIX): value for name, value in stored.items()}
    check_format(meta.pop("format", None), where)
    try:
        expert, seed, train, test = (meta.pop(k) for k in ("expert", "seed", "train_accuracy", "test_accuracy"))
        spec = SetSpec.from_json(meta)
        snapshots = [_place(spec, batch, buffer) for batch in batches]
    except (KeyError, TypeError, ValueError) as error:
        raise TrajectoryError(f"{where} is damaged ({error}); {_FIX}") from None
    if len(snapshots) != len(spec.epochs):
        raise TrajectoryError(f"{where} has {len(snapshots)} of {len(spec.epochs)} snapshots; {_FIX}")
    hashed = [(start, length, sha256(data[start : start + length])) for start, length in snapshots]
    return spec, expert, ExpertIndex(len(data), sha256(data), hashed, train, test, seed)


def values(spec: SetSpec, data: bytes) -> Tensor:
    """(p,) float32 from the stored bytes of one snapshot."""
    return torch.frombuffer(bytearray(data), dtype=getattr(torch, spec.dtype)).to(torch.float32)


def canonical(value) -> str:
    """JSON with one spelling per value, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def same_spec(a: SetSpec, b: SetSpec) -> bool:
    """Whether two specs are equal; tuples equal lists, as in JSON."""
    return canonical(a.json()) == canonical(b.json())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_format(version: int | None, where: str) -> None:
    """Raise TrajectoryError unless this program reads that format version."""
    if version != FORMAT:
        raise TrajectoryError(
            f"{where} has format version {version}; this program reads {FORMAT}: use one that reads it"
        )


def _stored(spec: SetSpec, record: ExpertRecord) -> list[np.ndarray]:
    """Each snapshot (p,) as the array Arrow stores."""
    narrow = record.snapshots.detach().cpu().to(getattr(torch, spec.dtype)).contiguous()
    if not narrow.isfinite().all():
        row = int((~narrow.isfinite().all(dim=1)).nonzero()[0])
        raise TrajectoryError(
            f"expert {record.index}, epoch {spec.epochs[row]}: NaN, Inf or a value beyond {spec.dtype}; "
            "lower experts.lr, or set experts.dtype to float32"
        )
    return list((narrow.view(torch.uint16) if spec.dtype == "bfloat16" else narrow).numpy())


def _place(spec: SetSpec, batch: pa.RecordBatch, file: pa.Buffer) -> tuple[int, int]:
    """Offset and length in the file of the parameters of one batch, from addresses: Arrow reads without copying."""
    batch.validate(full=True)
    kind = batch.schema.field(COLUMN).type
    if batch.num_rows != 1 or not pa.types.is_fixed_size_list(kind) or kind.list_size != spec.size:
        raise ValueError(f"a batch is {batch.num_rows} rows of {kind}, not one of {spec.size} parameters")
    if kind.value_type != _ARROW[spec.dtype]:
        raise ValueError(f"parameters are {kind.value_type}, not {spec.dtype}")
    start = batch.column(COLUMN).flatten().buffers()[1].address - file.address
    if not 0 <= start <= file.size - spec.snapshot_bytes:
        raise ValueError("parameters are compressed or outside the file")
    return start, spec.snapshot_bytes


def _check_record(spec: SetSpec, record: ExpertRecord) -> None:
    """ValueError if a caller passes an inconsistent record."""
    shape = (len(spec.epochs), spec.size)
    if tuple(record.snapshots.shape) != shape:
        raise ValueError(f"expert {record.index}: snapshots are {tuple(record.snapshots.shape)}, not {shape}")
    if not len(record.train_accuracy) == len(record.test_accuracy) == len(spec.epochs):
        raise ValueError(f"expert {record.index}: accuracies must be one per saved epoch, {len(spec.epochs)}")
