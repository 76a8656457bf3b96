"""A world that costs nothing: a straight road of score, for tests of what drives, records and judges."""

import torch

from distill.carracing.simulator import MOST_FRAMES


class Road:
    """Each frame costs 0.1; the right action, (frame + track) % 6, gives 3. The view is grey, its level 40 * right."""

    def __init__(self, length: int = MOST_FRAMES, size: int = 16, track: int = 0):
        self.length, self.size, self.track = length, size, track
        self.done, self.frames, self.score, self.taken = False, 0, 0.0, []
        self._look()

    @property
    def right(self) -> int:
        return (self.frames + self.track) % 6

    def step(self, action: int) -> None:
        self.taken.append(action)
        self.score += 3 * (action == self.right) - 0.1
        self.frames += 1
        self.done = self.frames == self.length
        self._look()

    def _look(self) -> None:
        self.view = torch.full((3, self.size, self.size), 40 * self.right, dtype=torch.uint8)


def knows(world: Road) -> int:
    """The driver that is always right."""
    return world.right
