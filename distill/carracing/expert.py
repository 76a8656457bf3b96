"""The scripted driver: it knows the track's tiles and where the car is, and looks at no picture.

    drive(Simulator(track), Expert())

It steers to a point of the middle line ahead (pure pursuit), farther ahead the faster it is, and lets the speed be what
the sharpest bend ahead allows. It scores 919 ± 15 on 12 tracks; docs/carracing.md says how its constants were chosen.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from distill.carracing.simulator import ACTIONS, Simulator

TILE = 3.5
"""Metres from one tile of the track to the next."""
NONE, GAS, LEFT, RIGHT, LEFT_AND_BRAKE, RIGHT_AND_BRAKE = range(len(ACTIONS))


@dataclass
class Expert:
    """A driver for one episode: it remembers which tile it is on."""

    near: float = 8.2
    """Metres that it looks ahead when it stands ..."""
    ahead: float = 0.26
    """... and the seconds of driving that are added."""
    damping: float = 0.08
    """Seconds of the car's present turning that are taken off the error in heading."""
    tolerance: float = 0.11
    """Errors in heading below this are not steered against, radians."""
    horizon: int = 9
    """Tiles ahead among which it looks for the sharpest bend."""
    top_speed: float = 83.0
    bend_speed: float = 37.0
    """Highest speed times the turn over three tiles, radians."""
    hurry: float = 1.385
    """Brakes above this multiple of the speed that it wants; between the two it rolls."""
    tile: int = field(default=0, init=False)

    def __call__(self, world: Simulator) -> int:
        error, speed, wanted = *self._error_and_speed(world), self._wanted_speed(world)
        if speed > wanted * self.hurry:
            return LEFT_AND_BRAKE if error > 0 else RIGHT_AND_BRAKE
        if abs(error) > self.tolerance:
            return LEFT if error > 0 else RIGHT
        return GAS if speed < wanted else NONE

    def _error_and_speed(self, world: Simulator) -> tuple[float, float]:
        """By how much the car should turn to the left, radians, and its speed; finds the tile it is on."""
        car, road = world.car, world.road
        nearby = (self.tile + np.arange(-5, 25)) % len(road)
        self.tile = int(nearby[np.hypot(road[nearby, 1] - car.x, road[nearby, 2] - car.y).argmin()])
        _, x, y = road[(self.tile + round((self.near + self.ahead * car.speed) / TILE)) % len(road)]
        error = _angle(math.atan2(car.x - x, y - car.y) - car.heading)
        return error - self.damping * car.turning, car.speed

    def _wanted_speed(self, world: Simulator) -> float:
        headings = world.road[(self.tile + np.arange(self.horizon + 3)) % len(world.road), 0]
        bends = np.abs(_angle(headings[3:] - headings[:-3]))
        return min(self.top_speed, self.bend_speed / (float(bends.max()) + 1e-3))


def _angle(a):
    """The same angle between -pi and pi."""
    return (a + math.pi) % (2 * math.pi) - math.pi
