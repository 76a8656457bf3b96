"""A device that is not there: its tensors compute on the CPU, and refuse to meet tensors that are on it.

    with Elsewhere():
        x = torch.rand(3).to(DEVICE)        # x.device == DEVICE, and so is everything that is made of it
        x + torch.ones(3)                   # OnTwoDevices
        x + torch.tensor(1.0)               # a single number may be anywhere, as with a GPU

What a GPU refuses is refused: operations that mix devices, NumPy, files. What it takes is taken: copies from one to the
other, numbers, indices on the CPU. Shows what no test on the CPU alone can: a buffer, a batch or a label left behind.
"""

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")
"""A kind that PyTorch knows and that needs no driver; without this module its tensors have no numbers."""
BETWEEN = {"aten::_to_copy", "aten::copy_", "aten::copy", "aten::_local_scalar_dense"}
"""Operations from one device to another."""
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""Operations that take indices of the CPU."""


class OnTwoDevices(RuntimeError):
    """An operation mixes tensors of the device with others."""


@contextlib.contextmanager
def Elsewhere():
    """In the block, what is made or copied with device=DEVICE is there."""
    autocast = torch.autocast
    with mock.patch.object(torch, "autocast", lambda kind, *args, **kwargs: autocast("cpu", *args, **kwargs)):
        with _Calls(), _Operations():
            yield


class _Calls(TorchFunctionMode):
    """What PyTorch does with Python's own numbers, which no operation sees."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and is_there(kwargs.get("device")):
            del kwargs["device"]
            return torch.ops.aten._to_copy(function(*args, **kwargs), device=DEVICE)
        if function is torch.Tensor.new_tensor and isinstance(args[0], There):
            kwargs.setdefault("dtype", args[0].dtype)
            return torch.ops.aten._to_copy(torch.tensor(*args[1:], **kwargs), device=DEVICE)
        if function is torch.Tensor.tolist and isinstance(args[0], There):
            return args[0].cpu().tolist()
        return function(*args, **kwargs)


def is_there(device) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


class There(torch.Tensor):
    """A tensor of the device; `here` holds its numbers."""

    @staticmethod
    def __new__(cls, here: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.here = here
        return made

    is_meta = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **kwargs) -> str:
        return f"There({self.here!r})"

    def numpy(self, *args, **kwargs):
        raise OnTwoDevices("numpy() of a tensor that is not on the CPU")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def run(operation, args: tuple, kwargs: dict):
    """The operation on the numbers, and its results where it put them."""
    name = operation._schema.name
    there = [t for t in tensors_of((args, kwargs)) if isinstance(t, There)]
    asked = kwargs.get("device")
    if name not in BETWEEN and there:
        checked = (args[0], args[2:]) if name in INDEXED else (args, kwargs)
        left = [tuple(t.shape) for t in tensors_of(checked) if t.dim() and not isinstance(t, There)]
        if left:
            raise OnTwoDevices(f"{name} mixes tensors of the device with {left} of the CPU")
    if kwargs.get("generator") is not None and (there or is_there(asked)):
        raise OnTwoDevices(f"{name} draws on the device with a generator of the CPU")
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
        stays = is_there(asked)
    elif name == "aten::copy_":
        stays = isinstance(args[0], There)
    else:
        stays = bool(there) and name != "aten::_local_scalar_dense"
    here, here_kwargs = mapped((args, kwargs), lambda t: t.here if isinstance(t, There) else t)
    result = operation(*here, **here_kwargs)
    if torch.Tag.inplace_view in operation.tags and there:
        with no_dispatch():  # squeeze_ and its like change the shape that PyTorch reads, which is the wrapper's
            operation(*args, **kwargs)
    if not stays:
        return result
    known = {id(t.here): t for t in there}
    return mapped(result, lambda t: known[id(t)] if id(t) in known else There(t))


def tensors_of(value) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(part)


def mapped(value, function: Callable[[torch.Tensor], torch.Tensor]):
    """The same with a function applied to each tensor: torch.utils._pytree takes most of a test's time for this."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)([mapped(part, function) for part in value])
    return {k: mapped(v, function) for k, v in value.items()} if isinstance(value, dict) else value
