"""Gymnasium's CarRacing behind our six actions, and the scripted driver in it. Skipped without the simulator."""

import builtins
import math

import numpy as np
import pytest
import torch
from PIL import Image

from distill.carracing import simulator
from distill.carracing.driving import drive
from distill.carracing.expert import Expert
from distill.carracing.simulator import ACTIONS, Car, Simulator
from distill.errors import DataError

TRACK = 200


@pytest.fixture
def world() -> Simulator:
    try:
        return Simulator(TRACK)
    except DataError as error:
        pytest.skip(str(error))


def test_the_view_is_the_picture_made_small(world):
    assert world.picture.shape == (96, 96, 3) and world.picture.dtype == np.uint8
    assert world.view.shape == (3, 32, 32) and world.view.dtype == torch.uint8
    blocks = world.picture.reshape(32, 3, 32, 3, 3).mean((1, 3)).transpose(2, 0, 1)  # the filter is a bit wider
    assert np.abs(blocks - world.view.numpy()).mean() < 4
    alone = np.zeros((96, 96, 3), np.uint8)
    alone[30:48, 60:90, 1] = 255
    assert simulator.seen(alone, 32)[1, 10:16, 20:30].float().mean() > 200
    assert Image.fromarray(alone).size == (96, 96)


def test_actions_do_what_they_say(world):
    def after(name: str, frames: int = 10) -> Car:
        one = Simulator(TRACK)
        for _ in range(25):
            one.step(ACTIONS.index("gas"))
        for _ in range(frames):
            one.step(ACTIONS.index(name))
        return one.car

    cars = {name: after(name) for name in ACTIONS}
    assert cars["gas"].speed > cars["none"].speed > cars["left and brake"].speed > 0
    assert cars["right"].speed > cars["right and brake"].speed
    for name, sign in (("left", 1), ("left and brake", 1), ("right", -1), ("right and brake", -1)):
        assert sign * cars[name].wheel > 0.3 and sign * cars[name].turning > 0.1
    assert abs(cars["none"].wheel) < 0.01


def test_the_driver_follows_the_track(world):
    """300 frames, no grass: it is never farther from the middle than the road is wide, and gains most of its tiles."""
    expert, apart = Expert(), []

    def choose(world: Simulator) -> int:
        car, road = world.car, world.road
        apart.append(np.hypot(road[:, 1] - car.x, road[:, 2] - car.y).min())
        return expert(world)

    for _ in range(300):
        world.step(choose(world))
    assert max(apart) < 6.67  # half of the road's width
    assert world.score > 250 and not world.done


def test_the_same_actions_give_the_same_bits(world):
    a, b = Simulator(TRACK), Simulator(TRACK)
    for i in range(40):
        a.step(1 + i % 5)
        b.step(1 + i % 5)
    assert a.score == b.score and a.car == b.car and np.array_equal(a.picture, b.picture)
    assert not np.array_equal(Simulator(TRACK + 1).road, a.road)


@pytest.mark.slow
def test_the_driver_finishes_the_lap(world):
    episode = drive(world, Expert())
    assert episode.score > 850 and episode.frames < 1000


# ---------------------------------------------------------------- the scripted driver, without the simulator


class Standing:
    """A car on a road that is straight up, or that bends to the left by `bend` radians per tile."""

    def __init__(self, x: float = 0, heading: float = 0, speed: float = 10, bend: float = 0, turning: float = 0):
        headings = bend * np.arange(60)
        steps = 3.5 * np.stack([-np.sin(headings), np.cos(headings)], 1)
        self.road = np.column_stack([headings, steps.cumsum(0)])
        self.car = Car(x, 1.0, heading, speed, turning, 0.0)


@pytest.mark.parametrize(
    ("world", "action"),
    [
        (Standing(), "gas"),
        (Standing(speed=100), "none"),
        (Standing(speed=130), "right and brake"),
        (Standing(x=6), "left"),
        (Standing(x=-6), "right"),
        (Standing(heading=0.4), "right"),
        (Standing(heading=-0.4), "left"),
        (Standing(heading=-0.4, turning=4.0), "gas"),
        (Standing(heading=2 * math.pi + 0.4), "right"),
        (Standing(bend=0.25, speed=80), "left and brake"),
        (Standing(bend=0.25, speed=40), "left"),
    ],
)
def test_what_the_driver_does(world, action):
    assert ACTIONS[Expert()(world)] == action


def test_without_the_simulator_the_error_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("gymnasium"):
            raise ImportError("No module named 'gymnasium'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match=r"pip install 'stillhouse\[carracing\]'"):
        Simulator(TRACK)
