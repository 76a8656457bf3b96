"""Reads pickles from other people as data: nothing in them is imported or called.

A pickle is a program for a small stack machine. Here the standard library's `pickletools`, which runs nothing, parses
its instructions, and those that write down plain data are followed by hand. A name of a class or function in a pickle
is looked up in a table of the caller and never anywhere else:

    TABLE = Table({"collections OrderedDict": dict, "torch FloatStorage": None}, source="generator")
    value = loads(data, TABLE, "stylegan.pkl")

Everything that is neither a plain instruction nor in the table is refused with a DataError. The work is bounded too:
the number of instructions, the bytes that calls make, the depth of the result, and what may be a key.
"""

import io
import pickletools
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distill.errors import DataError

MOST_INSTRUCTIONS = 3_000_000  # CIFAR-100 has 300,000; the emptiest value, a set of 216 bytes, comes to 650 MB
MOST_DEPTH = 100
NEWEST_PROTOCOL = 5

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
PYTHON_2_BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # the parser decodes them as Latin-1
DAMAGED = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error,
    DeprecationWarning,  # an invalid escape in a name, if warnings are errors
)  # fmt: skip
"""What the parser, the instructions and the table's functions raise for damaged bytes."""
KEYS = str | bytes | int | float | None


@dataclass(frozen=True)
class Table:
    """What a pickle may contain beside plain data."""

    names: Mapping[str, Callable[..., Any] | None]
    """"module name" -> what a call of it gives, a function of its arguments; None if it may only be an argument.

    An argument that is such a name arrives as a `Name`. What a later BUILD completes must be a `Stateful`.
    """
    source: str
    """What such pickles are, for messages: "CIFAR file"."""
    persistent: Callable[[Any], Any] | None = None
    """From a persistent id, which stands for what is stored outside the pickle, to its value; None refuses them."""


@dataclass(frozen=True)
class Name:
    """A class or function of the table, as "module name"."""

    name: str


class Stateful(ABC):
    """A value whose content follows its construction, as that of NumPy arrays and of most objects does."""

    @abstractmethod
    def set_state(self, state: Any) -> None:
        """The argument of BUILD, which objects get as their `__dict__` or in `__setstate__`."""


class Refusal(Exception):
    """Something that the table does not allow; handlers raise it too. `loads` turns it into a DataError."""


def loads(data: bytes | io.BytesIO, table: Table, where: str) -> Any:
    """The value of a pickle of protocol 0 to 5; a BytesIO is left behind its end, where another may begin.

    DataError, naming `where`, for what `table` does not allow and for damaged bytes.
    """
    machine = _Machine(table)
    try:
        for count, (instruction, argument, position) in enumerate(pickletools.genops(data)):
            if instruction.name == "STOP":
                return machine.result()
            if count >= MOST_INSTRUCTIONS:
                raise Refusal(f"more than {MOST_INSTRUCTIONS} instructions")
            machine.follow(instruction.name, argument, position)
    except Refusal as error:
        raise DataError(f"{where}: {error}, which no {table.source} has: fetch it again from its authors") from None
    except DAMAGED as error:
        raise DataError(f"{where}: damaged pickle ({str(error)[:200]}): fetch it again") from None
    raise DataError(f"{where}: the pickle ends early: fetch it again")


def quoted(value: Any) -> str:
    """A value of a pickle in an error message: a short text, or only its type, as what is nested may be endless."""
    return repr(value[:100]) if isinstance(value, str | bytes) else f"a {type(value).__name__}"


