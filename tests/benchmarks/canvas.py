"""Crops of canvases against a loop that rolls each canvas and cuts the corner out, as the published code does it.

    python tests/benchmarks/canvas.py --json canvas.json

Forward and backward of one batch: 10 and 200 canvases of 128x128 pixels, one 64x64 crop of each. Both ways take turns;
seconds are medians. The gradients are compared first.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from distill import recipe
from distill.synthetic.canvas import Canvas

SIZES = (10, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = [measure(n, options.repeats) for n in SIZES]
    for f in figures:
        ours, loop = f["ours_seconds"], f["loop_seconds"]
        print(f"{f['canvases']} canvases: ours {1e3 * ours:.2f} ms, loop {1e3 * loop:.2f} ms, {loop / ours:.2f}x")
    if options.json:
        options.json.write_text(json.dumps({"threads": torch.get_num_threads(), "figures": figures}, indent=2) + "\n")


def measure(n: int, repeats: int) -> dict:
    g = torch.Generator().manual_seed(0)
    canvas = Canvas(recipe.Canvas(), torch.randn(n, 3, 128, 128, generator=g), (64, 64), n)
    pull, index = torch.randn(n, 3, 64, 64, generator=g), torch.arange(n)

    def ours(seed: int) -> torch.Tensor:
        x = canvas.images(index, torch.Generator().manual_seed(seed))
        return torch.autograd.grad(x, canvas.x, pull)[0]

    def loop(seed: int) -> torch.Tensor:
        u = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed))
        corners = (u * 128).long().tolist()
        x = torch.stack([
            torch.roll(x, (-top, -left), (1, 2))[:, :64, :64]
            for x, (top, left) in zip(canvas.x.unbind(), corners, strict=True)
        ])  # fmt: skip
        return torch.autograd.grad(x, canvas.x, pull)[0]

    assert torch.allclose(ours(0), loop(0), atol=1e-6), "the gradients differ"
    seconds: dict[str, list[float]] = {"ours": [], "loop": []}
    for repeat in range(repeats + 2):
        for name, way in (("ours", ours), ("loop", loop)):
            start = time.perf_counter()
            way(repeat)
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    return {"canvases": n, "ours_seconds": median["ours"], "loop_seconds": median["loop"]}


if __name__ == "__main__":
    main()
