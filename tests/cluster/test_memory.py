"""Memory that runs out in a worker, on the command line: which setting to change, and by how much."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import TINY

STILLHOUSE = str(Path(sys.executable).with_name("stillhouse"))
LIMIT = 8 << 30  # bytes of memory of its own that a process may have here: enough for all that Ray starts
# A network of 68 million parameters whose first convolution of 256 images of 8x8 wants 26 GB in one piece: it fails at
# once, before anything is computed.
HUGE = ("network.depth=1", "network.width=400000", "synthetic.ipc=100", "synthetic.init=noise")
UNROLLED = ("objective={}", "objective.kind=unrolled", "objective.unroll=40", "objective.window=20")


SIZE = r"([\d.]+ [GT]B)"


def gigabytes(size: str) -> float:
    number, unit = size.split()
    return float(number) * {"GB": 1, "TB": 1000}[unit]


@pytest.mark.ray
def test_out_of_memory_in_a_worker_names_the_settings_and_what_each_saves(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STILLHOUSE_", "MLFLOW_"))}
    tiny = [s for s in TINY if not s.startswith(("objective.", "network."))]
    done = subprocess.run(
        [STILLHOUSE, "distill", "digits", *tiny, *UNROLLED, *HUGE],
        env={**kept, "STILLHOUSE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)),
    )
    said = done.stderr
    assert done.returncode == 2, said + done.stdout
    assert said.startswith("error: out of memory while distilling") and "Traceback" not in said
    assert re.search(r"can't allocate memory: you tried to allocate \d{11} bytes", said), said
    needed = gigabytes(re.search(rf"needs about {SIZE}; {SIZE} is free", said)[1])
    assert needed > 26
    # Images rule here, so that half of them is half of the memory, and half of their precision some of it.
    for setting, least in (("objective.batch_syn=500", 0.4), ("objective.engine.bf16=true", 0.01)):
        less = re.search(rf"{re.escape(setting)} saves {SIZE} \(then {SIZE}\)", said)
        saved, then = map(gigabytes, less.groups())
        assert saved > least * needed and abs(saved + then - needed) < 0.02 * needed, said
    assert not list(tmp_path.rglob("result.json"))
