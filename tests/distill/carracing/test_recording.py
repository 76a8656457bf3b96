"""Recordings: labels are the expert's whatever is done, frames match labels, and what is on the disk is checked."""

from dataclasses import dataclass

import pytest
import torch
from support.road import Road, knows

from distill.carracing import recording
from distill.carracing.recording import Recording, Recordings, record


@dataclass
class Knows:
    """An expert without settings."""

    def __call__(self, world: Road) -> int:
        return world.right


def test_without_noise_the_expert_drives():
    world = Road(30)
    made = record(world, knows, track=0, seed=0, noise=0.0)
    assert world.taken == made.y.tolist() == [i % 6 for i in range(30)]
    assert made.x.shape == (30, 3, 16, 16) and made.x.dtype == torch.uint8
    assert torch.equal(made.x[:, 0, 0, 0].long(), 40 * made.y)  # each frame is what was seen when its label was chosen
    assert made.score == pytest.approx(30 * 2.9)


def test_noise_changes_what_is_done_and_not_the_labels():
    world = Road(1000)
    made = record(world, knows, track=0, seed=0, noise=0.05)
    assert made.y.tolist() == [i % 6 for i in range(1000)]
    other = [a != b for a, b in zip(world.taken, made.y.tolist(), strict=True)]
    # A burst of 5 frames on average, about every 20 frames; five actions of six differ from the expert's.
    assert 0.1 < sum(other) / 1000 < 0.25
    assert set(world.taken) == set(range(6))


def test_noise_comes_in_bursts_of_one_action():
    world = Road(600)
    record(world, lambda world: -1, track=0, seed=0, noise=0.02)
    bursts = "".join("." if a == -1 else str(a) for a in world.taken).strip(".").split(".")
    bursts = [burst for burst in bursts if burst]
    assert len(bursts) > 5
    assert all(2 <= len(burst) <= 8 * len(set(burst)) for burst in bursts)


def test_the_same_seed_records_the_same_bits_and_another_others():
    def taken(track, seed):
        world = Road(400)
        record(world, knows, track, seed, noise=0.05)
        return world.taken

    assert taken(0, 0) == taken(0, 0)
    assert taken(0, 0) != taken(0, 1) and taken(0, 0) != taken(1, 0)


def test_what_is_kept_is_what_was_recorded(tmp_path):
    made = record(Road(12), knows, 0, 0, 0.0)
    kept = Recordings(tmp_path, None)
    calls = []

    def make() -> Recording:
        calls.append(1)
        return made

    first, again = kept.get("a.safetensors", make), Recordings(tmp_path, None).get("a.safetensors", make)
    assert calls == [1] and first is made
    assert torch.equal(again.x, made.x) and torch.equal(again.y, made.y) and again.score == made.score


def test_a_damaged_recording_is_made_again(tmp_path, caplog):
    made = record(Road(12), knows, 0, 0, 0.0)
    kept = Recordings(tmp_path, None)
    kept.get("a.safetensors", lambda: made)
    data = bytearray((tmp_path / "a.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(data)
    other = record(Road(13), knows, 0, 0, 0.0)
    assert kept.get("a.safetensors", lambda: other) is other
    assert "frames are not those" in caplog.text


def test_each_track_seed_size_and_noise_has_its_own_recording(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    monkeypatch.setattr(recording, "versions", lambda: {"gymnasium": "1"})
    monkeypatch.setattr(recording, "Simulator", lambda track, size: Road(20, size, track))
    monkeypatch.setattr(recording, "Expert", Knows)
    for arguments in ((5, 0, 16, 0.0), (6, 0, 16, 0.0), (5, 1, 16, 0.0), (5, 0, 18, 0.0), (5, 0, 16, 0.1)) * 2:
        made = recording.recorded(*arguments)
        assert made.x.shape[2] == arguments[2] and int(made.y[0]) == arguments[0] % 6
    assert len(list((tmp_path / "cache" / "carracing").glob("*.safetensors"))) == 5
    monkeypatch.setattr(recording, "versions", lambda: {"gymnasium": "2"})
    recording.recorded(5, 0, 16, 0.0)
    assert len(list((tmp_path / "cache" / "carracing").glob("*.safetensors"))) == 6
