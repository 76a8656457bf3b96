"""Runs that are killed again and again, on a store that fails meanwhile, end in the bytes of a quiet one.

pytest -m nightly -rP tests/cluster/jobs/test_kills.py        # -rP: says what was killed at which step
STILLHOUSE_KILLS=5 STILLHOUSE_CHAOS_SECONDS=120 pytest -m nightly tests/cluster/jobs/test_kills.py
"""

import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from support.cli import TINY, finish, start
from support.killing import kill_tree, kill_workers
from support.proxy import FAULTS, faulty_proxy

from cluster.results.runs import Run, run_ids
from cluster.store import open_store
from cluster.store.base import Store

pytestmark = [pytest.mark.ray, pytest.mark.nightly]
KILLS = int(os.environ.get("STILLHOUSE_KILLS", 20))
CHAOS_SECONDS = float(os.environ.get("STILLHOUSE_CHAOS_SECONDS", 900))
PAUSE = 30.0
"""Seconds between two blows of the chaos run, at most."""
REAL = [fault for fault in FAULTS if fault not in ("taken", "full")]  # no server says so unless it is true
FAULTY = 0.05
"""Part of the requests to the store that go wrong in it."""
WORKER_KILLS = 4
"""Times that the workers of one driver are killed; it starts them again five times."""
OFTEN = ("outer.checkpoint_every=4", "outer.evaluate_every=200", "outer.picture_every=200", "threads=1")
SETS = {
    "pixels": ("digits", *TINY, "objective.engine.compile=off", "experts.compile=off"),
    "canvas": ("digits", *TINY, "objective.engine.compile=off", "experts.compile=off", "synthetic.kind=canvas"),
    "poster": (
        "poster-digits-05", "dataset.limit=300", "network.depth=1", "network.width=4", "objective.unroll=4",
        "objective.window=2", "objective.engine.compile=off", "evaluation.steps=[5]", "evaluation.networks=2",
        "evaluation.selection_networks=2",
    ),
    "gan": (
        "gendm-digits", "dataset.limit=300", "network.depth=1", "network.width=4", "evaluation.epochs=4",
        "evaluation.networks=2", "evaluation.selection_networks=2", "synthetic.ipc=2", "synthetic.gan.outer.steps=40",
        "synthetic.gan.outer.checkpoint_every=4", "synthetic.gan.outer.evaluate_every=20",
        "synthetic.gan.objective.channels=4", "synthetic.gan.objective.batch_syn=20",
        "synthetic.gan.objective.batch_real=20",
    ),
}  # fmt: skip
"""`gan` is a GAN and what starts from it: one command, two runs."""


def command(kind: str, steps: int) -> tuple[str, ...]:
    return ("distill", *SETS[kind], *OFTEN, f"outer.steps={steps}")


def sha256(store: Store) -> list[str]:
    """Of what each run published."""
    return [Run(store, name).result()["sha256"] for name in run_ids(store)]


def newest(store: Store) -> int:
    """The step of the last checkpoint, of all runs together; 0 without one."""
    last = [keys[-1] for name in run_ids(store) if (keys := Run(store, name).checkpoints())]
    return sum(int(key.rpartition("/")[2].partition(".")[0]) for key in last)


def wait(condition: Callable[[Popen], bool], process: Popen, again: Callable[[], Popen], log: Path) -> Popen:
    """Until the condition holds; starts the command again if all that failed is the start of Ray on a busy machine."""
    while True:
        code = process.poll()  # before the condition: it may end between the two
        if condition(process):
            return process
        assert code != 0, "the run ended before the test could interrupt it"
        if code is not None:
            assert "Ray did not start" in log.read_text()[-600:], log.read_text()[-4000:]
            process = again()
        time.sleep(0.05)


def to_the_end(process: Popen, again: Callable[[], Popen], home: Path) -> str:
    """All that was said in a home, once the command has ended well."""
    process = wait(lambda p: p.poll() == 0, process, again, home / "output.log")
    return finish(process, home)


def quiet(kind: str, steps: int, home: Path) -> list[str]:
    """The SHA-256 of what a run publishes that nothing disturbs."""
    again = functools.partial(start, home, *command(kind, steps))
    to_the_end(again(), again, home)
    return sha256(open_store(f"file:{home}/store"))


