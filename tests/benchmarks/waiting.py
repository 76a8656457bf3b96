"""Seconds of an outer step whose threads spin for longer or shorter while they wait, alone and beside other work.

    python tests/benchmarks/waiting.py [--json FILE] [--spins default,20000,1000,passive] [--busy 0,1] [--quick]

Threads of a step wait for each other after every kernel. Those that spin are there at once; on a core that another
process wants they keep it from working, and the thread that all wait for too. GOMP_SPINCOUNT, which cluster/__init__.py
sets, is how often one looks before it sleeps (libgomp's default is 300,000; "passive" is OMP_WAIT_POLICY's: never).
One outer step of unroll.py's engine, 10 images and N = 5, in processes of their own that take turns, with as many
threads as cores; then the same beside --busy processes that multiply matrices. Medians, and the least.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

UNROLL = Path(__file__).with_name("unroll.py")
BUSY = "import torch; torch.set_num_threads(1); a = torch.randn(600, 600)\nwhile True: a @ a"
OUTER = "10 5 -\n"
"""Images, inner steps, and no file for the gradient: a question to `unroll.py --serve`."""


@contextmanager
def rival(spin: str, o: argparse.Namespace) -> Iterator[subprocess.Popen]:
    """A process with the compiled engine that answers questions with seconds."""
    setting = {"default": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}.get(spin, {"GOMP_SPINCOUNT": spin})
    clean = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    threads = {"OMP_NUM_THREADS": str(o.threads or os.cpu_count())}
    command = [sys.executable, str(UNROLL), "--serve", "ours", *(["--quick"] if o.quick else [])]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean | threads | setting
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def seconds(process: subprocess.Popen) -> float:
    process.stdin.write(OUTER)
    process.stdin.flush()
    return float(process.stdout.readline())


def rows(o: argparse.Namespace) -> list[dict]:
    """A row for each number of busy processes and each setting."""
    found = []
    with ExitStack() as stack:
        rivals = {spin: stack.enter_context(rival(spin, o)) for spin in o.spins.split(",")}
        for process in rivals.values():
            seconds(process)  # compiles, or reads the compiled code
        running = 0
        for busy in sorted(map(int, o.busy.split(","))):
            for _ in range(busy - running):
                stack.callback(subprocess.Popen([sys.executable, "-c", BUSY]).kill)
            running, taken = busy, {spin: [] for spin in rivals}
            for _ in range(o.repeats):
                for spin, process in rivals.items():
                    taken[spin].append(seconds(process))
            found += [
                {"busy": busy, "spin": spin, "seconds": statistics.median(times), "least": min(times)}
                for spin, times in taken.items()
            ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--spins", default="default,20000,1000,passive", help="settings, comma-separated")
    parser.add_argument("--busy", default="0,1", help="other processes, comma-separated")
    parser.add_argument("--threads", type=int, default=0, help="of each step [default: as many as cores]")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny network: does it run?")
    o = parser.parse_args()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp(prefix="waiting-benchmark-"))
    found = rows(o)
    for row in found:
        print("{busy} busy, spin {spin:>8}: {seconds:.2f} s, least {least:.2f}".format(**row))
    if o.json:
        o.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
