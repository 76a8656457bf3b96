"""The Slurm script, with Slurm and Ray played by scripts that write down how they were called."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.infra import INFRA

SCRIPT = INFRA / "slurm.sh"
PROGRAMS = {
    "scontrol": 'echo "scontrol $*" >> "$CALLS"; [ "$1" = show ] && printf "n1\\nn2\\nn3\\n"; exit 0',
    "srun": 'echo "srun $*" >> "$CALLS"; while [ "${1#-}" != "$1" ]; do case "$1" in -w|-x) shift;; esac; shift; done; '
    'exec "$@"',
    "ray": 'echo "ray $* mode=$RAY_AUTH_MODE token=$(cat "$RAY_AUTH_TOKEN_PATH")" >> "$CALLS"; '
    'if [ "$1" = health-check ]; then grep -q "^ray start --head" "$CALLS"; exit; fi; exec sleep 600',
    "stillhouse": 'echo "stillhouse $* at=$RAY_ADDRESS" >> "$CALLS"; '
    '[ -z "$RAY_ADDRESS" ] || until grep -q "^ray start --address" "$CALLS"; do sleep 0.1; done; '  # needs its nodes
    '[ -n "$WAITS" ] || exit 0; '
    'trap "echo checkpoint >> $CALLS; exit $WAITS" TERM; touch "$CALLS.waiting"; while :; do sleep 0.1; done',
}


@pytest.fixture
def job(tmp_path):
    """Start the script as Slurm does on so many nodes: the process, and what was called so far."""
    calls, started = tmp_path / "calls", []
    calls.touch()
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def start(nodes: int, *arguments: str, waits: str = "") -> tuple[subprocess.Popen, Path]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
        env = kept | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls), "WAITS": waits,
            "STILLHOUSE_HOME": str(tmp_path / "home"), "SLURM_JOB_ID": "417", "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_JOB_NODELIST": "n[1-3]",
        }  # fmt: skip
        started.append(subprocess.Popen(["bash", SCRIPT, *arguments], env=env, start_new_session=True))
        return started[-1], calls

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def test_one_node_is_a_plain_command(job):
    process, calls = job(1, "digits", "outer.steps=20")
    assert process.wait(60) == 0
    assert calls.read_text() == "stillhouse distill digits outer.steps=20 at=\n"


def test_several_nodes_become_one_cluster_with_a_token_which_ends_with_the_job(job, tmp_path):
    process, calls = job(3, "digits")
    assert process.wait(60) == 0
    text = calls.read_text()
    head, rest = (
        re.search(r"srun (.*) ray start --head (.*)", text),
        re.search(r"srun (.*) ray start --address=(\S+)", text),
    )
    assert "-w n1" in head[1] and "--block" in head[2] and "--nodes=1" in head[1]
    assert "-x n1" in rest[1] and "--nodes=2" in rest[1] and "--ntasks=2" in rest[1]
    assert f"stillhouse distill digits at={rest[2]}" in text and rest[2].startswith("n1:")
    assert f"--port={rest[2].split(':')[1]}" in head[2]
    tokens = set(re.findall(r"mode=token token=([0-9a-f]{64})", text))
    assert len(tokens) == 1 and text.count("mode=token") == text.count("\nray ")
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("code, again", [("143", True), ("0", False)])
def test_a_preempted_run_saves_and_goes_back_into_the_queue(job, nodes, code, again):
    process, calls = job(nodes, "digits", waits=code)
    while not Path(f"{calls}.waiting").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == int(code)
    assert "checkpoint\n" in calls.read_text() and ("scontrol requeue 417" in calls.read_text()) == again


def test_a_failed_run_is_not_tried_again(job, tmp_path):
    process, calls = job(1, "digits", waits="")
    assert process.wait(60) == 0  # a script that still runs can't be written to
    (tmp_path / "bin" / "stillhouse").write_text("#!/bin/bash\nexit 2\n")
    process, calls = job(1, "digits")
    assert process.wait(60) == 2 and "requeue" not in calls.read_text()


def test_a_recipe_is_needed(job):
    process, calls = job(1)
    assert process.wait(60) == 2 and calls.read_text() == ""


def test_slurm_gives_notice_in_time_for_a_checkpoint_and_may_requeue():
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?", SCRIPT.read_text(), re.MULTILINE))
    assert re.fullmatch(r"B:TERM@(\d+)", options["signal"])[1] >= "120" and "requeue" in options
    assert options["open-mode"] == "append"
