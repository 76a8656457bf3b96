"""Processes that outlive the command that started them, and finding every one that descends from them again.

Children are marked with an environment variable, which their children inherit, and write to a file of the stack. Some
programs (Ray's workers) overwrite the memory in which the system shows their environment: those are known by the file
that they write to. So what is stopped is what this stack started, whoever is its parent by now, and nothing else.
"""

import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

MARK = "STILLHOUSE_STACK"
"""The environment variable that marks the processes of a stack with its name."""
PATIENCE = 20.0
"""Seconds between SIGTERM and SIGKILL."""


def start(command: list[str], env: dict[str, str], mark: str, log: Path) -> subprocess.Popen:
    """Start a process of its own session, which a Ctrl-C in this terminal does not reach; its output goes to `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            env=env | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=log.parent,
            start_new_session=True,
        )


def find(mark: str, folders: Iterable[Path]) -> list[psutil.Process]:
    """Every living process of this user that has the mark, or writes to a file below one of the folders."""
    places = [f"{folder}{os.sep}" for folder in folders]
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                if process.environ().get(MARK) == mark or _writes_below(process, places):
                    found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue  # gone meanwhile, or another user's
    return found


def _writes_below(process: psutil.Process, places: list[str]) -> bool:
    files = (file for file in process.open_files() if getattr(file, "mode", "r") != "r")
    return any(file.path.startswith(place) for file in files for place in places)


def stop(mark: str, folders: Iterable[Path]) -> int:
    """End all of a stack's processes and return how many there were.

    Those whose parent is not of the stack are asked to end first, for they stop their own children in order. What has
    not ended after 20 seconds is killed.
    """
    folders, seen, deadline = list(folders), set(), time.monotonic() + PATIENCE
    everyone = find(mark, folders)
    seen |= {p.pid for p in everyone}
    leaders = [p for p in everyone if _parent(p) not in seen]
    _signal(leaders, "terminate")
    psutil.wait_procs(leaders, timeout=PATIENCE)
    while left := find(mark, folders):  # again: a process may have started another while this looked
        seen |= {p.pid for p in left}
        _signal(left, "terminate" if time.monotonic() < deadline else "kill")
        psutil.wait_procs(left, timeout=1)
    return len(seen)


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _signal(processes: list[psutil.Process], how: str) -> None:
    for process in processes:
        try:
            getattr(process, how)()
        except psutil.NoSuchProcess:
            pass


def birth(pid: int) -> str:
    """What distinguishes a process from all others that have its number. Raises psutil.NoSuchProcess.

    On Linux the boot and the time after it: the date of a start, as psutil gives it, moves if the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {fields[19]}"
    except (OSError, IndexError):
        return f"{psutil.Process(pid).create_time():.2f}"


def alive(pid: int, born: str) -> bool:
    """Whether the process that was noted with this number and birth still runs."""
    try:
        return birth(pid) == born and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
