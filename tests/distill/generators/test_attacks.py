"""Hostile files in place of published generators: each is refused with a DataError, and none runs or fills memory.

Those marked as live do run in Python's own unpickler, which is tried first.
"""

import io
import os
import pickle
import random
import struct
import sys

import pytest
import torch
from support.nvidia_pickles import _reconstruct_persistent_obj, module, snapshot, stylegan3, their_modules

from distill.errors import DataError
from distill.generators import load_generator
from distill.nets.stylegan_xl import StyleGANXL, plan


class Calls:
    """An object that is pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def their() -> StyleGANXL:
    return stylegan3(StyleGANXL(plan(8, 3, 32, 3), 3, 6, 4, 2, 5, generator=torch.Generator().manual_seed(0)))


def touch(canary) -> str:
    return f"touch {canary}"


def writes(canary) -> str:
    return f"open({str(canary)!r}, 'w').close()"


def parts(g_ema, canary) -> bytes:
    return snapshot(g_ema, canary)


def in_the_state(value, canary) -> bytes:
    generator = their()
    generator._modules["mapping"].__dict__["extra"] = value
    return snapshot(generator, canary)


LIVE = {
    "os.system": lambda c: parts(Calls(os.system, touch(c)), c),
    "os.system in the state of a module": lambda c: in_the_state(Calls(os.system, touch(c)), c),
    "os.system as a key": lambda c: pickle.dumps({Calls(os.system, touch(c)): 1}),
    "exec": lambda c: parts(Calls(exec, writes(c)), c),
    "eval": lambda c: parts(Calls(eval, writes(c)), c),
    "open": lambda c: parts(Calls(open, str(c), "w"), c),
    "getattr of a module": lambda c: _getattr(c),
    "a name with dots": lambda c: b"\x80\x04\x8c\x02os\x8c\x06system\x93" + _text(touch(c)) + b"\x85R.",
    "a name within torch": lambda c: _within_torch(c),
    "INST": lambda c: b"(" + b"S" + repr(touch(c)).encode() + b"\nios\nsystem\n.",
    "OBJ": lambda c: b"\x80\x02(cos\nsystem\n" + _text(touch(c)) + b"o.",
    "code in a storage": lambda c: in_the_state(_Storage(_legacy(Calls(os.system, touch(c)))), c),
    "code in a storage's magic number": lambda c: in_the_state(_Storage(pickle.dumps(Calls(os.system, touch(c)))), c),
    "code behind the parts": lambda c: pickle.dumps(_Twice(touch(c))),
    "a persistent object's source": lambda c: _source_runs(c),
}


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _getattr(canary) -> bytes:
    """getattr(os, "system"), from the module that the import of a name gives."""
    inner = b"cbuiltins\ngetattr\ncbuiltins\n__import__\n" + _text("os") + b"\x85R" + _text("system") + b"\x86R"
    return b"\x80\x02" + inner + _text(touch(canary)) + b"\x85R."


def _within_torch(canary) -> bytes:
    """torch.nn.modules.module.torch.os.system is os.system, and its name begins as a discriminator's modules do."""
    name = b"\x8c\x17torch.nn.modules.module\x8c\x0ftorch.os.system\x93"
    return b"\x80\x04" + name + _text(touch(canary)) + b"\x85R."


class _Twice:
    """A dictionary of parts whose unneeded value is a call."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return dict, ((("G_ema", Calls(os.system, self.command)),),)


def _source_runs(canary) -> bytes:
    return snapshot(module("Generator"), canary)


class _Storage:
    def __init__(self, content: bytes):
        self.content = content

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.content,)


def _legacy(value, count: int = 2, data: bytes = bytes(8), length: int | None = None, key: str = "k") -> bytes:
    """The oldest format of torch.save around any value."""
    out = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        pickle.dump(part, out, 2)
    if isinstance(value, bytes):
        out.write(value)
    else:
        pickle.dump(value, out, 2)
    pickle.dump([key], out, 2)
    out.write(struct.pack("<q", count if length is None else length) + data)
    return out.getvalue()


def _named(kind: str = "torch\nFloatStorage", count: int = 2) -> bytes:
    """The pickle of a storage's persistent id."""
    number = pickle.dumps(count, 2)[2:-1]
    return b"\x80\x02(" + _text("storage") + f"c{kind}\n".encode() + _text("k") + _text("cpu") + number + b"NtQ."


def _tensor(size, stride, offset=0, storage=None) -> bytes:
    """A snapshot whose only value is a tensor."""
    content = storage or _legacy(_named())
    return _dumped(Calls(torch._utils._rebuild_tensor_v2, _Storage(content), offset, size, stride, False, {}))


def _dumped(value) -> bytes:
    with their_modules():
        return pickle.dumps({"G_ema": value}, 4)


def _loop(canary) -> bytes:
    generator = their()
    mapping = generator._modules["mapping"]
    inner = torch.nn.ModuleList()
    inner._modules["again"] = inner
    mapping._modules["loop"] = inner
    return snapshot(generator, canary)


def _many_paths(canary) -> bytes:
    generator, inner = their(), torch.nn.Module()
    for _ in range(15):
        outer = torch.nn.Module()
        outer._modules |= {"a": inner, "b": inner}
        inner = outer
    generator._modules["mapping"]._modules["paths"] = inner
    return snapshot(generator, canary)


