"""Pickles read by a table: what published generators are written with is read, and nothing else, in bounded work."""

import collections
import io
import pickle
import pickletools
import random
import sys
import types
import zipfile

import pytest
import torch

from distill.errors import DataError
from distill.safe_pickle import MOST_DEPTH, Name, Refusal, Stateful, Table, loads

NOTHING = Table({}, "test file")
DICTIONARIES = Table({"collections OrderedDict": dict}, "test file")


class Module(Stateful):
    """A network's module as data: its attributes."""

    def __init__(self, meta: dict | None = None):
        self.state = meta and meta["state"]

    def set_state(self, state: dict) -> None:
        self.state = state


def tensors_of(archive: bytes) -> tuple[bytes, Table]:
    """The pickle of a file of torch.save, and a table that reads it with the storages beside it."""
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        folder = files.namelist()[0].partition("/")[0]
        content = {name.removeprefix(f"{folder}/"): files.read(name) for name in files.namelist()}

    def storage(identity: tuple) -> torch.Tensor:
        kind, storage_type, key, _, _ = identity
        if kind != "storage" or storage_type != Name("torch FloatStorage"):
            raise Refusal("another storage")
        return torch.frombuffer(bytearray(content[f"data/{key}"]), dtype=torch.float32)

    def tensor(storage, offset, size, stride, requires_grad, hooks) -> torch.Tensor:
        return storage.as_strided(size, stride, offset)

    names = {"torch._utils _rebuild_tensor_v2": tensor, "torch FloatStorage": None, "collections OrderedDict": dict}
    return content["data.pkl"], Table(names, "generator", persistent=storage)


def test_an_ordered_dict_of_tensors_with_their_storages_outside():
    state = collections.OrderedDict(weight=torch.randn(3, 4).T, bias=torch.arange(3.0))
    out = io.BytesIO()
    torch.save(state, out)
    data, table = tensors_of(out.getvalue())
    read = loads(data, table, "g.pkl")
    assert type(read) is dict and list(read) == ["weight", "bias"]
    assert all(torch.equal(read[name], state[name]) for name in state)
    with pytest.raises(DataError, match="g.pkl: .*instruction BINPERSID, which no generator has"):
        loads(data, Table(table.names, "generator"), "g.pkl")
    with pytest.raises(DataError, match="name 'torch._utils _rebuild_tensor_v2', which no test file has"):
        loads(data, Table(DICTIONARIES.names | {"torch FloatStorage": None}, "test file", table.persistent), "g.pkl")
    out = io.BytesIO()
    torch.save(state | {"step": torch.arange(3)}, out)
    with pytest.raises(DataError, match="name 'torch LongStorage'"):
        loads(tensors_of(out.getvalue())[0], table, "g.pkl")


def test_a_persistent_object_as_nvidia_publishes_them(monkeypatch):
    """Its source code, which NVIDIA's own loader runs, is a text in a dictionary here."""
    package, persistence = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("called")

    class Generator:
        def __reduce__(self):
            meta = {"type": "class", "module_src": "raise SystemExit", "class_name": "G", "state": {"z_dim": 64}}
            return _reconstruct_persistent_obj, (meta,)

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", package)
        patch.setitem(sys.modules, "torch_utils.persistence", persistence)
        pickles = [pickle.dumps({"G_ema": Generator()}, protocol) for protocol in range(2, 6)]
    table = Table({"torch_utils.persistence _reconstruct_persistent_obj": Module}, "generator")
    for data in pickles:
        assert loads(data, table, "g.pkl")["G_ema"].state == {"z_dim": 64}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_objects_made_by_their_class_and_completed_by_their_state(protocol):
    value = Point()
    value.x = {"y": [1, 2]}
    table = Table({f"{__name__} Point": Module}, "test file")
    assert loads(pickle.dumps(value, protocol), table, "f").state == {"x": {"y": [1, 2]}}


