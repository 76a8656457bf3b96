"""OpenAI's CarRacing, as Gymnasium ships it, driven by the thesis's six actions and seen as small images.

    world = Simulator(track=7)
    while not world.done:
        world.step(choose(world.view))
    world.score

This is the only file that imports Gymnasium, which is not installed by default: `pip install 'stillhouse[carracing]'`.
Score (the simulator's): 1000 for all tiles of the track, less 0.1 for each frame, and -100 for leaving the field. An
episode ends with the lap, off the field, or after 1000 frames (20 seconds).
"""

import math
import os
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distill.data.size import resize_image
from distill.errors import DataError

ACTIONS = ("none", "gas", "left", "right", "left and brake", "right and brake")
"""The classes (thesis, section 4.1)."""
STEER, GAS, BRAKE = 0.64, 0.9, 0.2
"""How strongly, of 1. The front wheels turn by up to 0.4 radians, 0.06 per frame, and back once they are let go."""
CONTROLS = (
    (0.0, 0.0, 0.0), (0.0, GAS, 0.0), (-STEER, 0.0, 0.0), (STEER, 0.0, 0.0), (-STEER, 0.0, BRAKE), (STEER, 0.0, BRAKE),
)  # fmt: skip
"""Steering (left is negative), gas and brake of each action."""
MOST_FRAMES = 1000
FRAME_COST = 0.1
NATIVE = 96
"""Pixels per side of the simulator's images."""
PACKAGES = ("gymnasium", "box2d", "pygame-ce", "pillow")
"""What decides the bits of a recording."""


class World(Protocol):
    """What a driver may look at."""

    view: Tensor
    """What is seen: uint8 (3, size, size)."""
    done: bool
    frames: int
    score: float

    def step(self, action: int) -> None:
        """Take one of ACTIONS for a frame."""


@dataclass(frozen=True)
class Car:
    """Where the car is, in the simulator's metres, radians and seconds."""

    x: float
    y: float
    heading: float
    """0 is up (along y), to the left is positive."""
    speed: float
    turning: float
    """Change of the heading per second."""
    wheel: float
    """Angle of the front wheels, to the left positive."""


class Simulator:
    """One episode on the track of a seed, seen at `size` pixels a side. DataError if the simulator is not installed."""

    def __init__(self, track: int, size: int = 32):
        self.size, self.done, self.frames, self.score = size, False, 0, 0.0
        self._environment = _gymnasium().make("CarRacing-v3", max_episode_steps=MOST_FRAMES, disable_env_checker=True)
        inner = self._environment.unwrapped
        self.picture, _ = self._environment.reset(seed=track)
        """What is seen, as the simulator draws it: uint8 (96, 96, 3)."""
        self.view = seen(self.picture, size)
        self.road = np.array([(beta, x, y) for _, beta, x, y in inner.track])
        """Heading, x and y of each tile's middle, in driving order: (tiles, 3)."""

    def step(self, action: int) -> None:
        controls = np.array(CONTROLS[action], np.float32)
        self.picture, reward, finished, out_of_time, _ = self._environment.step(controls)
        self.view = seen(self.picture, self.size)
        self.frames, self.score, self.done = self.frames + 1, self.score + float(reward), finished or out_of_time

    @property
    def car(self) -> Car:
        car = self._environment.unwrapped.car
        (x, y), speed = car.hull.position, math.hypot(*car.hull.linearVelocity)
        return Car(x, y, car.hull.angle, speed, car.hull.angularVelocity, car.wheels[0].joint.angle)


def seen(picture: np.ndarray, size: int) -> Tensor:
    """A picture uint8 (h, w, 3) as drivers see it: uint8 (3, size, size)."""
    small = np.asarray(resize_image(Image.fromarray(picture), size, "stretch"))
    return torch.from_numpy(small.copy()).permute(2, 0, 1).contiguous()


def versions() -> dict[str, str]:
    """The versions of what a recording depends on. DataError if the simulator is not installed."""
    _gymnasium()
    return {name: version(name) for name in PACKAGES}


def _gymnasium():
    """The module, with all that CarRacing needs."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no screen is needed
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Box2D's import warns; if warnings are errors, that kills the process
        try:
            import gymnasium
            from gymnasium.envs.box2d import car_racing  # noqa: F401
        except ImportError as error:
            raise DataError(
                f"the CarRacing simulator is not installed ({error}): pip install 'stillhouse[carracing]', or "
                "pip install 'gymnasium[box2d]'"
            ) from None
    return gymnasium