def _bytes_again(canary) -> bytes:
    content = _legacy(_named(count=250_000), 250_000, bytes(1_000_000))
    one = b"ctorch.storage\n_load_from_bytes\nq\x00B" + struct.pack("<I", len(content)) + content + b"q\x01\x85R"
    return b"\x80\x03(" + one + b"h\x00h\x01\x85R" * 100 + b"t."


QUIET = {
    "a storage longer than the file": lambda c: _dumped(_Storage(_legacy(_named(count=2**40), 2**40))),
    "a storage of negative length": lambda c: _dumped(_Storage(_legacy(_named(count=-2), -2))),
    "a storage of two lengths": lambda c: _dumped(_Storage(_legacy(_named(), length=3))),
    "a storage with bytes behind it": lambda c: _dumped(_Storage(_legacy(_named(), data=bytes(80)))),
    "a storage under another key": lambda c: _dumped(_Storage(_legacy(_named(), key="other"))),
    "a storage of objects": lambda c: _dumped(_Storage(_legacy(_named("builtins\nobject")))),
    "a storage within a storage": lambda c: _dumped(_Storage(_legacy(_Storage(b"")))),
    "a storage that is a text": lambda c: _dumped(_Storage("text")),
    "an empty storage": lambda c: _dumped(_Storage(b"")),
    "one storage made 100 times": _bytes_again,
    "a tensor larger than its storage": lambda c: _tensor((3,), (1,)),
    "a value repeated to a huge tensor": lambda c: _tensor((10**12,), (0,)),
    "a tensor that steps out": lambda c: _tensor((2,), (2**40,)),
    "a tensor before its storage": lambda c: _tensor((1,), (1,), -1),
    "a negative stride": lambda c: _tensor((2,), (-1,), 1),
    "a negative size": lambda c: _tensor((-1,), (1,)),
    "a size that overflows": lambda c: _tensor((2**62, 2**62), (0, 0)),
    "a tensor of many dimensions": lambda c: _tensor((1,) * 100, (1,) * 100),
    "strides for other dimensions": lambda c: _tensor((1, 1), (1,)),
    "a tensor of nothing": lambda c: _dumped(Calls(torch._utils._rebuild_tensor_v2, 1, 0, (1,), (1,), False, {})),
    "modules within themselves": _loop,
    "two to the fifteen paths": _many_paths,
    "deep values": lambda c: b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".",
    "a bomb of references as a key": lambda c: b"\x80\x02})" + b"".join(
        b"q%ch%c\x86" % (i, i) for i in range(60)) + b"K\x01s.",
    "a persistent object without a state": lambda c: _persistent({"type": "class", "version": 6}),
    "a persistent object of another version": lambda c: _persistent({"type": "class", "version": 7, "state": {}}),
    "a persistent function": lambda c: _persistent({"type": "function", "version": 6}),
    "a persistent list": lambda c: _persistent([1]),
    "NEWOBJ_EX": lambda c: b"\x80\x04csubprocess\nPopen\n(](" + _text("touch") + _text(str(c)) + b"et}\x92.",
    "dill's functions": lambda c: b"\x80\x03cdill._dill\n_create_function\n.",
    "dill's code": lambda c: b"\x80\x03cdill._dill\n_create_code\n.",
    "dill's array by another function": lambda c: b"\x80\x03cdill._dill\n_create_array\n(ctorch\nSize\n)NNtR.",
    "a class called as another": lambda c: b"\x80\x03cdill._dill\n_load_type\nX\x04\x00\x00\x00type\x85R)R.",
    "torch.load": lambda c: b"\x80\x03ctorch\nload\n.",
    "a hub": lambda c: b"\x80\x03ctorch.hub\nload\n.",
}  # fmt: skip


def _persistent(meta) -> bytes:
    return _dumped(Calls(_reconstruct_persistent_obj, meta))


@pytest.mark.parametrize("name", LIVE)
def test_live_attacks_are_refused_and_never_run(name, tmp_path):
    canary = tmp_path / "canary"
    data = LIVE[name](canary)
    assert not canary.exists()
    with their_modules():
        try:
            value = pickle.loads(data)
            getattr(value, "wait", lambda: None)()  # for a process
        except Exception:  # what it runs is tried before it fails
            pass
    assert canary.exists()  # it is live
    canary.unlink()
    refused(data, tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("name", QUIET)
def test_other_attacks_are_refused(name, tmp_path):
    message = refused(QUIET[name](tmp_path / "canary"), tmp_path)
    assert "G_ema" not in message and "not the parts" not in message  # not because of what is missing in them
    assert not (tmp_path / "canary").exists()


def refused(data: bytes, tmp_path) -> str:
    path, before = tmp_path / "attack.pkl", set(sys.modules)
    path.write_bytes(data)
    with pytest.raises(DataError, match="attack.pkl: ") as error:
        load_generator(path)
    assert len(str(error.value)) < 600 and set(sys.modules) == before
    return str(error.value)


def test_damaged_files_give_a_generator_or_a_data_error(tmp_path):
    whole, draw, refusals = snapshot(their(), tmp_path / "canary"), random.Random(0), 0
    path = tmp_path / "g.pkl"
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            data[at : at + draw.choice([1, 1, 1, 2])] = bytes([draw.randrange(256)])
        path.write_bytes(data)
        try:
            load_generator(path)
        except DataError:
            refusals += 1
    assert refusals > 5
    path.write_bytes(whole.replace(b"open(", b"0pen("))  # in the source that nobody runs: read all the same
    load_generator(path)
    assert not (tmp_path / "canary").exists()
