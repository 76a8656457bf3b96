"""Ending processes as failing machines do: at the right moment, at once, with all that they started."""

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    """Until the condition holds; the process, which writes to `log`, must not end before."""
    while not condition():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            raise AssertionError(f"the command ended before the test could interrupt it:\n{log.read_text()}")


def kill_tree(pid: int) -> None:
    """SIGKILL a process and everything below it, as when its machine goes down.

    Workers of a dead driver may otherwise live on long enough to finish.
    """
    for member in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def kill_workers(pid: int) -> None:
    """SIGKILL the workers of a job below a process: Ray Train's, or the task of a single one."""
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(name in " ".join(child.cmdline()) for name in ("RayTrainWorker", "stillhouse-worker")):
                child.kill()
