"""Experts that are still being trained: whoever trains shows signs of life, whoever needs them waits for as long.

A sign of life is an empty object `experts/<name>/training-<token>-<number>`, replaced by the next one every few
seconds. Whether there is life is told from signs that change, so that no two machines' clocks are compared and one
that a killed process left behind is known for what it is.
"""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cluster.trajectories import manifest as m
from distill.errors import ExpertsMissing, StoreError

if TYPE_CHECKING:
    from cluster.trajectories.sets import TrajectorySet

BEAT_SECONDS = 15.0
POLL_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""Without a change of any object of the set for so long, nobody is training."""
_log = logging.getLogger("stillhouse")


@contextlib.contextmanager
def training(experts: "TrajectorySet", every: float = BEAT_SECONDS) -> Iterator[None]:
    """Shows signs of life while the block runs; the first before it begins, none after it ends."""
    store, token, stop = experts.store, secrets.token_hex(4), threading.Event()
    store.create(m.beat_key(experts.name, token, 0), b"")

    def beat() -> None:
        number = 0
        while not stop.wait(every):
            # A store that is away for a while costs a sign; what it costs the training, the training says.
            with contextlib.suppress(StoreError):
                store.create(m.beat_key(experts.name, token, number + 1), b"")
                store.delete(m.beat_key(experts.name, token, number), dry_run=False)
                number += 1

    thread = threading.Thread(target=beat, daemon=True, name="signs-of-life")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for entry in experts.entries():
            if entry.key.rpartition("/")[2].startswith(f"training-{token}-"):
                store.delete(entry.key, dry_run=False)


def wait_for(experts: "TrajectorySet", count: int, pause: Callable[[float], None] = time.sleep) -> None:
    """Return as soon as `count` experts are sealed.

    Raises ExpertsMissing, with the command that trains them, as soon as no other process is seen to.
    """
    seen: set[str] = set()
    quiet, said = 0.0, -1
    while True:
        keys = {entry.key for entry in experts.entries()}
        sealed = max(_numbers(m.manifest_count, keys), default=0)
        if sealed >= count:
            return
        there = len(_numbers(m.expert_number, keys))
        quiet = 0.0 if keys != seen else quiet + POLL_SECONDS
        if quiet >= PATIENCE_SECONDS or not any(m.is_beat(key) for key in keys):
            raise _missing(experts, there, sealed, count)
        if there != said:
            _log.info("waiting for experts: %d of %d are trained, another process is training them", there, count)
        seen, said = keys, there
        pause(POLL_SECONDS)


def _numbers(number: Callable[[str], int | None], keys: set[str]) -> list[int]:
    return [n for n in map(number, keys) if n is not None]


def _missing(experts: "TrajectorySet", there: int, sealed: int, count: int) -> ExpertsMissing:
    recipe = experts.about().get("recipe", "RECIPE")
    return ExpertsMissing(
        f"{experts.where}: {count} experts are needed, {there} are trained, {sealed} of them sealed, and no process "
        f"goes on with them; run `stillhouse experts {recipe} experts.count={count}`, then this command again: it "
        "goes on from its last checkpoint"
    )
