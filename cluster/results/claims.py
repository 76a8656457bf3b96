"""One command at a time works on a run, a set of experts or a sweep: the second waits, and names the first.

    with claimed(store, "runs/digits-ebf0b5015cd53f9a-160"):
        ...

A claim is an object in the store, `claims/<folder>/<number>.json`, of which the highest number counts. Its holder
replaces it by the next one every BEAT seconds, and at the end by one without an owner, so numbers only grow. A number
is created once; whoever creates one that was used and dropped before sees a higher one, and withdraws. A claim that was
not renewed for SILENT seconds, by the clock of the command that waits, or whose process has ended on this machine, is
free: so a killed command keeps nothing. Two commands that work on one thing all the same, as after a machine slept,
write the same bytes.
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
"""Seconds between two renewals; until a claim that is not renewed is free; between two looks while waiting."""


@dataclass(frozen=True)
class Claim:
    """Who works on something."""

    owner: str
    """Empty if no command does."""
    host: str
    pid: int
    born: str

    def gone(self) -> bool:
        """Whether it has no owner, or that of a process of this machine that has ended."""
        if not self.owner or self.host != socket.gethostname():
            return not self.owner
        return not processes.alive(self.pid, self.born) or (self.pid == os.getpid() and self.owner not in _held)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


FREE = Claim("", "", 0, "")
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
            if _replaced(store, place, number, mine):
                return number + 1
        elif holder.owner != said:
            said = holder.owner
            log.warning("%s works on %s: waiting until it has ended", holder, place.removeprefix("claims/"))
        time.sleep(LOOK)


def _renew(store: Store, place: str, mine: Claim, number: int, done: threading.Event) -> None:
    while not done.wait(BEAT):
        try:
            if not _replaced(store, place, number, mine):
                if done.is_set():  # given back meanwhile
                    return
                log.warning("%s: this command was silent for so long that another one took over", place)
                return
            number += 1
        except StoreError as error:  # the work itself meets it too, and says what to do
            log.debug("claim %s: %s", place, error)


def _highest(store: Store, place: str) -> tuple[int, Claim | None]:
    """The claim that counts and its number; 0 and None if there is none."""
    for entry in reversed(store.list(f"{place}/")):
        with contextlib.suppress(MissingError):  # renewed meanwhile
            return int(entry.key.rpartition("/")[2].partition(".")[0]), Claim(**json.loads(store.read(entry.key)))
    return 0, None


def _replaced(store: Store, place: str, number: int, claim: Claim) -> bool:
    """Put a claim in the place of the one with this number; False if another command did so before."""
    try:
        store.create(_key(place, number + 1), json.dumps(asdict(claim)).encode())
    except (ConflictError, MissingError):  # missing: of another command, which replaced it while this one looked
        return False
    above = [entry.key for entry in store.list(f"{place}/") if entry.key > _key(place, number + 1)]
    store.delete(_key(place, number + 1 if above else number), dry_run=False)
    return not above


def _drop(store: Store, place: str, mine: Claim) -> None:
    """Give it back. A store that is away keeps the claim of a process that has ended, which is free."""
    number, holder = _highest(store, place)
    if holder == mine:
        _replaced(store, place, number, FREE)


def _key(place: str, number: int) -> str:
    return f"{place}/{number:08d}.json"
