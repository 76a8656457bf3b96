"""Ctrl-C and SIGTERM: the exit code, the line that says how to continue, and never an exception inside of Ray."""

import signal
import subprocess
import sys
import threading

import pytest
import torch
from support.boards import LocalBoard

from cluster import stopping
from cluster.jobs import group
from cluster.jobs.events import Note, Saved
from cluster.jobs.group import Job, Worker
from cluster.stopping import Stopped
from distill.errors import StopRequested

COMMAND = """
import sys, time, types
from cluster import cli
from cluster.cli.options import app

in_ray = types.ModuleType("ray.compiled")
exec("def busy(seconds):\\n    import time\\n    print('ready', flush=True)\\n    end = time.monotonic() + seconds\\n"
     "    while time.monotonic() < end:\\n        pass\\n    print('left ray', flush=True)", in_ray.__dict__)

@app.command()
def wait(where: str):
    if where == "ray":
        in_ray.busy(0.5)
    else:
        print("ready", flush=True)
    time.sleep(3 * 3600)

sys.argv = ["/somewhere/stillhouse", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize(
    "signum, code, name, where",
    [(signal.SIGINT, 130, "Ctrl-C", "python"), (signal.SIGTERM, 143, "SIGTERM", "ray")],
)
def test_a_signal_ends_the_command_with_its_code_and_one_line(signum, code, name, where):
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "wait", where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        out, err = process.communicate()
    assert (process.returncode, err) == (code, f"stopped by {name}; to continue: stillhouse wait {where}\n")
    assert out == ("left ray\n" if where == "ray" else "")


def test_what_continues_is_quoted_for_a_shell(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/bin/stillhouse", "sweep", "my sweep.toml"])
    stop = Stopped(signal.SIGINT)
    stop.saved, stop.options = "with a checkpoint after step 7", ("--resume",)
    stopping.say_how_to_continue(stop)
    assert capsys.readouterr().err == (
        "stopped by Ctrl-C, with a checkpoint after step 7; to continue: stillhouse sweep 'my sweep.toml' --resume\n"
    )


def test_marking_a_run_does_not_hold_up_the_end(monkeypatch):
    entered, release = threading.Event(), threading.Event()

    def hang():
        entered.set()
        release.wait()

    assert stopping.within(0.05, hang) is None
    assert entered.is_set() and not release.is_set()
    release.set()
    assert stopping.within(60, lambda: 7) == 7
    assert stopping.within(60, lambda: 1 / 0) is None  # the line that says how to continue comes anyway


# ---------------------------------------------------------------- jobs


@pytest.fixture
def board(monkeypatch) -> LocalBoard:
    monkeypatch.setattr(group.ray, "get", lambda answer: answer)
    monkeypatch.setattr(group.allocator, "settle", lambda: None)
    monkeypatch.setattr(group, "ASK_SECONDS", 0.0)
    return LocalBoard()


def job_on(board: LocalBoard, work):
    job = Job(work, {}, board, torch.get_num_threads(), 0)
    return lambda: group.in_worker(Worker(0, 1, torch.device("cpu"), board), job)


def stop_after(monkeypatch, polls: int) -> None:
    """As if Ctrl-C were pressed while the driver waits."""
    wait, calls = group.wait, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == polls:
            raise Stopped(signal.SIGINT)
        return wait(*arguments)

    monkeypatch.setattr(group, "wait", interrupted)


def test_a_job_that_is_stopped_saves_before_its_command_ends(board, monkeypatch):
    stop_after(monkeypatch, 2)
    events, steps = [], []

    def work(worker: Worker, config: dict) -> None:
        while not worker.stopping():
            steps.append(len(steps))
        worker.post(Note("saving"))
        worker.saved(f"with step {steps[-1]}")
        raise StopRequested

    with pytest.raises(Stopped) as stopped:
        group.watch(job_on(board, work), board, events.append)
    assert stopped.value.saved == f"with step {steps[-1]}" and events == [Note("saving")]


def test_a_job_of_several_parts_waits_for_the_checkpoint_of_each(board, monkeypatch):
    """One that saves late is waited for, one more that never does is not for long."""
    monkeypatch.setattr(group, "LAST_SECONDS", 60)
    stop_after(monkeypatch, 1)
    asked, ended = threading.Event(), threading.Event()
    monkeypatch.setattr(board.board, "ask_to_stop", asked.set)

    def work() -> None:
        asked.wait()
        for k in range(3):
            board.board.post(Saved(f"part {k}"))
            threading.Event().wait(0.1)
        ended.wait()

    with pytest.raises(Stopped) as stopped:
        group.watch(work, board, print, lambda: 3)
    ended.set()
    assert stopped.value.saved == "part 0; part 1; part 2"


def test_a_job_that_does_not_answer_is_left(board, monkeypatch):
    monkeypatch.setattr(group, "LAST_SECONDS", 0.1)
    stop_after(monkeypatch, 1)
    release = threading.Event()
    with pytest.raises(Stopped) as stopped:
        group.watch(job_on(board, lambda worker, config: release.wait()), board, print)
    release.set()
    assert stopped.value.saved == ""


def test_an_error_while_events_are_handled_does_not_wait_for_the_job(board):
    release = threading.Event()

    def work(worker: Worker, config: dict) -> None:
        worker.post(Note("one"))
        release.wait()

    def refuse(event) -> None:
        raise ConnectionError("the tracking server is gone")

    with pytest.raises(ConnectionError):
        group.watch(job_on(board, work), board, refuse)
    release.set()


def test_a_worker_whose_node_is_reclaimed_saves_and_dies_as_if_killed(board, monkeypatch):
    """Ray starts again what died with a code that is not 0; an exception would end the job."""
    codes = []
    monkeypatch.setattr(group.os, "_exit", codes.append)

    def work(worker: Worker, config: dict) -> None:
        assert not worker.stopping()
        signal.raise_signal(signal.SIGTERM)
        assert worker.stopping()
        worker.saved("all of it")

    before = signal.getsignal(signal.SIGTERM)
    try:
        job_on(board, work)()
    finally:
        group.preempted.clear()
    assert codes == [143] and signal.getsignal(signal.SIGTERM) is before
    assert [event.what for event in board.board.events] == ["all of it"]
