"""The state of a run as one safetensors object, never a pickle.

safetensors checks its structure, not its content: the SHA-256 of everything in a checkpoint is stored with it.
"""

import hashlib
import json
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from distill.errors import StoreError

VERSION = 2
_HEAD = {"version", "step", "run_id", "notes"}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by dotted name, and JSON values in `notes`."""

    step: int
    run_id: str
    tensors: dict[str, Tensor]
    notes: dict

    def encode(self) -> bytes:
        """Bytes of the checkpoint; equal states give equal bytes."""
        head = {"version": VERSION, "step": self.step, "run_id": self.run_id, "notes": self.notes}
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in self.tensors.items()}
        head["sha256"] = _sha256(head, tensors)
        return save(tensors, {"stillhouse": json.dumps(head, sort_keys=True)})

    @classmethod
    def decode(cls, blob: bytes, name: str) -> "Checkpoint":
        """The checkpoint in bytes from encode(), or from an earlier Stillhouse, which stored no SHA-256.

        Raises StoreError, naming `name`, if damaged or of another version.
        """
        try:
            size = int.from_bytes(blob[:8], "little")
            head = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"]["stillhouse"])
            tensors = load(blob)
            version, digest = head["version"], head.pop("sha256", None)
            whole = version != VERSION or (head.keys() == _HEAD and digest in (None, _sha256(head, tensors)))
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"checkpoint {name} is damaged ({error}): delete it to resume from an older one") from None
        if not whole:
            raise StoreError(f"checkpoint {name} is damaged (SHA-256 differs): delete it to resume from an older one")
        if version != VERSION:
            raise StoreError(
                f"checkpoint {name} has version {version}, but this Stillhouse reads version {VERSION}: use "
                "the Stillhouse that wrote it, or delete it to start again"
            )
        return cls(head["step"], head["run_id"], tensors, head["notes"])


def _sha256(head: dict, tensors: dict[str, Tensor]) -> str:
    """Digest of all that a checkpoint says."""
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(json.dumps([name, str(t.dtype), list(t.shape)]).encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def pack(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of a module with a prefix before each name."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def unpack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + ".")}


def pack_optimizers(optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The buffers of optimisers as named tensors."""
    return {
        f"optimizer.{kind}.{i}.{name}": t
        for kind, optimizer in optimizers.items()
        for i, own in optimizer.state_dict()["state"].items()
        for name, t in own.items()
        if t is not None
    }


def unpack_optimizers(optimizers: dict[str, torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Load the buffers from pack_optimizers() into the optimisers."""
    for kind, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in unpack(f"optimizer.{kind}", tensors).items():
            i, key = name.split(".")
            state.setdefault(int(i), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
