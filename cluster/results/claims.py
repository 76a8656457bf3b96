"""One command at a time works on a run, a set of experts or a sweep: whoever comes second waits, and says for whom.

    with claimed(store, "runs/digits-ebf0b5015cd53f9a-160"):
        ...

A claim is an object in the store, `claims/<folder>/<number>.json`, the highest number counts, and its holder replaces
it by the next one every BEAT seconds. A number is created once only, so of two commands one gets it. A claim that
nobody renewed for SILENT seconds, by the clock of whoever waits, or whose process has ended on this machine, is taken
over: what a killed command left is nobody's. Two commands that work on one thing all the same, as after a machine
slept, write the same bytes.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cluster.stack import processes
from cluster.stopping import MARK_SECONDS, within
from cluster.store.base import Store
from distill.errors import ConflictError, MissingError, StoreError

log = logging.getLogger("stillhouse")
BEAT, SILENT, LOOK = 15.0, 60.0, 1.0
"""Seconds between two renewals; until a claim that is not renewed is nobody's; between two looks of one that waits."""


@dataclass(frozen=True)
class Claim:
    """Who works on something."""

    owner: str
    host: str
    pid: int
    born: str

    def gone(self) -> bool:
        """Whether its process was on this machine and has ended."""
        if self.host != socket.gethostname():
            return False
        return not processes.alive(self.pid, self.born) or (self.pid == os.getpid() and self.owner not in _held)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


_held: set[str] = set()
"""Owners of this process."""


@contextlib.contextmanager
def claimed(store: Store, folder: str) -> Iterator[None]:
    """In the block no other command works on `folder`. Waits for one that does, and logs once for which."""
    mine = Claim(secrets.token_hex(8), socket.gethostname(), os.getpid(), processes.birth(os.getpid()))
    _held.add(mine.owner)
    number, done = _taken(store, f"claims/{folder}", mine), threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, f"claims/{folder}", mine, number, done), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        _held.discard(mine.owner)
        renewing.join(MARK_SECONDS)
        within(MARK_SECONDS, lambda: _drop(store, f"claims/{folder}", mine))


def _taken(store: Store, place: str, mine: Claim) -> int:
    """Wait until the claim is ours; its number."""
    seen, since, said = None, time.monotonic(), ""
    while True:
        number, holder = _highest(store, place)
        if (number, holder) != seen:
            seen, since = (number, holder), time.monotonic()
        if holder is None or holder.gone() or time.monotonic() - since > SILENT:
            with contextlib.suppress(ConflictError):  # another was first
                store.create(_key(place, number + 1), json.dumps(asdict(mine)).encode())
                store.delete(_key(place, number), dry_run=False)
                return number + 1
        elif holder.owner != said:
            said = holder.owner
            log.warning("%s works on %s: waiting until it has ended", holder, place.removeprefix("claims/"))
        time.sleep(LOOK)


def _renew(store: Store, place: str, mine: Claim, number: int, done: threading.Event) -> None:
    while not done.wait(BEAT):
        try:
            store.create(_key(place, number + 1), json.dumps(asdict(mine)).encode())
            store.delete(_key(place, number), dry_run=False)
            number += 1
        except ConflictError:
            log.warning("%s: this command was silent for so long that another one took over", place)
            return
        except StoreError as error:  # the work itself meets it too, and says what to do
            log.debug("claim %s: %s", place, error)


def _highest(store: Store, place: str) -> tuple[int, Claim | None]:
    """The claim that counts and its number; 0 and None if there is none."""
    for entry in reversed(store.list(f"{place}/")):
        with contextlib.suppress(MissingError):  # renewed meanwhile
            return int(entry.key.rpartition("/")[2].partition(".")[0]), Claim(**json.loads(store.read(entry.key)))
    return 0, None


def _drop(store: Store, place: str, mine: Claim) -> None:
    """Give it back. A store that is away keeps the claim of a process that has ended, which is nobody's."""
    for entry in store.list(f"{place}/"):
        with contextlib.suppress(MissingError):
            if json.loads(store.read(entry.key))["owner"] == mine.owner:
                store.delete(entry.key, dry_run=False)


def _key(place: str, number: int) -> str:
    return f"{place}/{number:08d}.json"


