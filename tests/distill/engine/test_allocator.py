"""What `settle` does to a process: large pages, freed memory given back, the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Tensors of 8 MB, every second of which is let go; then what the process holds, and a sum that depends on the bits. The
# one of 16 MB before makes the C library keep pieces of that size, as any larger tensor does.
SCRIPT = """
import json, sys, torch
from distill.engine import allocator
if sys.argv[1] == "settled":
    allocator.settle()
torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
torch.ones(1 << 22)
kept = [torch.randn(1024, 2048, generator=g) for _ in range(40)]
del kept[::2]
held = {l.split()[0]: int(l.split()[1]) * 1024 for l in open("/proc/self/smaps_rollup") if l.endswith(" kB\\n")}
product = kept[0] @ kept[1].T
print(json.dumps({"huge": held["AnonHugePages:"], "held": held["Anonymous:"], "sum": product.sum().item()}))
"""


def run(how: str) -> dict:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "THP_"))}
    env = {**kept, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not PAGES.exists() or "[never]" in PAGES.read_text(), reason="the kernel gives no large pages")
def test_tensors_lie_in_large_pages_freed_ones_are_given_back_and_bits_stay():
    plain, settled = run("plain"), run("settled")
    assert settled["huge"] > 100e6
    if "[always]" not in PAGES.read_text():
        assert plain["huge"] == 0
    kept = 20 * 8 * 2**20
    assert plain["held"] > settled["held"] + 100e6, "the C library keeps what was freed"
    assert settled["held"] < kept + 250e6, "what is left besides is the libraries'"
    assert settled["sum"] == plain["sum"]
