"""The bytes of one expert: what Arrow itself reads in them, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from support.trajectories import LAYOUT, P, record_of, spec_of

from cluster.store import open_store
from cluster.trajectories import ExpertRecord, SetSpec, TrajectorySet
from cluster.trajectories.format import decode, encode, values
from distill.errors import TrajectoryError

GOLDEN = Path(__file__).parents[2] / "golden" / "trajectories-v1"
DTYPES = ["float32", "bfloat16", "float16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_golden_set_of_version_1_is_still_read(dtype):
    reader = TrajectorySet(open_store(f"file:{GOLDEN}"), f"golden-{dtype}").open()
    truth = [[0, 1, -2, 0.5, -0.25], [1, 2, 3, 4, 5], [-1.5, 0.125, 65280, -0.0, 2**-14]]
    for epoch, row in zip([0, 1, 3], truth, strict=True):
        theta = reader.snapshot(0, epoch)
        assert theta.dtype == torch.float32 and theta.tolist() == row
        if dtype != "float16":
            assert reader.snapshot(1, epoch).tolist() == [2 * v for v in row]
    network = {"kind": "convnet", "depth": 3, "width": 128, "norm": "instance"}
    layout = [("conv.weight", (2, 2)), ("conv.bias", (1,))]
    assert reader.spec == SetSpec("0123456789abcdef", "f" * 64, network, layout, [0, 1, 3], dtype)
    assert reader.train_accuracy(0) == [0.1, 0.5, 0.75] and reader.test_accuracy(0) == [0.125, 0.25, 1.0]
    assert reader.seed(0) == 7
    for expert in range(reader.count):
        reader.verify(expert)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_arrow_reader_finds_the_snapshots_and_what_they_are(dtype):
    spec, record = spec_of(dtype), record_of(7)
    file = pa.ipc.open_file(pa.py_buffer(encode(spec, record)))
    assert file.num_record_batches == 4 and file.schema.names == ["theta"]
    for row in range(4):
        (stored,) = file.get_batch(row)["theta"].to_pylist()
        if dtype == "bfloat16":  # its bits, the upper half of a float32
            stored = (torch.tensor(stored, dtype=torch.int32) << 16).view(torch.float32).tolist()
        assert stored == record.snapshots[row].tolist()
    metadata = {k.decode(): json.loads(v) for k, v in file.schema.metadata.items()}
    assert metadata == {
        "stillhouse.format": 1,
        "stillhouse.recipe_hash": "0123456789abcdef",
        "stillhouse.dataset": "f" * 64,
        "stillhouse.network": {"kind": "convnet", "depth": 3, "width": 128},
        "stillhouse.layout": [["conv.weight", [2, 3]], ["conv.bias", [2]], ["scale", []]],
        "stillhouse.epochs": [0, 1, 2, 5],
        "stillhouse.dtype": dtype,
        "stillhouse.expert": 7,
        "stillhouse.seed": 3,
        "stillhouse.train_accuracy": [0.1, 0.2, 0.3, 0.4],
        "stillhouse.test_accuracy": [0.1, 0.15, 0.2, 0.07],
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_index_points_at_the_parameters(dtype):
    spec, record = spec_of(dtype), record_of(7)
    data = encode(spec, record)
    found, expert, index = decode(data, "x")
    assert (found, expert, index.seed, index.size) == (spec, 7, 3, len(data))
    assert spec.size == P and spec.snapshot_bytes == P * (4 if dtype == "float32" else 2)
    for row, (start, length, _) in enumerate(index.snapshots):
        stored = record.snapshots[row].to(getattr(torch, dtype))
        assert data[start : start + length] == stored.view(torch.uint8).numpy().tobytes()
        assert values(spec, data[start : start + length]).tolist() == record.snapshots[row].tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_rounded_as_torch_rounds_them(dtype):
    snapshots = torch.randn(4, P, generator=torch.Generator().manual_seed(0))
    data = encode(spec_of(dtype), replace(record_of(0), snapshots=snapshots))
    _, _, index = decode(data, "x")
    read = torch.stack([values(spec_of(dtype), data[a : a + n]) for a, n, _ in index.snapshots])
    assert torch.equal(read, snapshots.to(getattr(torch, dtype)).float())


def test_the_same_expert_is_the_same_bytes():
    spec = spec_of()
    same = replace(spec, network=dict(reversed(spec.network.items())), layout=[list(entry) for entry in LAYOUT])
    strided = replace(record_of(1), snapshots=record_of(1).snapshots.t().contiguous().t())
    assert encode(spec, record_of(1)) == encode(same, strided)
    assert encode(spec, record_of(1)) != encode(spec, replace(record_of(1), seed=4))


@pytest.mark.parametrize(
    "dtype, value", [("float32", math.nan), ("bfloat16", math.inf), ("float16", -math.inf), ("float16", 7e4)]
)
def test_numbers_that_cannot_be_stored_are_refused(dtype, value):
    record = record_of(4)
    record.snapshots[2, 5] = value
    with pytest.raises(TrajectoryError, match="expert 4, epoch 2.*experts.lr.*experts.dtype"):
        encode(spec_of(dtype), record)


@pytest.mark.parametrize(
    "record",
    [
        replace(record_of(0), snapshots=record_of(0).snapshots[:3]),
        replace(record_of(0), snapshots=record_of(0).snapshots[:, :-1]),
        replace(record_of(0), test_accuracy=[0.1]),
        replace(record_of(0), train_accuracy=[0.1] * 5),
    ],
    ids=["epochs", "parameters", "test", "train"],
)
def test_a_record_that_does_not_fit_its_spec_is_refused(record):
    with pytest.raises(ValueError, match="expert 0"):
        encode(spec_of(), record)


@pytest.mark.parametrize("change", [{"epochs": [0, 2, 1, 5]}, {"epochs": [0, 1, 1, 5]}, {"dtype": "float64"}])
def test_a_spec_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError, match="epochs|dtype"):
        encode(replace(spec_of(), **change), record_of(0))


def test_another_version_is_named():
    data = _rewritten({"stillhouse.format": "2"})
    with pytest.raises(TrajectoryError, match="place has format version 2; this program reads 1"):
        decode(data, "place")


@pytest.mark.parametrize(
    "change",
    [
        {"stillhouse.layout": '[["conv.weight",[2,4]]]'},
        {"stillhouse.layout": "7"},
        {"stillhouse.dtype": '"bfloat16"'},
        {"stillhouse.dtype": '"system"'},
        {"stillhouse.epochs": "[0,1]"},
        {"stillhouse.epochs": None},
        {"stillhouse.expert": None},
        {"stillhouse.seed": "{"},
        {"stillhouse.network": "[" * 100_000},
        {"stillhouse.more": "1"},
    ],
    ids=str,
)
def test_metadata_that_contradicts_the_data_is_refused(change):
    with pytest.raises(TrajectoryError, match="place.*delete it and train"):
        decode(_rewritten(change), "place")


def test_other_columns_and_rows_are_refused():
    spec = spec_of()
    schema = pa.ipc.open_file(pa.py_buffer(encode(spec, record_of(0)))).schema
    two = pa.array([[0.0] * P] * 2, schema.field("theta").type)
    compressed = pa.ipc.IpcWriteOptions(compression="zstd")
    one = pa.array([[0.0] * P], schema.field("theta").type)
    flat = pa.array([0.0])
    cases = [(two, None, "theta"), (one, compressed, "theta"), (one, None, "phi"), (flat, None, "theta")]
    for column, options, name in cases:
        named = pa.schema([pa.field(name, column.type, nullable=False)], metadata=schema.metadata)
        out = pa.BufferOutputStream()
        with pa.ipc.new_file(out, named, options=options) as file:
            for _ in range(4):
                file.write_batch(pa.record_batch([column], named))
        with pytest.raises(TrajectoryError, match="place is damaged"):
            decode(out.getvalue().to_pybytes(), "place")


def test_no_damage_is_read_as_the_original():
    """Every byte of a file is turned over, and the file is cut everywhere: refused, or seen in the SHA-256."""
    spec, data = spec_of(), encode(spec_of(), record_of(0))
    _, _, whole = decode(data, "x")
    refused = 0
    for at in range(len(data)):
        for damaged in (data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], data[:at]):
            try:
                found, _, index = decode(damaged, "x")
            except TrajectoryError:
                refused += 1
            else:
                assert index.sha256 != whole.sha256
    assert refused > len(data)
    assert spec == decode(data, "x")[0]


def _rewritten(change: dict[str, str | None]) -> bytes:
    """An expert's file of which some metadata is other, or gone."""
    file = pa.ipc.open_file(pa.py_buffer(encode(spec_of(), record_of(0))))
    metadata = {k.decode(): v.decode() for k, v in file.schema.metadata.items()} | change
    schema = file.schema.with_metadata({k: v for k, v in metadata.items() if v is not None})
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, schema) as copy:
        for i in range(file.num_record_batches):
            copy.write_batch(file.get_batch(i).replace_schema_metadata(schema.metadata))
    return out.getvalue().to_pybytes()


def test_an_expert_record_may_live_on_a_graph():
    """Snapshots straight from training may require gradients."""
    record = replace(record_of(0), snapshots=record_of(0).snapshots.requires_grad_())
    assert isinstance(record, ExpertRecord) and encode(spec_of(), record) == encode(spec_of(), record_of(0))
