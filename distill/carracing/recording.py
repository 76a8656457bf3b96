"""What the scripted driver saw and did on a track, kept on the local disk: an episode takes seconds to a minute.

    recording = recorded(track, seed=0, size=32, noise=0.01)

A network that only ever saw the expert's own line does not know the way back to it. So now and then another action
than the expert's is taken for a few frames, drawn at random, while the label of each frame stays what the expert would
do: recordings show it in trouble and getting out (noise injection; DART, Laskey et al. 2017).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill import rng
from distill.carracing.expert import Expert
from distill.carracing.simulator import ACTIONS, CONTROLS, Simulator, World, versions
from distill.data import cache
from distill.disk_cache import Damaged, DiskCache

FORMAT = 1
LIMIT = 4 << 30  # bytes of all recordings together
SHORTEST, LONGEST = 2, 8
"""Frames of a disturbance."""


@dataclass(frozen=True)
class Recording:
    """An episode: what was seen, uint8 (n, 3, size, size), and what the expert chose, int64 (n,)."""

    x: Tensor
    y: Tensor
    score: float


class Recordings(DiskCache[Recording]):
    """A safetensors file for each episode."""

    fix = "free space or set STILLHOUSE_HOME"

    def load(self, path: Path) -> Recording:
        try:
            with safe_open(path, framework="pt") as file:
                x, y = file.get_tensor("x"), file.get_tensor("y")
                metadata = file.metadata() or {}
        except (SafetensorError, ValueError) as error:
            raise Damaged(str(error)) from None
        if metadata.get("sha256") != _digest(x, y):
            raise Damaged("its frames are not those that were recorded")
        return Recording(x, y, float(metadata["score"]))

    def save(self, value: Recording, path: Path) -> None:
        metadata = {"sha256": _digest(value.x, value.y), "score": repr(value.score)}
        try:
            safetensors.torch.save_file({"x": value.x, "y": value.y}, path, metadata)
        except SafetensorError as error:  # what the disk refuses too
            raise OSError(str(error)) from None

    def size(self, value: Recording) -> int:
        return value.x.nbytes + value.y.nbytes


def recorded(track: int, seed: int, size: int, noise: float) -> Recording:
    """The recording of a track: from the disk, else made now. DataError if the simulator is not installed."""
    made_of = [FORMAT, versions(), asdict(Expert()), CONTROLS, [SHORTEST, LONGEST], track, seed, size, noise]
    name = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
    recordings = Recordings(cache.folder().with_name("carracing"), LIMIT)
    return recordings.get(f"{name}.safetensors", lambda: record(Simulator(track, size), Expert(), track, seed, noise))


def record(world: World, expert: Callable[[World], int], track: int, seed: int, noise: float) -> Recording:
    """Drive an episode; `noise` is the probability, at each frame, that a disturbance begins."""
    g = rng.generator(seed, "disturbance", track)
    views, choices, action, left = [], [], 0, 0
    while not world.done:
        choice = expert(world)
        views.append(world.view)
        choices.append(choice)
        starts, which, length = torch.rand(3, generator=g).tolist()
        if left == 0 and starts < noise:
            action, left = int(which * len(ACTIONS)), SHORTEST + int(length * (LONGEST - SHORTEST + 1))
        world.step(action if left else choice)
        left = max(0, left - 1)
    return Recording(torch.stack(views), torch.tensor(choices), world.score)


def _digest(x: Tensor, y: Tensor) -> str:
    digest = hashlib.sha256(x.numpy())
    digest.update(y.numpy())
    return digest.hexdigest()
