"""Riding out a store or a tracking server that answered before and is away: retries for minutes, and says so.

patiently(lambda: client.get(...), is_away, "store s3://bucket/x")
"""

import errno
import logging
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("stillhouse")
SECONDS = 600.0
"""How long to wait; STILLHOUSE_PATIENCE has another number of seconds."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
SAY_SECONDS = 30.0

_met: set[str] = set()
"""What has answered this process, or the one that started it."""


def expect(what: str) -> None:
    """From now on this is waited for: it has answered another process of the same command."""
    _met.add(what)


def patiently(call: Callable[[], T], is_away: Callable[[Exception], bool], what: str) -> T:
    """The answer of a call. What never answered is not waited for: its address is probably wrong.

    An error that `is_away` accepts is tried again with pauses that double, up to 15 s, for 10 minutes in all; then it
    is raised, as every other error is at once.
    """
    pause, waited, said = FIRST_PAUSE, 0.0, -SAY_SECONDS
    while True:
        try:
            answer = call()
        except Exception as error:
            most = float(os.environ.get("STILLHOUSE_PATIENCE", SECONDS))
            if what not in _met or waited >= most or not is_away(error):
                raise
            if waited - said >= SAY_SECONDS:
                said = waited
                log.warning("waiting for %s (%.0f of up to %.0f s): %s", what, waited, most, first_line(error))
            now = min(pause * random.uniform(0.75, 1.0), most - waited)
            time.sleep(now)
            waited, pause = waited + max(now, 0.01), min(2 * pause, LONGEST_PAUSE)
        else:
            _met.add(what)
            if waited:
                log.warning("%s answers again after %.0f s", what, waited)
            return answer


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some append."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that a disk is full."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "disk is full" in str(error) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