@pytest.mark.parametrize("kind", SETS)
def test_kills_at_random_steps_change_no_byte(kind, tmp_path):
    chance, home, steps = random.Random(f"kills of {kind}"), tmp_path / "home", 200 + 40 * KILLS
    store, log = open_store(f"file:{home}/store"), home / "output.log"
    of_workers, last, killed = 0, 0, []

    again = functools.partial(start, home, *command(kind, steps))
    process = again()
    for _ in range(KILLS):
        aim = last + chance.randint(1, 30)
        process = wait(lambda _: newest(store) >= aim, process, again, log)  # noqa: B023
        time.sleep(chance.uniform(0, 0.1))  # between two checkpoints, or inside one
        last, victim = newest(store), chance.choice(["driver", "worker"])
        if victim == "driver" or of_workers == WORKER_KILLS:
            kill_tree(process.pid)
            process.wait()
            process, of_workers, victim = again(), 0, "driver"
        else:
            kill_workers(process.pid)
            of_workers += 1
        killed.append((victim, last))
        assert newest(store) < steps, "the kill came too late to prove anything"
    said = to_the_end(process, again, home)
    assert said.count("resumed after step") >= KILLS - 1, "one that was killed had not even resumed"
    assert KILLS < 5 or {victim for victim, _ in killed} == {"driver", "worker"}
    print(f"{kind}, {steps} steps, killed:", *(f"{victim} at {step}" for victim, step in killed))
    assert sha256(store) == quiet(kind, steps, tmp_path / "quiet")


@pytest.mark.s3
def test_chaos_ends_with_the_bytes_of_a_quiet_run(s3_server, s3_url, tmp_path):
    """Requests to the store fail in every way, it is away for seconds, workers and drivers are killed."""
    chance, home, steps = random.Random("chaos"), tmp_path / "home", int(10 * CHAOS_SECONDS)
    store, log, blows = open_store(s3_url), home / "output.log", []  # the test looks past the proxy
    with faulty_proxy(s3_server.endpoint) as (proxy, endpoint):
        proxy.plan = lambda number, method, path: chance.choice(REAL) if chance.random() < FAULTY else None
        env = {**s3_server.env, "AWS_ENDPOINT_URL": endpoint}
        again = functools.partial(start, home, *command("pixels", steps), "--store", s3_url, **env)
        process, of_workers, last = again(), 0, 0

        def worth() -> bool:
            return newest(store) > last or process.poll() is not None

        for blow in until(CHAOS_SECONDS, chance, worth):
            if process.poll() == 0:
                break  # a fast machine
            if process.poll() is not None:
                blow = "driver"  # Ray did not start on a busy machine: seen below
                assert "Ray did not start" in log.read_text()[-600:], log.read_text()[-4000:]
            if blow == "away":
                plan, proxy.plan = proxy.plan, lambda number, method, path: "drop"
                time.sleep(chance.uniform(5, 20))
                proxy.plan = plan
            elif blow == "worker" and of_workers < WORKER_KILLS:
                kill_workers(process.pid)
                of_workers += 1
            else:
                blow, of_workers = "driver", 0
                if process.poll() is None:
                    kill_tree(process.pid)
                process.wait()
                process = again()
            last = newest(store)
            blows.append(f"{blow} at step {last}")
        said = to_the_end(process, again, home)
        assert any(fault for _, _, fault in proxy.seen)
    print(f"{steps} steps, {sum(bool(fault) for _, _, fault in proxy.seen)} requests went wrong:", *blows, sep="\n")
    assert said.count("resumed after step") >= 2, blows
    assert sha256(store) == quiet("pixels", steps, tmp_path / "quiet"), blows


def until(seconds: float, chance: random.Random, worth: Callable[[], bool]) -> Iterator[str]:
    """Blows at random moments until the time is over, each when there is something to lose since the one before.

    A busy machine takes minutes to start a run: hit every 30 s, it would never get to a step.
    """
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        time.sleep(chance.uniform(PAUSE / 3, PAUSE))
        while not worth():
            if time.monotonic() > over:
                return
            time.sleep(0.5)
        yield chance.choice(["driver", "worker", "away"])
