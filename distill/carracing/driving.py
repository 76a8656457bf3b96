"""The score of a driver on a track, and the driver that is a network.

driver = NetworkDriver(network, theta, statistics, dataset.preprocess)
episode = drive(Simulator(track), driver)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill import rng
from distill.carracing.simulator import FRAME_COST, MOST_FRAMES, World
from distill.data.preprocess import Preprocess
from distill.nets import Network

PATIENCE = 200
Driver = Callable[[World], int]
"""Chooses the action of a frame."""


@dataclass(frozen=True)
class Episode:
    """How an episode ended."""

    score: float
    frames: int


def drive(world: World, driver: Driver, watch: Callable[[World], None] = lambda world: None) -> Episode:
    """Drive until the episode ends; `watch` is called before each frame and at the end.

    A car that has not reached another tile for 200 frames (4 seconds) is taken to stand until the time is over: the
    episode ends, and the score is charged for the frames that are left.
    """
    without = 0
    while not world.done and without < PATIENCE:
        watch(world)
        before = world.score
        world.step(driver(world))
        without = 0 if world.score > before else without + 1
    watch(world)
    left = 0 if world.done else MOST_FRAMES - world.frames
    return Episode(world.score - FRAME_COST * left, world.frames)


def track_seeds(seed: int, purpose: str, count: int, first: int = 0) -> list[int]:
    """Seeds of tracks. Those of another purpose ("train", "test", "drive") are others."""
    numbers = range(first, first + count)
    return [int(torch.randint(2**31, (), generator=rng.generator(seed, "track", purpose, i))) for i in numbers]


@dataclass(frozen=True)
class NetworkDriver:
    """Takes the action that a network finds most likely. Nothing is drawn."""

    network: Network
    theta: Tensor
    """Parameters (p,)."""
    statistics: Tensor | None
    """Of batch norms, if there are any (Network.statistics)."""
    preprocess: Preprocess

    def __call__(self, world: World) -> int:
        with torch.no_grad():
            x = self.preprocess(world.view[None].to(self.theta.device).float() / 255)
            return int(self.network(self.theta, x, statistics=self.statistics).argmax())