class Point:
    pass


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_need_no_names(protocol):
    value = {"a": [1, 2.5, None, True, -(2**70)], (1, "b"): (), 3: ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}
    assert loads(pickle.dumps(value, protocol), NOTHING, "f") == value
    if protocol > 3:  # before, sets are calls
        sets = {"s": {1, 2, "x"}, "f": frozenset("ab"), "b": b"x" * 300}
        assert loads(pickle.dumps(sets, protocol), NOTHING, "f") == sets


def test_pickles_behind_one_another_in_a_stream():
    stream = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps([2], 4) + b"raw")
    assert [loads(stream, NOTHING, "f"), loads(stream, NOTHING, "f"), stream.read()] == [[1], [2], b"raw"]


def nested(times: int, opening: bytes = b")", each: bytes = b"\x85") -> bytes:
    """Tuples within tuples, written without a tall stack."""
    return b"\x80\x02" + opening + each * times + b"."


def bomb(levels: int) -> bytes:
    """A tuple of two that are the same tuple of two, ...: 2**levels to whoever follows all of it."""
    return b"".join(b"q%ch%c\x86" % (i, i) for i in range(levels))


HOSTILE = {
    "a call of os.system": (b"cos\nsystem\n(S'true'\ntR.", "name 'os system'"),
    "a call of a value": (b"\x80\x02]K\x02\x85R.", "a call of a list"),
    "a call of what the table calls nothing": (b"\x80\x02ca\nb\n)R.", "a call of a b"),
    "arguments that are a list": (b"\x80\x02ccollections\nOrderedDict\n]R.", "a call with a list for arguments"),
    "a list within the arguments": (b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "damaged pickle"),
    "a state for a list": (b"\x80\x02]}b.", "a state for a list"),
    "a dict filled like a list": (b"\x80\x02}K\x01a.", "a dict filled like a list"),
    "a name filled like a dict": (b"\x80\x02ca\nb\nK\x01K\x01s.", "a Name filled like a dict"),
    "a name that is a number": (b"\x80\x04K\x01\x8c\x01b\x93.", "name a int 'b'"),
    "a name that is a bomb": (b"\x80\x04)" + bomb(60) + b"\x8c\x01b\x93.", "name a tuple 'b'"),
    "a name of many letters": (b"c" + b"a" * 9999 + b"\nb\n.", "name 'aaaa"),
    "a key that is a bomb": (b"\x80\x02})" + bomb(60) + b"K\x01s.", "a tuple as a key"),
    "a member that is a bomb": (b"\x80\x04\x8f()" + bomb(60) + b"\x90.", "a tuple as a key"),
    "a frozen bomb": (b"\x80\x04()" + bomb(60) + b"\x91.", "a tuple as a key"),
    "a list as a key": (b"\x80\x02}]K\x01s.", "a list as a key"),
    "deep tuples": (nested(100_000), f"values nested {MOST_DEPTH} deep"),
    "deep lists": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", f"values nested {MOST_DEPTH} deep"),
    "deep calls": (
        b"\x80\x02N" + b"q\x00cm\nM\nh\x00\x85R" * 5000 + b".", f"values nested {MOST_DEPTH} deep"
    ),
    "deep states": (
        b"\x80\x02N" + b"q\x00cm\nM\n)Rh\x00b" * 5000 + b".", f"values nested {MOST_DEPTH} deep"
    ),
    "one text encoded again and again": (
        b"\x80\x02(X\xe8\x03\x00\x00" + b"a" * 1000 + b"q\x00cm\nencode\nq\x01" + b"h\x01h\x00\x85R" * 500 + b"t.",
        "calls that make more bytes than the pickle has",
    ),
    "a protocol to come": (b"\x80\x06N.", "protocol 6"),
    "a class by number": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "a buffer": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_quickly(name):
    data, message = HOSTILE[name]
    names = {"collections OrderedDict": lambda: {}, "a b": None, "m M": Nested, "m encode": str.encode}
    before = set(sys.modules)
    with pytest.raises(DataError, match="f: ") as error:
        loads(data, Table(names, "test file"), "f")
    assert message in str(error.value) and len(str(error.value)) < 400
    assert set(sys.modules) == before


class Nested(Module):
    def __init__(self, of=None):
        self.state = of


def test_a_bomb_of_references_is_read_as_the_few_values_it_has():
    value = loads(b"\x80\x02)" + bomb(60) + b".", NOTHING, "f")
    for _ in range(60):
        assert value[0] is value[1]
        value = value[0]
    assert value == ()


LENGTHS = {
    "bytes": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f",
    "more bytes than a machine has": b"\x80\x04\x8e" + b"\xff" * 8,
    "text": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f",
    "short text": b"\x80\x02X\xff\xff\xff\xff",
    "number": b"\x80\x02\x8b\xff\xff\xff\x7f",
    "negative": b"\x80\x02T\xff\xff\xff\xff",
    "digits": b"L" + b"9" * 100_000 + b"L\n.",
    "frame": b"\x80\x04\x95" + b"\xff" * 8 + b"N",
    "memo": b"\x80\x02h\xff.",
}


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_that_are_not_there(name):
    with pytest.raises(DataError, match="f: (damaged pickle|the pickle ends early)"):
        loads(LENGTHS[name], NOTHING, "f")


def test_a_number_as_large_as_a_file_is_refused_by_what_uses_it():
    def size(n: int) -> bytes:
        return bytes(n)

    huge = pickle.dumps(2**100, 2)[2:-1]
    with pytest.raises(DataError, match="damaged pickle .*cannot fit"):
        loads(b"\x80\x02cm\nsize\n" + huge + b"\x85R.", Table({"m size": size}, "test file"), "f")


def test_more_instructions_than_any_file_has(monkeypatch):
    monkeypatch.setattr("distill.safe_pickle.MOST_INSTRUCTIONS", 1000)
    assert len(loads(b"\x80\x04(" + b"\x8f" * 990 + b"t.", NOTHING, "f")) == 990
    with pytest.raises(DataError, match="more than 1000 instructions"):
        loads(b"\x80\x04(" + b"\x8f" * 1000 + b"t.", NOTHING, "f")


def test_damaged_bytes_give_a_value_or_a_data_error():
    names = {"collections OrderedDict": lambda *_: {}, "m M": Nested, "builtins set": lambda members: set()}
    table = Table(names, "test file", persistent=lambda identity: identity)
    value = {"a": [1, 2.5, None, (1, 2, (3,))], b"b": {1, 2}, "o": collections.OrderedDict(a="x" * 50), 3: -(2**70)}
    whole = [pickle.dumps(value, protocol) for protocol in range(2, 6)] + [b"\x80\x02cm\nM\n)R}b."]
    codes = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
    draw, refused = random.Random(0), 0
    for _ in range(5000):
        data = bytearray(draw.choice(whole))
        for _ in range(draw.randint(1, 5)):
            at, other = draw.randrange(len(data)), draw.randrange(len(data))
            change = [bytes([draw.randrange(256)]), draw.choice(codes), data[other : other + 20], b""]
            data[at : at + draw.randint(0, 3)] = draw.choice(change)
            data = data or bytearray(b".")
        try:
            loads(bytes(data), table, "f")
        except DataError:
            refused += 1
    assert 4000 < refused < 5000


def test_a_memo_index_takes_no_room():
    assert loads(b"\x80\x02Nr\xff\xff\xff\xff.", NOTHING, "f") is None


@pytest.mark.parametrize("levels, refused", [(MOST_DEPTH - 1, False), (MOST_DEPTH, True)])
def test_depth_is_counted_along_the_longest_path(levels, refused):
    """Half the levels are reachable by a short path too, which is looked at first."""
    half = levels // 2
    data = b"(" + b")" + b"\x85" * half + b"q\x00h\x00" + b"\x85" * (levels - half - 1) + b"t."
    if refused:
        with pytest.raises(DataError, match=f"values nested {MOST_DEPTH} deep"):
            loads(data, NOTHING, "f")
    else:
        assert len(loads(data, NOTHING, "f")) == 2


def test_a_list_within_itself_is_read_once():
    value = loads(b"\x80\x02]q\x00h\x00a.", NOTHING, "f")
    assert value[0] is value
