"""Frames of CarRacing with what an expert did: recorded here by a scripted driver, nothing to download.

Needs the simulator (`pip install 'stillhouse[carracing]'`), also to read what was recorded before. Whole episodes, each
on a track of its own, are recorded until there are enough frames; each is kept on the local disk as soon as it ends, so
a recording that was stopped continues. The training, the held-out and the test part share no episode.
"""

from pathlib import Path

import torch

from distill.carracing.driving import track_seeds
from distill.carracing.recording import Recording, recorded
from distill.carracing.simulator import ACTIONS
from distill.data.base import Raw
from distill.data.images import Notice, silent
from distill.recipe import CarRacingFrames


def read(settings: CarRacingFrames, notice: Notice = silent) -> Raw:
    """uint8 images (n, 3, size, size), six classes; `train_group` is the episode of each training frame."""
    train = _part(settings, "train", settings.frames, notice)
    test = _part(settings, "test", settings.frames_test, notice)
    group = torch.cat([torch.full_like(episode.y, k) for k, episode in enumerate(train)])
    (x, y), (test_x, test_y) = (
        (torch.cat([e.x for e in part]), torch.cat([e.y for e in part])) for part in (train, test)
    )
    return Raw(x, y, test_x, test_y, ACTIONS, group)


def sources(settings: CarRacingFrames) -> list[Path]:
    """Empty: there are no files, and recordings have a cache of their own."""
    return []


def _part(settings: CarRacingFrames, part: str, frames: int, notice: Notice) -> list[Recording]:
    """The episodes of a part, until they have `frames` frames."""
    episodes: list[Recording] = []
    while (done := sum(len(episode.y) for episode in episodes)) < frames:
        notice(f"recorded {part} frames", done, frames)
        (track,) = track_seeds(settings.recording, part, 1, first=len(episodes))
        episodes.append(recorded(track, settings.recording, settings.size, settings.noise))
    return episodes
