"""CIFAR's pickles: dictionaries of texts, numbers and NumPy arrays of integers (distill/safe_pickle.py reads them)."""

from typing import Any

import numpy as np

from distill.errors import DataError
from distill.safe_pickle import Name, Refusal, Stateful, Table, quoted
from distill.safe_pickle import loads as read_pickle

DTYPES = {"u1": np.uint8, "i4": np.int32, "i8": np.int64}


class DType(Stateful):
    """`numpy.dtype(code)`; its state has the byte order."""

    known = DTYPES

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        self.code = _text(code)
        self.value: np.dtype | None = None

    def set_state(self, state: tuple) -> None:
        order = _text(state[1])
        if self.code not in self.known or order not in ("|", "<", "="):
            raise Refusal(f"array type {order}{self.code}")
        self.value = np.dtype(self.known[self.code])


class Array(Stateful):
    """An array that `_reconstruct` begins; its state has its shape, type and content."""

    def __init__(self, kind: Name, shape: tuple, code: Any):
        self.value: np.ndarray | None = None

    def set_state(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(content, bytes) or not isinstance(dtype, DType) or dtype.value is None:
            raise Refusal("an array of objects")
        self.value = np.frombuffer(content, dtype.value).reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes into protocol 2 as Latin-1 text."""
    if encoding != "latin1":
        raise Refusal(f"encoding {quoted(encoding)}")
    return text.encode("latin1")


def _text(value: Any) -> str:
    """A short text of NumPy's, which Python 2 wrote as bytes."""
    if not isinstance(value, str | bytes):
        raise Refusal(f"{quoted(value)} for an array type")
    return value.decode("latin1")[:100] if isinstance(value, bytes) else value[:100]


NAMES = {
    "numpy.core.multiarray _reconstruct": Array,
    "numpy._core.multiarray _reconstruct": Array,
    "numpy ndarray": None,
    "numpy dtype": DType,
    "_codecs encode": _encode,
}
TABLE = Table(NAMES, source="CIFAR file")


def loads(data: bytes, where: str) -> dict:
    """The dictionary in a pickle, of lists, tuples, numbers, bytes, texts and NumPy arrays of integers.

    DataError, naming `where`, for any other instruction, name or type, and for damaged bytes.
    """
    table = read_pickle(data, TABLE, where)
    if not isinstance(table, dict):
        raise DataError(f"{where}: something other than a dictionary, which no CIFAR file has: fetch it again")
    return {key: value.value if isinstance(value, Array) else value for key, value in table.items()}
