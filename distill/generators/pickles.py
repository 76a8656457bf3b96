"""Pickles of NVIDIA's generators as data: dictionaries of tensors, and the arguments that each module was made with.

    parts = read_pickle(data, "ffhq.pkl")                     # {"G": Part, "D": Part, "G_ema": Part, ...}
    parts["G_ema"].kind                                       # "Generator"
    parts["G_ema"].tensors()                                  # {"mapping.w_avg": (512,), ...}

NVIDIA's `torch_utils.persistence` writes the source code of each module into the pickle and runs it on loading. Here
it is a text that is dropped. Tensors are written as pickles of their own, in the oldest format of torch.save, within
the bytes of the outer one; both are read by distill/safe_pickle.py, from the tables below.
"""

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.data import numpy_pickle
from distill.errors import DataError
from distill.safe_pickle import Name, Refusal, Stateful, Table, loads, quoted

SOURCE = "published generator"
MOST_MODULES, MOST_NESTED, MOST_TENSORS, MOST_LETTERS = 10_000, 20, 100_000, 100
MOST_NUMBER = 1e9
MOST_TENSOR_DIMS = 8
PERSISTENCE_VERSION = 6
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""How the oldest format of torch.save begins."""
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
INERT = ("torch.nn.", "torch.fft ", "torchvision.", "timm.", "pg_modules.", "feature_networks.", "training.")
"""Modules of discriminators, whose classes become Parts that hold their state and can do nothing."""


class Part(Stateful):
    """A module in a pickle: the name of its class, and its attributes."""

    def __init__(self, kind: str, state: dict | None = None):
        self.kind, self.state = kind, state or {}

    def set_state(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def parts(self) -> dict[str, "Part"]:
        """The modules directly within it."""
        return self._of_kind("_modules", Part)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers by their name, as in a state dict. DataError if there are too many."""
        tensors = {}
        for path, part in self._walk():
            for group in ("_parameters", "_buffers"):
                tensors |= {f"{path}{name}": tensor for name, tensor in part._of_kind(group, Tensor).items()}
            if len(tensors) > MOST_TENSORS:
                raise DataError(f"a {SOURCE} with more than {MOST_TENSORS} tensors: fetch it again from its authors")
        return tensors

    def _of_kind(self, group: str, kind: type) -> dict[str, Any]:
        named = self.state.get(group)
        named = named if isinstance(named, dict) else {}
        return {k: v for k, v in named.items() if isinstance(k, str) and len(k) < MOST_LETTERS and isinstance(v, kind)}

    def _walk(self) -> Iterator[tuple[str, "Part"]]:
        """("a.b.", part) for itself and all modules within. They may contain each other in a hostile file."""
        waiting, seen = [("", self, 0)], 0
        while waiting:
            path, part, depth = waiting.pop()
            yield path, part
            below, seen = part.parts(), seen + 1
            if depth == MOST_NESTED or seen + len(waiting) + len(below) > MOST_MODULES:
                raise DataError(f"a {SOURCE} with modules without end: fetch it again from its authors")
            waiting.extend((f"{path}{name}.", inner, depth + 1) for name, inner in below.items())

    def number(self, name: str, default: float | None = None) -> float:
        """An attribute that is a number, or an array of equal ones. DataError if it is none."""
        value = self.state.get(name, default)
        value = value.value.flat[0].item() if isinstance(value, numpy_pickle.Array) and value.value.size else value
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if not isinstance(value, int | float) or not abs(value) < MOST_NUMBER:  # also NaN
            raise DataError(f"the {self.kind[:MOST_LETTERS]} of this generator has no number {name!r}: fetch it again")
        return value


def read_pickle(data: bytes, where: str) -> dict[str, Any]:
    """The parts of a snapshot by name. DataError, naming `where`, for what no published generator contains."""
    reader = _Reader(len(data))
    parts = loads(data, Table(reader.names(), SOURCE), where)
    if not isinstance(parts, dict):
        raise DataError(f"{where}: holds {quoted(parts)}, not the parts of a generator by name: fetch it again")
    return {str(name): part for name, part in parts.items()}


class _DType(numpy_pickle.DType):
    known = numpy_pickle.DTYPES | {
        "i2": np.int16, "f2": np.float16, "f4": np.float32, "f8": np.float64, "b1": np.bool_, "i1": np.int8,
    }  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """The values of a tensor, in one dimension."""

    values: Tensor


class _Names(Mapping):
    """The table, and for whatever begins with one of INERT a class that does nothing."""

    def __init__(self, known: dict[str, Callable[..., Any] | None]):
        self.known = known

    def __contains__(self, name: object) -> bool:
        return name in self.known or str(name).startswith(INERT)

    def __getitem__(self, name: str) -> Callable[..., Any] | None:
        return self.known[name] if name in self.known else lambda *arguments: Part(name.rpartition(" ")[2])

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


