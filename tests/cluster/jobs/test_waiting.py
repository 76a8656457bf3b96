"""Rank 0 may judge for longer than the timeout of the process group: the others wait for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "support" / "slow_judge.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{SCRIPT.parents[2]}{os.pathsep}{SCRIPT.parents[1]}"}
SECONDS = "3"  # of a judgement, where the group's timeout is 2


@pytest.mark.parametrize(("manner", "ends"), [("patient", True), ("impatient", False)])
def test_a_judgement_longer_than_the_groups_timeout_does_not_end_the_run(tmp_path, manner, ends):
    workers = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(tmp_path / "rendezvous"), SECONDS, manner],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [worker.communicate()[0] for worker in workers]
    codes = [worker.returncode for worker in workers]
    if ends:
        assert codes == [0, 0] and all("done 1" in text for text in said), said
    else:
        assert any(codes) and "imed out" in "".join(said), said
