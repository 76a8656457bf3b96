"""Ending processes as failing machines do: at once, with all that they started."""

import contextlib

import psutil


def kill_tree(pid: int) -> None:
    """SIGKILL a process and everything below it, as when its machine goes down.

    Workers of a dead driver may otherwise live on long enough to finish.
    """
    for member in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
