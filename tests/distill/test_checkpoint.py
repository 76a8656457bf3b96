"""Checkpoints: exact round trips, equal bytes for equal states, and damage is refused by name."""

import json

import pytest
import torch
from safetensors.torch import save

from distill.checkpoint import Checkpoint, pack, pack_optimizers, unpack, unpack_optimizers
from distill.errors import StoreError

STATE = Checkpoint(7, "run-1", {"a.x": torch.arange(6.0).view(2, 3), "a.y": torch.tensor(0.5)}, {"best_step": 3})


def test_round_trip_is_exact():
    back = Checkpoint.decode(STATE.encode(), "c")
    assert (back.step, back.run_id, back.notes) == (7, "run-1", {"best_step": 3})
    assert all(torch.equal(back.tensors[name], t) for name, t in STATE.tensors.items())


def test_equal_states_give_equal_bytes():
    swapped = Checkpoint(7, "run-1", dict(reversed(STATE.tensors.items())), {"best_step": 3})
    assert STATE.encode() == swapped.encode()


@pytest.mark.parametrize("damage", [lambda b: b[:-4], lambda b: b[:20], lambda b: b"", lambda b: b"x" * 100])
def test_damage_is_named(damage):
    with pytest.raises(StoreError, match="checkpoint-8"):
        Checkpoint.decode(damage(STATE.encode()), "checkpoint-8")


def test_no_flipped_bit_is_accepted():
    """Each byte of the file in turn: it is refused, or says what it said."""
    blob = STATE.encode()
    whole = Checkpoint.decode(blob, "c")
    accepted = []
    for place in range(len(blob)):
        flipped = blob[:place] + bytes([blob[place] ^ 1 << place % 8]) + blob[place + 1 :]
        try:
            back = Checkpoint.decode(flipped, "c")
        except StoreError:
            continue
        accepted.append(place)
        assert (back.step, back.run_id, back.notes) == (whole.step, whole.run_id, whole.notes), place
        assert back.tensors.keys() == whole.tensors.keys(), place
        assert all(torch.equal(back.tensors[name], t) for name, t in whole.tensors.items()), place
    assert len(accepted) < len(blob) / 20, "only padding may differ"


def test_a_checkpoint_of_an_earlier_version_has_no_digest_and_is_read():
    head = {"version": 2, "step": 7, "run_id": "run-1", "notes": {"best_step": 3}}
    blob = save({"a.x": torch.ones(2)}, {"stillhouse": json.dumps(head, sort_keys=True)})
    assert Checkpoint.decode(blob, "c").step == 7


def test_tensors_of_any_type_have_a_digest():
    tensors = {"b": torch.ones(3, dtype=torch.bfloat16), "e": torch.zeros(0), "i": torch.arange(3), "t": torch.eye(2).T}
    back = Checkpoint.decode(Checkpoint(1, "r", tensors, {}).encode(), "c").tensors
    assert all(torch.equal(back[name], t) and back[name].dtype == t.dtype for name, t in tensors.items())


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("distill.checkpoint.VERSION", 3)
    blob = STATE.encode()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="version 3"):
        Checkpoint.decode(blob, "c")


@pytest.mark.parametrize("kind", [lambda p: torch.optim.SGD(p, 0.1, momentum=0.5), lambda p: torch.optim.Adam(p, 0.1)])
def test_an_optimizer_goes_on_as_if_never_stopped(kind):
    def steps(p, optimizer, n):
        for _ in range(n):
            optimizer.zero_grad()
            (p**3).sum().backward()
            optimizer.step()

    whole, halves = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    steps(whole, kind([whole]), 4)
    first = kind([halves])
    steps(halves, first, 2)
    tensors = Checkpoint.decode(Checkpoint(2, "r", pack_optimizers({"sgd": first}), {}).encode(), "c").tensors
    second = kind([halves])
    unpack_optimizers({"sgd": second}, tensors)
    steps(halves, second, 2)
    assert torch.equal(whole, halves)


def test_prefixes_do_not_mix():
    tensors = pack("best", {"x": torch.ones(1)}) | pack("bestest", {"x": torch.zeros(1)})
    assert list(unpack("best", tensors)) == ["x"] and unpack("best", tensors)["x"].item() == 1
