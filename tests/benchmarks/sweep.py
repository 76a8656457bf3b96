"""What a sweep costs besides its trials: wall time against the time of its trials divided by the concurrency.

python tests/benchmarks/sweep.py --json sweep.json                  # about 10 minutes on 2 cores
python tests/benchmarks/sweep.py --seconds 10 --trials 4

Trials are digits runs of about `--seconds` each; experts are trained and the steps are timed before the clock starts.
`over` is (wall - ideal) / ideal, from the start of the command to the report, publication of the winner included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = ("threads=1", "experts.count=4", "experts.epochs=10", "objective.max_start_epoch=5", "outer.workers=1")
JUDGING = ("evaluation.epochs=50", "evaluation.networks=2", "evaluation.selection_networks=2")


def command(*arguments: str, home: Path) -> float:
    """Run `stillhouse ARGUMENTS`; its wall time in seconds."""
    started = time.monotonic()
    environment = {**os.environ, "STILLHOUSE_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "tune.cli", *arguments], check=True, env=environment, stdout=sys.stderr)
    return time.monotonic() - started


def sweep(folder: Path, trials: int, steps: int, concurrency: int) -> str:
    """A sweep whose trials all take the same time."""
    rates = ", ".join(str(5.0 + i) for i in range(trials))
    lines = ['name = "benchmark"', 'recipe = "digits"', f"concurrency = {concurrency}", "[overrides]"]
    for override in (*RECIPE, *JUDGING, f"outer.steps={steps}", f"outer.evaluate_every={max(1, steps // 4)}"):
        lines.append(override)
    lines += ["[searcher]", 'kind = "grid"', "[scheduler]", 'kind = "none"', "[search]"]
    lines += [f'"outer.lr_img" = {{ kind = "grid", values = [{rates}] }}']
    (folder / "benchmark.toml").write_text("\n".join(lines) + "\n")
    return str(folder / "benchmark.toml")


def measure(options: argparse.Namespace, folder: Path) -> dict:
    home, figures = folder / "home", folder / "figures.json"
    command("experts", "digits", *RECIPE, home=home)
    command("sweep", sweep(folder, 2, 40, 2), "--json", str(figures), home=folder / "probe")
    probe = json.loads(figures.read_text())["trials"]
    steps = max(8, round(40 * options.seconds / min(t["seconds"] for t in probe)))
    source = sweep(folder, options.trials, steps, options.concurrency)
    wall = command("sweep", source, "--json", str(figures), home=home)
    own = [t["seconds"] for t in json.loads(figures.read_text())["trials"]]
    ideal = sum(own) / options.concurrency
    return {
        "trials": options.trials,
        "concurrency": options.concurrency,
        "steps": steps,
        "trial_seconds": sum(own) / len(own),
        "wall_seconds": wall,
        "ideal_seconds": ideal,
        "over": (wall - ideal) / ideal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    for name, default in (("seconds", 60), ("trials", 12), ("concurrency", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(options, Path(temporary))
    for name, value in figures.items():
        print(f"{name:16} {value:,.4g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
