"""Ctrl-C and SIGTERM: what stops a command, how it ends within seconds, and with which exit code.

The signal raises Stopped in the main thread. Jobs that see it pass ask their workers for a last checkpoint and mark
their runs in MLflow; then main() prints how to continue and calls end(). Ray is not shut down in order: that would take
10 s and more.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
MARK_SECONDS = 1.0
"""How long a command that is stopped waits for MLflow, to mark its run there."""
RAY_SECONDS = 2.0
"""How long a call into Ray may take until the command ends without it."""
RETRY_SECONDS = 0.02
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopped(BaseException):
    """A signal asks the command to stop. Not an Exception: nothing that handles errors may hold it up."""

    def __init__(self, signum: int):
        super().__init__(NAMES.get(signum, f"signal {signum}"))
        self.signum = signum
        self.saved = ""
        """What was saved on the way out, for the user."""
        self.options: tuple[str, ...] = ()
        """What to add to the command that continues."""

    @property
    def code(self) -> int:
        """The exit code by which shells and schedulers know the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """In the block Ctrl-C and SIGTERM raise Stopped in this thread, the main one; a second signal ends at once."""
    before = {signum: signal.signal(signum, _stop) for signum in NAMES}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _stop(signum: int, frame: FrameType | None) -> None:
    for each in NAMES:
        signal.signal(each, _end_now)
    _raise(Stopped(signum), frame, time.monotonic() + RAY_SECONDS)


def _raise(stop: Stopped, frame: FrameType | None, deadline: float) -> None:
    """Raise it once this thread is outside of Ray, whose compiled code loses exceptions or mangles them."""
    if not _in_ray(frame):
        raise stop
    if time.monotonic() > deadline:
        say_how_to_continue(stop)
        end(stop.code)
    signal.signal(signal.SIGALRM, lambda signum, frame: _raise(stop, frame, deadline))
    signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)


def _in_ray(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "ray":
            return True
        frame = frame.f_back
    return False


def _end_now(signum: int, frame: FrameType | None) -> None:
    end(128 + signum)


def say_how_to_continue(stop: Stopped) -> None:
    """One line: what was saved, and the command that continues."""
    command = shlex.join(["stillhouse", *sys.argv[1:], *stop.options])
    print(f"stopped by {stop}{stop.saved and f', {stop.saved}'}; to continue: {command}", file=sys.stderr)


def end(code: int) -> None:
    """End this process and all that it started, without waiting for anything."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    end_children()
    os._exit(code)


def end_children() -> None:
    """SIGKILL all that this process started, and what that started."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def within(seconds: float, call: Callable[[], T]) -> T | None:
    """Its answer, if it comes in time; what goes wrong in it is of no interest on the way out."""
    answers = []

    def run() -> None:
        with contextlib.suppress(Exception):
            answers.append(call())

    thread = threading.Thread(target=run, name="stopping", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


@contextlib.contextmanager
def kept_handler(signum: int = signal.SIGTERM) -> Iterator[None]:
    """Python's handler of a signal stays what it is, whatever C code in the block installs. From any thread.

    Ray's core installs one for SIGTERM that prints a C++ stack trace and ends the process.
    """
    import ctypes

    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.argtypes, get.restype = [ctypes.c_int], ctypes.c_void_p
    put.argtypes, put.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    handler = get(signum)
    try:
        yield
    finally:
        put(signum, handler)
