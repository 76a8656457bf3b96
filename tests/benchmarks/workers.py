"""Seconds of `stillhouse experts` with one and with two workers on this machine, by part.

    python tests/benchmarks/workers.py [--json FILE] [--recipe digits] [KEY=VALUE]...

Each run has its own home and is the whole command, from start to exit. The parts are read from the modification times
of the objects in the store: begin (command to the first epoch of training, from the first expert's end and the
others' pace), experts, seal (last expert to manifest), end (manifest to exit).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(workers: int, o: argparse.Namespace) -> dict[str, float]:
    """One command; seconds."""
    with tempfile.TemporaryDirectory() as home:
        settings = ["threads=1", f"experts.workers={workers}", f"experts.count={o.count}", *o.overrides]
        started = time.time()
        subprocess.run(
            [sys.executable, "-m", "tune.cli", "experts", o.recipe, *settings],
            env={**os.environ, "STILLHOUSE_HOME": home, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        ended = time.time()
        (folder,) = Path(home, "store", "experts").iterdir()
        experts = sorted(p.stat().st_mtime for p in folder.glob("expert-*.arrow"))
        (sealed,) = [p.stat().st_mtime for p in folder.glob("manifest-*.json")]
    # Workers write in turns: one expert every `pace` seconds, so training one takes workers * pace.
    pace = (experts[-1] - experts[0]) / (len(experts) - 1)
    expert = pace * workers
    return {
        "seconds": ended - started,
        "begin": experts[0] - started - expert,
        "expert": expert,
        "training": experts[-1] - experts[0] + expert,
        "seal": sealed - experts[-1],
        "end": ended - sealed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--count", type=int, default=20, help="experts")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    o = parser.parse_args()
    runs = {n: [] for n in (1, 2)}
    for _ in range(o.repeats):
        for n, repeats in runs.items():
            repeats.append(run(n, o))
    rows = [
        {"workers": n, "count": o.count, **{key: statistics.median(r[key] for r in repeats) for key in repeats[0]}}
        for n, repeats in runs.items()
    ]
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    print(
        f"training {rows[0]['training'] / rows[1]['training']:.2f}x, all {rows[0]['seconds'] / rows[1]['seconds']:.2f}x"
    )
    if o.json:
        o.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
