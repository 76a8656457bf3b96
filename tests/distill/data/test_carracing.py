"""The CarRacing reader: whole episodes until there are enough frames, and parts that share none."""

from dataclasses import replace

import pytest
import torch
from support.road import Road, knows

from distill import data
from distill.carracing import driving
from distill.carracing.recording import record
from distill.data import carracing
from distill.data.split import grouped
from distill.errors import DataError
from distill.recipe import CarRacingFrames
from distill.rng import generator

SMALL = CarRacingFrames(size=16, frames=100, frames_test=50, preprocess="none", validation=0.4)


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[int]:
    """Episodes of 30 frames in place of the simulator's, each with a level of its own; the tracks that were driven."""
    tracks: list[int] = []

    def recorded(track, seed, size, noise):
        if track not in tracks:
            tracks.append(track)
        episode = record(Road(30, size, track), knows, track, seed, noise)
        episode.x[:, 1] = 1 + tracks.index(track)
        return episode

    monkeypatch.setattr(carracing, "recorded", recorded)
    return tracks


def test_whole_episodes_until_there_are_enough_frames(made):
    said = []
    raw = data.read(SMALL, lambda *notice: said.append(notice))
    assert raw.train_x.shape == (120, 3, 16, 16) and raw.test_x.shape == (60, 3, 16, 16)
    assert raw.train_x.dtype == torch.uint8 and raw.train_y.dtype == torch.int64
    assert raw.classes == ("none", "gas", "left", "right", "left and brake", "right and brake")
    assert raw.train_group.tolist() == [i // 30 for i in range(120)]
    assert raw.train_x[:, 1, 0, 0].tolist() == [1 + i // 30 for i in range(120)]
    assert torch.equal(raw.train_x[:, 0, 0, 0].long(), 40 * raw.train_y)
    assert made == driving.track_seeds(0, "train", 4) + driving.track_seeds(0, "test", 2)
    assert said[:2] == [("recorded train frames", 0, 100), ("recorded train frames", 30, 100)]


def test_the_seed_of_the_recording_decides_and_the_seed_of_the_run_does_not(made):
    first, again, other = (data.read(SMALL.model_copy(update={"recording": s})).fingerprint for s in (0, 0, 1))
    assert first == again != other


def test_the_three_parts_share_no_episode(made):
    loaded = data.load(SMALL, 0, torch.device("cpu"))
    parts = [
        set((s.x[:, 1, 0, 0] * 255).round().int().tolist()) for s in (loaded.train, loaded.validation, loaded.test)
    ]
    assert [len(part) for part in parts] == [2, 2, 2] and len(set.union(*parts)) == 6
    other = data.load(SMALL, 3, torch.device("cpu"))
    assert (len(other.train), len(other.validation)) == (60, 60)
    splits = {tuple(data.load(SMALL, s, torch.device("cpu")).validation.x[::30, 1, 0, 0].tolist()) for s in range(8)}
    assert len(splits) > 1  # the seed of the run decides which are held out


def test_limits_keep_groups(made):
    loaded = data.load(SMALL.model_copy(update={"limit": 70}), 0, torch.device("cpu"))
    assert len(loaded.train) + len(loaded.validation) == 70 and len(loaded.validation) in (10, 30)


def test_groups_are_in_the_fingerprint_of_the_training_part_alone(made):
    raw = data.read(SMALL)
    other = replace(raw, train_group=raw.train_group // 2)
    assert raw.parts["train"] != other.parts["train"] and raw.parts["test"] == other.parts["test"]


def test_a_class_without_training_images_is_refused():
    y, group = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    with pytest.raises(DataError, match="2 groups.*held out"):
        grouped(y, group, 0.5, ("a", "b"), generator(0, "v"), "toy")
    with pytest.raises(DataError, match="'a' has no training image"):
        grouped(y[:2], group[:2], 0.5, ("a", "b"), generator(0, "v"), "toy")


def test_at_least_one_group_is_held_out():
    y, group = torch.arange(40) % 2, torch.arange(40) // 4
    train, held = grouped(y, group, 0.01, ("a", "b"), generator(0, "v"), "toy")
    assert len(held) == 4 and len(set(group[held].tolist())) == 1
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(40))
