"""The state of a run as one safetensors object: whole or not there, and never a pickle."""

import json
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from distill.errors import StoreError

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by dotted name, and what is not a tensor."""

    step: int
    run_id: str
    tensors: dict[str, Tensor]
    notes: dict

    def encode(self) -> bytes:
        """Bytes of the object; equal states give equal bytes."""
        head = {"version": VERSION, "step": self.step, "run_id": self.run_id, "notes": self.notes}
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in self.tensors.items()}
        return save(tensors, {"stillhouse": json.dumps(head, sort_keys=True)})

    @classmethod
    def decode(cls, blob: bytes, name: str) -> "Checkpoint":
        """Read what encode wrote; `name` is for errors. Raises StoreError when it is damaged or of another version."""
        try:
            size = int.from_bytes(blob[:8], "little")
            head = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"]["stillhouse"])
            tensors = load(blob)
        except (SafetensorError, ValueError, KeyError) as error:
            raise StoreError(f"checkpoint {name} is damaged ({error}); delete it to go on from the last") from None
        if head["version"] != VERSION:
            raise StoreError(f"checkpoint {name} is of version {head['version']}, this program reads {VERSION}")
        return cls(head["step"], head["run_id"], tensors, head["notes"])


def pack(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A module's state under a prefix."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def unpack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of `tensors` under a prefix."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + ".")}


def pack_optimizers(optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The buffers of optimisers by kind, as named tensors."""
    return {
        f"optimizer.{kind}.{i}.{name}": t
        for kind, optimizer in optimizers.items()
        for i, own in optimizer.state_dict()["state"].items()
        for name, t in own.items()
        if t is not None
    }


def unpack_optimizers(optimizers: dict[str, torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put back what pack_optimizers took."""
    for kind, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in unpack(f"optimizer.{kind}", tensors).items():
            i, key = name.split(".")
            state.setdefault(int(i), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
