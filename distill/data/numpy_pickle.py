"""Reads the one kind of pickle this project meets, dictionaries of texts, numbers and NumPy arrays, as data.

A pickle is a program for a small machine. Here its instructions are parsed by the standard library's `pickletools`,
which runs nothing, and those needed to write down containers and arrays are followed by hand. Nothing is imported and
nothing is called: the three names that arrays are written with only mark what their arguments mean. Every other
instruction and every other name is refused.
"""

import pickletools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DataError

CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
LITERALS = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # Python 2's bytes, which the parser gives as Latin-1
NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
DTYPES = {"u1": np.uint8, "i4": np.int32, "i8": np.int64}


@dataclass
class Name:
    """A name of NAMES on the stack."""

    means: str


@dataclass
class Array:
    """An array or a dtype that has been begun; BUILD gives it its content."""

    of: str
    value: Any = None


def loads(data: bytes, where: str) -> dict:
    """The dictionary in a pickle, of lists, tuples, numbers, bytes, texts and NumPy arrays of integers.

    DataError, naming `where`, for any other instruction, name or type, and for damaged bytes.
    """
    reader = _Reader()
    try:
        for instruction, argument, _ in pickletools.genops(data):
            if instruction.name == "STOP":
                return _finished(reader.stack.pop())
            reader.follow(instruction.name, argument)
    except Refusal as error:
        raise DataError(f"{where}: {error}, which no CIFAR file has: fetch the archive again") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise DataError(f"{where}: damaged pickle ({error}): fetch the archive again") from None
    raise DataError(f"{where}: the pickle ends early: fetch the archive again")


class Refusal(Exception):
    """An instruction, name or type that is not on the lists."""


class _Reader:
    """The machine: a stack of values, the heights at which marks were set, and a memo."""

    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def follow(self, name: str, argument: Any) -> None:
        if name in LITERALS:
            self.stack.append(argument)
        elif name in TEXTS:
            self.stack.append(argument.encode("latin1"))
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name not in HANDLERS:
            raise Refusal(f"instruction {name}")
        else:
            HANDLERS[name](self, argument)

    def since_mark(self) -> list[Any]:
        """Everything above the last mark, taken off with it."""
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def nothing(self, argument: Any) -> None: ...

    def mark(self, argument: Any) -> None:
        self.marks.append(len(self.stack))

    def put(self, argument: int | None) -> None:
        self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]

    def get(self, argument: int) -> None:
        self.stack.append(self.memo[int(argument)])

    def name(self, argument: str) -> None:
        if argument not in NAMES:
            raise Refusal(f"name {argument!r}")
        self.stack.append(Name(NAMES[argument]))

    def stack_name(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(f"{module} {name}")

    def empty(self, kind: type) -> None:
        self.stack.append(kind())

    def tuple_of(self, count: int | None) -> None:
        values = self.since_mark() if count is None else [self.stack.pop() for _ in range(count)][::-1]
        self.stack.append(tuple(values))

    def append(self, argument: Any) -> None:
        value = self.stack.pop()
        self.stack[-1].append(value)

    def appends(self, argument: Any) -> None:
        values = self.since_mark()
        self.stack[-1].extend(values)

    def set_items(self, pairs: list[Any]) -> None:
        self.stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def set_item(self, argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def reduce(self, argument: Any) -> None:
        """What Python would call: one of the marked names with its arguments."""
        arguments, named = self.stack.pop(), self.stack.pop()
        if not isinstance(named, Name) or named.means not in ("array", "dtype", "encode"):
            raise Refusal("a call")
        if named.means == "encode":  # Python 3 writes bytes into protocol 2 as Latin-1 text
            text, encoding = arguments
            if encoding != "latin1":
                raise Refusal(f"encoding {encoding!r}")
            self.stack.append(text.encode("latin1"))
        else:
            self.stack.append(Array(named.means, arguments[0] if named.means == "dtype" else None))

    def build(self, argument: Any) -> None:
        """The content of an array or a dtype that was begun."""
        state, begun = self.stack.pop(), self.stack[-1]
        if not isinstance(begun, Array):
            raise Refusal("a state")
        if begun.of == "dtype":
            begun.value = _dtype(begun.value, state)
        else:
            begun.value = _array(*state)


def _dtype(code: bytes | str, state: tuple) -> np.dtype:
    code = code.decode("latin1") if isinstance(code, bytes) else code
    order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
    if code not in DTYPES or order not in ("|", "<", "="):
        raise Refusal(f"array type {order}{code}")
    return np.dtype(DTYPES[code])


def _array(version: int, shape: tuple, dtype: Array, fortran: bool, content: bytes) -> np.ndarray:
    if not isinstance(content, bytes) or not isinstance(dtype, Array) or dtype.of != "dtype":
        raise Refusal("an array of objects")
    return np.frombuffer(content, dtype.value).reshape(shape, order="F" if fortran else "C")


def _finished(value: Any) -> dict:
    """The dictionary with its arrays in place."""
    if not isinstance(value, dict):
        raise Refusal("something other than a dictionary")
    return {key: item.value if isinstance(item, Array) else item for key, item in value.items()}


HANDLERS = {
    "PROTO": _Reader.nothing,
    "FRAME": _Reader.nothing,
    "MARK": _Reader.mark,
    "PUT": _Reader.put,
    "BINPUT": _Reader.put,
    "LONG_BINPUT": _Reader.put,
    "MEMOIZE": _Reader.put,
    "GET": _Reader.get,
    "BINGET": _Reader.get,
    "LONG_BINGET": _Reader.get,
    "GLOBAL": _Reader.name,
    "STACK_GLOBAL": _Reader.stack_name,
    "EMPTY_DICT": lambda reader, _: reader.empty(dict),
    "EMPTY_LIST": lambda reader, _: reader.empty(list),
    "EMPTY_TUPLE": lambda reader, _: reader.tuple_of(0),
    "TUPLE": lambda reader, _: reader.tuple_of(None),
    "TUPLE1": lambda reader, _: reader.tuple_of(1),
    "TUPLE2": lambda reader, _: reader.tuple_of(2),
    "TUPLE3": lambda reader, _: reader.tuple_of(3),
    "APPEND": _Reader.append,
    "APPENDS": _Reader.appends,
    "SETITEM": _Reader.set_item,
    "SETITEMS": lambda reader, _: reader.set_items(reader.since_mark()),
    "REDUCE": _Reader.reduce,
    "BUILD": _Reader.build,
}
