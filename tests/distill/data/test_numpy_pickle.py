"""Pickles read as data: what CIFAR files need is read, and nothing in a hostile one runs."""

import pickle
import sys

import numpy as np
import pytest
from support.cifar_files import python_file

from distill.data.numpy_pickle import loads
from distill.errors import DataError

X = np.arange(2 * 12, dtype=np.uint8).reshape(2, 12)


class Call:
    """Pickles as a call of any function, the way attacks do."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_file_of_python_2():
    table = loads(python_file(batch_label="batch 1", labels=[6, 300], data=X, filenames=["a.png", "é"]), "f")
    assert list(table) == [b"batch_label", b"labels", b"data", b"filenames"]
    assert table[b"labels"] == [6, 300] and table[b"filenames"] == [b"a.png", b"\xe9"]
    assert table[b"data"].dtype == np.uint8 and np.array_equal(table[b"data"], X)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("array", [X, np.asfortranarray(X), X.astype(np.int64)])
def test_what_this_python_pickles(protocol, array):
    value = {b"data": array, "names": ["a", b"b"], "n": (1, None, True, 2.5, 2**40)}
    if protocol == 5 and array.flags.f_contiguous and not array.flags.c_contiguous:
        pytest.skip("a Fortran array is a call of another function there")
    try:
        read = loads(pickle.dumps(value, protocol), "f")
    except DataError as error:
        assert protocol == 5 and "name 'numpy" in str(error)  # arrays are a buffer there, which no CIFAR file has
        return
    assert np.array_equal(read[b"data"], array) and read[b"data"].dtype == array.dtype
    assert read["names"] == ["a", b"b"] and read["n"] == (1, None, True, 2.5, 2**40)


HOSTILE = {
    "os.system": (b"cos\nsystem\n(S'touch {mark}'\ntR.", "name 'os system'"),
    "builtins": (pickle.dumps({"a": Call(eval, "open('{mark}', 'w')")}, 2), "name '__builtin__ eval'"),
    "stack global": (pickle.dumps({"a": Call(eval, "open('{mark}', 'w')")}, 4), "name 'builtins eval'"),
    "codecs": (b"\x80\x02c_codecs\nlookup\nU\x03rot\x85R.", "name '_codecs lookup'"),
    "inst": (b"(S'touch {mark}'\nios\nsystem\n.", "instruction INST"),
    "obj": (b"(cnumpy\nndarray\nK\x01o.", "instruction OBJ"),
    "newobj": (b"\x80\x02cnumpy\nndarray\nK\x02\x85\x81.", "a call of numpy ndarray"),
    "ext": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "persistent": (b"\x80\x02U\x01aQ.", "instruction BINPERSID"),
    "buffer": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    "a call of ndarray": (b"\x80\x02cnumpy\nndarray\nK\x02\x85R.", "a call"),
    "a call of a value": (b"\x80\x02U\x01aK\x02\x85R.", "a call"),
    "a state for a dict": (b"\x80\x02}}b.", "a state"),
    "encoding": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "encoding 'rot13'"),
    "objects": (pickle.dumps({"a": np.array([{}, []], object)}, 2), "array type |O"),
    "floats": (pickle.dumps({"a": np.zeros(3)}, 2), "array type <f8"),
    "big-endian": (pickle.dumps({"a": np.zeros(3, ">i8")}, 2), "array type >i8"),
    "not a dict": (pickle.dumps([1, 2], 2), "something other than a dictionary"),
    "itself": (b"\x80\x02}q\x01U\x01ah\x01s.", None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_runs(name, tmp_path):
    data, message = HOSTILE[name]
    mark = tmp_path / "mark"
    before = set(sys.modules)
    if message is None:
        assert list(loads(data, "f")) == [b"a"]  # a dictionary within itself is read, not followed
        return
    with pytest.raises(DataError, match="f: .*") as error:
        loads(data.replace(b"{mark}", str(mark).encode()[:6]), "f")
    assert message in str(error.value)
    assert not mark.exists() and set(sys.modules) == before


def test_a_hostile_pickle_really_is_one(tmp_path):
    """The attack of the tests above works on Python's own reader; this is what is kept out."""
    mark = tmp_path / "mark"
    data = pickle.dumps({"a": Call(open, str(mark), "w")}, 2)
    with pytest.raises(DataError, match="name"):
        loads(data, "f")
    assert not mark.exists()
    pickle.loads(data)["a"].close()
    assert mark.exists()


@pytest.mark.parametrize("change", ["cut", "empty", "no stop", "shape", "short content", "no mark", "memo"])
def test_damaged_pickles(change):
    whole = python_file(data=X)
    damaged = {
        "cut": whole[:-10],
        "empty": b"",
        "no stop": whole[:-1],
        "shape": whole.replace(b"K\x02K\x0c\x86", b"K\x03K\x0c\x86"),
        "short content": whole.replace(b"K\x02K\x0c\x86", b"K\x02K\x0d\x86"),
        "no mark": b"\x80\x02}u.",
        "memo": b"\x80\x02h\x09.",
    }[change]
    with pytest.raises(DataError, match="f: (damaged pickle|the pickle ends early)"):
        loads(damaged, "f")
