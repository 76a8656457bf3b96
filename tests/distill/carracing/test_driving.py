"""Scores of drivers: counted by hand on a road that costs nothing."""

import pytest
import torch
from support.road import Road, knows

from distill.carracing.driving import PATIENCE, Episode, NetworkDriver, drive, track_seeds
from distill.data.preprocess import Standardize


def test_the_score_is_the_worlds_at_the_end():
    seen = []
    episode = drive(Road(10), knows, lambda world: seen.append(world.frames))
    assert episode == Episode(pytest.approx(29.0), 10)
    assert seen == list(range(11))


def test_a_car_that_stands_is_charged_for_the_time_that_is_left():
    def stops(world):
        return world.right if world.frames < 50 else world.right - 1

    episode = drive(Road(), stops)
    assert episode.frames == 50 + PATIENCE
    assert episode.score == pytest.approx(3 * 50 - 0.1 * 1000)


def test_a_late_tile_keeps_the_episode_going():
    def dawdles(world):
        return world.right if world.frames % (PATIENCE - 1) == 0 else world.right - 1

    assert drive(Road(), dawdles).frames == 1000


def test_tracks_depend_on_seed_purpose_and_number_alone():
    seeds = [track_seeds(s, purpose, 3) for s in (0, 1) for purpose in ("train", "test", "drive")]
    assert len({track for own in seeds for track in own}) == 18
    assert track_seeds(0, "train", 3)[1:] == track_seeds(0, "train", 2, first=1)


def test_a_network_takes_its_likeliest_action_of_the_preprocessed_view():
    class Brightness:
        """Logits of two actions: dark, bright."""

        def __call__(self, theta, x, statistics=None):
            assert x.shape == (1, 3, 16, 16) and statistics is norms
            return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)

    norms, preprocess = object(), Standardize(torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.2))
    world, driver = Road(), NetworkDriver(Brightness(), torch.zeros(1), norms, preprocess)
    for level, action in ((0, 0), (90, 0), (115, 1), (255, 1)):  # the mean is at level 102
        world.view = torch.full((3, 16, 16), level, dtype=torch.uint8)
        assert driver(world) == action