class _Machine:
    """A stack of values, the heights at which marks were set, and a memo."""

    def __init__(self, table: Table):
        self.table = table
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.made: dict[int, tuple[Any, list[Any]]] = {}  # what calls made, by id, and from what
        self.bytes_made = 0

    def follow(self, name: str, argument: Any, position: int) -> None:
        if name in LITERALS:
            self.stack.append(argument)
        elif name in PYTHON_2_BYTES:
            self.stack.append(argument.encode("latin1"))
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in ("REDUCE", "NEWOBJ"):
            self.call(position)
        elif name in INSTRUCTIONS:
            INSTRUCTIONS[name](self, argument)
        else:
            raise Refusal(f"instruction {name}")

    def result(self) -> Any:
        """The finished value, if its longest chain of values within values is no deeper than MOST_DEPTH."""
        heights: dict[int, int] = {}

        def height(value: Any, depth: int) -> int:
            if id(value) not in heights:
                heights[id(value)] = 0  # where a loop ends
                below = [height(part, depth + 1) + 1 for part in self.parts(value)] if depth < MOST_DEPTH else []
                heights[id(value)] = max(below, default=0)
            if depth + heights[id(value)] >= MOST_DEPTH:
                raise Refusal(f"values nested {MOST_DEPTH} deep")
            return heights[id(value)]

        value = self.stack.pop()
        height(value, 0)
        return value

    # ------------------------------------------------------------ names, calls, states

    def call(self, position: int) -> None:
        """What Python would call to make a value: a name of the table with its arguments."""
        arguments, called = self.stack.pop(), self.stack.pop()
        make = self.table.names[called.name] if isinstance(called, Name) else None
        if make is None:
            raise Refusal(f"a call of {called.name if isinstance(called, Name) else quoted(called)}")
        if not isinstance(arguments, tuple):
            raise Refusal(f"a call with {quoted(arguments)} for arguments")
        self.stack.append(self.keep(make(*arguments), list(arguments)))
        if isinstance(self.stack[-1], str | bytes):
            self.bytes_made += len(self.stack[-1])
            if self.bytes_made > position:  # a few bytes that name one long text again and again
                raise Refusal("calls that make more bytes than the pickle has")

    def build(self, argument: None) -> None:
        state, value = self.stack.pop(), self.stack[-1]
        if not isinstance(value, Stateful):
            raise Refusal(f"a state for {quoted(value)}")
        self.keep(value, [state])
        value.set_state(state)

    def persistent(self, argument: None) -> None:
        if self.table.persistent is None:
            raise Refusal("instruction BINPERSID")
        identity = self.stack.pop()
        self.stack.append(self.keep(self.table.persistent(identity), [identity]))

    def name(self, name: str) -> None:
        if name not in self.table.names:
            raise Refusal(f"name {quoted(name)}")
        self.stack.append(Name(name))

    def stack_name(self, argument: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Refusal(f"name {quoted(module)} {quoted(name)}")
        self.name(f"{module} {name}")

    def keep(self, value: Any, parts: list[Any]) -> Any:
        """The value, remembered with the parts that it may hold, which only its class knows."""
        self.made.setdefault(id(value), (value, []))[1].extend(parts)
        return value

    def parts(self, value: Any) -> Iterator[Any]:
        if isinstance(value, list | tuple | set | frozenset):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        if id(value) in self.made:
            yield from self.made[id(value)][1]

    # ------------------------------------------------------------ containers

    def since_mark(self) -> list[Any]:
        """Everything above the last mark, taken off with it."""
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise Refusal(f"{quoted(self.stack[-1])} filled like a {kind.__name__}")
        return self.stack[-1]

    def protocol(self, argument: int) -> None:
        if argument > NEWEST_PROTOCOL:
            raise Refusal(f"protocol {argument}")

    def mark(self, argument: None) -> None:
        self.marks.append(len(self.stack))

    def put(self, argument: int | None) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple([self.stack.pop() for _ in range(count)][::-1]))

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def add_items(self, values: list[Any]) -> None:
        self.top(set).update(_keys(values))

    def set_items(self, pairs: list[Any]) -> None:
        self.top(dict).update(zip(_keys(pairs[::2]), pairs[1::2], strict=True))

    def set_item(self, argument: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])


def _keys(values: list[Any]) -> list[Any]:
    """The values, if they are plain or tuples of plain ones: hashing a nested tuple may take for ever."""
    for value in values:
        for part in value if isinstance(value, tuple) else (value,):
            if not isinstance(part, KEYS):
                raise Refusal(f"{quoted(part)} as a key")
    return values


INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine.mark,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "BINPERSID": _Machine.persistent,
    "BUILD": _Machine.build,
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "FROZENSET": lambda machine, _: machine.stack.append(frozenset(_keys(machine.since_mark()))),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.since_mark()),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
}