class _Reader:
    """The functions of the table, and how many bytes storages may still have: all of them are in the file."""

    def __init__(self, most_bytes: int):
        self.bytes_left = most_bytes

    def names(self) -> _Names:
        dtypes = {f"torch {str(dtype).removeprefix('torch.')}": None for dtype in STORAGES.values()}
        numpy = numpy_pickle.NAMES | {
            "numpy dtype": _DType,
            "numpy.core.multiarray scalar": _scalar,
            "numpy._core.multiarray scalar": _scalar,
            "dill._dill _create_array": _dill_array,  # StyleGAN-XL writes with dill
            "dill._dill _load_type": _dill_type,
        }
        return _Names(
            dtypes | numpy | {
                "torch_utils.persistence _reconstruct_persistent_obj": _persistent,
                "dnnlib.util EasyDict": _empty,
                "dnnlib EasyDict": _empty,
                "collections OrderedDict": _empty,
                "builtins set": _set,
                "__builtin__ set": _set,
                "builtins type": lambda value: None,
                "functools partial": lambda *arguments: Part("partial"),
                "torch Size": tuple,
                "torch device": lambda *arguments: None,
                "torch.storage _load_from_bytes": self.storage,
                "torch._utils _rebuild_tensor_v2": _tensor,
                "torch._utils _rebuild_parameter": lambda data, requires_grad, hooks: data,
            }
        )  # fmt: skip

    def storage(self, content: bytes) -> _Storage:
        """What torch.save wrote in its oldest format: three pickles of constants, one of a storage, its bytes."""
        if not isinstance(content, bytes):
            raise Refusal(f"a storage of {quoted(content)}")
        stream, plain = io.BytesIO(content), Table({}, SOURCE)
        try:
            if loads(stream, plain, "") != MAGIC or loads(stream, plain, "") != PROTOCOL:
                raise Refusal("a storage in another format")
            if loads(stream, plain, "").get("little_endian") is not True:
                raise Refusal("a storage of a big-endian machine")
            kinds = {f"{module} {kind}": None for module in ("torch", "torch.cuda") for kind in STORAGES}
            kind, key, count = loads(stream, Table(kinds, SOURCE, _identity), "")
            if loads(stream, plain, "") != [key]:
                raise Refusal("a storage of several")
        except DataError as error:
            raise Refusal(f"a storage with{str(error).partition(':')[2].partition(', which no')[0]}") from None
        if struct.unpack("<q", stream.read(8)) != (count,):
            raise Refusal("a storage of two lengths")
        dtype = STORAGES[kind]
        size = count * dtype.itemsize
        self.bytes_left -= size
        if size < 0 or self.bytes_left < 0 or size != len(content) - stream.tell():
            raise Refusal(f"a storage of {count} values that are not all there")
        values = torch.frombuffer(bytearray(stream.read()), dtype=dtype) if count else torch.empty(0, dtype=dtype)
        return _Storage(values)


def _identity(identity: Any) -> tuple[str, str, int]:
    """Type, key and length from ("storage", type, key, device, length[, view])."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise Refusal(f"a storage named by {quoted(identity)}")
    _, kind, key, _, count, *view = identity
    if not isinstance(kind, Name) or not isinstance(key, str) or type(count) is not int or view not in ([], [None]):
        raise Refusal("a storage named in another way")
    return kind.name.rpartition(" ")[2], key, count


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, *extra: Any) -> Tensor:
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise Refusal("a tensor of something other than a storage")
    if len(size) != len(stride) or len(size) > MOST_TENSOR_DIMS:
        raise Refusal(f"a tensor of {len(size)} dimensions with {len(stride)} strides")
    if any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise Refusal("a tensor with an impossible shape")
    values, count = storage.values, 1
    for n in size:
        count *= n
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > len(values) or (count and last >= len(values)):  # also one value repeated many times
        raise Refusal(f"a tensor of {count} values over a storage of {len(values)}")
    return values.as_strided(size, stride, offset) if count else values.new_empty(size)


def _persistent(meta: Any) -> Part:
    """What `torch_utils.persistence` would make by running meta["module_src"]."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise Refusal(f"a persistent object of {quoted(meta)}")
    if meta.get("version") != PERSISTENCE_VERSION:
        raise Refusal(f"a persistent object of version {quoted(str(meta.get('version')))}")
    kind, state = meta.get("class_name"), meta.get("state")
    if not isinstance(kind, str) or not isinstance(state, dict):
        raise Refusal("a persistent object without class or state")
    return Part(kind, state)


def _empty() -> dict:
    """EasyDict and OrderedDict: their items follow."""
    return {}


def _set(members: list = ()) -> set:
    if not all(isinstance(member, str | int) for member in members):
        raise Refusal("a set of other things than names")
    return set(members)


def _scalar(dtype: Any, content: Any) -> float:
    if not isinstance(dtype, _DType) or dtype.value is None or not isinstance(content, bytes):
        raise Refusal("a NumPy scalar of another type")
    return np.frombuffer(content, dtype.value).item()


def _dill_type(name: Any) -> Name | None:
    """Older versions of dill write common types like this. A type that is never called is only an argument."""
    return {"OrderedDict": Name("collections OrderedDict"), "set": Name("builtins set")}.get(str(name))


def _dill_array(make: Any, arguments: tuple, state: tuple, attributes: Any) -> numpy_pickle.Array:
    if not isinstance(make, Name) or not make.name.endswith(" _reconstruct"):
        raise Refusal("an array made in another way")
    array = numpy_pickle.Array(*arguments)
    array.set_state(state)
    return array
