"""One table of every method on one dataset: test accuracy of networks trained in the same way on what each distills.

    python tests/benchmarks/methods.py digits [KEY=VALUE] --json figures.jsonl [--ipc 1] [--only TEXT]
    python tests/benchmarks/methods.py fashion --json figures.jsonl

Distills one method after another in this process, without Ray, and appends a line of JSON for each; it skips what the
file already has, so it can be stopped and restarted, and ends with the table. Experts are trained first, into
the store. All methods have the data, network, experts and evaluation of the recipe `digits` (for Fashion-MNIST
with the changes in BASE), a budget of --ipc images per class, and settings of their own: methods(), each the overrides
behind `stillhouse distill digits`. Their steps are what a minute or a few of one core allow, not what a paper took.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from cluster import home
from cluster.jobs import experts
from distill import context as contexts
from distill import recipe, synthetic
from distill.context import Context
from distill.evaluate import Judge
from distill.loop import Loop, Watcher
from distill.published import write

BASE = {
    "digits": (),
    "fashion": (
        'dataset={kind="parquet", path="fashion_mnist", limit=10000, limit_test=2000}', "network.depth=3",
        "network.width=16", "experts.count=5", "experts.epochs=8", 'evaluation.augment={strategies=["crop"]}',
        'experts.augment={strategies=["crop"]}',
    ),
}  # fmt: skip
FEW = ("outer.steps=100", "outer.evaluate_every=50")
ADAM = ("outer.optimizer=adam", "outer.lr_img=0.05")
DM = ('objective={kind="distribution", batch_real=64}',)
DC = ('objective={kind="gradient", batch_real=64, distance="cosine", augment={strategies=[]}}', "outer.lr_img=0.1")
DSA = ('objective={kind="gradient", batch_real=64, distance="cosine"}', "outer.lr_img=1")
RAT = ('objective={kind="unrolled", unroll=60, window=20, lr_inner=0.005, batch_real=300}', *ADAM)
GENERATOR = ("outer.optimizer=adam", "outer.lr_img=0.003")


@dataclass(frozen=True)
class Method:
    """A line of the table: a set and an objective, as overrides; `start` names the line that it starts from."""

    name: str
    set: str
    overrides: tuple[str, ...]
    start: str = ""


def methods(ipc: int) -> list[Method]:
    """All lines for a budget of `ipc` images per class."""
    images, smaller = (f'synthetic={{kind="pixels", ipc={ipc}, factor={factor}}}' for factor in (1, 2))
    soft = f'synthetic={{kind="pixels", ipc={ipc}, labels={{mode="learned", lr=0.001}}}}'
    poster = f'synthetic={{kind="poster", ipc={ipc}, init="blend", labels={{mode="fixed"}}}}'
    canvas = 'synthetic={kind="canvas", init="blend"}'
    haba = f'synthetic={{kind="factorized", ipc={max(1, ipc - 1)}, hallucinators=2, init="real"}}'
    generator = f'synthetic={{kind="generator", ipc={ipc}}}'
    codes = f'synthetic={{kind="latents", ipc={ipc}, init="real"}}'
    return [
        Method("MTT", "images", (images, *FEW)),
        Method("DM", "images", (images, *DM, *FEW, *ADAM)),
        Method("DC", "images", (images, *DC, *FEW)),
        Method("DSA", "images", (images, *DSA, *FEW)),
        Method("RaT-BPTT", "images", (images, *RAT, *FEW)),
        Method("RaT-BPTT, learned labels", "images", (soft, *RAT, *FEW)),
        Method("PoDD", "poster", (poster, *RAT, "outer.steps=300", "outer.evaluate_every=100")),
        Method("IDC with DM", "4 images in one", (smaller, *DM, *FEW, *ADAM)),
        Method("HaBa with MTT", "bases, hallucinators", (haba, *FEW)),
        Method("HaBa with DM", "bases, hallucinators", (haba, *DM, *FEW, *ADAM)),
        Method("texture with DM", "toroidal canvases", (canvas, *DM, *FEW, *ADAM)),
        Method("GAN", "generator", (generator, 'objective={kind="adversarial", channels=32}', "outer.steps=600",
                                    "outer.evaluate_every=200", "outer.optimizer=adam", "outer.lr_img=0.01")),
        Method("GenDM", "generator", (generator, *DM, *FEW, *GENERATOR), "GAN"),
        Method("GenTTM", "generator", (generator, *FEW, *GENERATOR), "GAN"),
        Method("LatentDM", "codes of the GAN", (codes, *DM, *FEW, "outer.optimizer=adam", "outer.lr_img=0.1"), "GAN"),
    ]  # fmt: skip


class Progress(Watcher):
    """A line per judgement."""

    def judged(self, step: int, score, best: bool) -> None:
        print(f"    step {step}: {score} held out", flush=True)


def prepared(method: Method, o: argparse.Namespace) -> Context:
    """The recipe of a method with its data, and experts where it needs them, trained if they are missing."""
    start = (f"synthetic.start=file:{_folder(o, method.start)}",) if method.start else ()
    plain = ("evaluation.networks=5", "evaluation.selection_networks=2", "outer.picture_every=100000", "threads=1")
    r = recipe.load("digits", [*BASE[o.data], *method.overrides, *start, *plain, *o.overrides])
    c, store = contexts.prepare(r), home.store_url()
    if r.synthetic.kind == "canvas":  # as large as the budget
        budget = o.ipc * c.classes * math.prod(c.data.shape)
        r = r.model_copy(update={"synthetic": synthetic.sized(c, budget)})
        c = replace(c, recipe=r)
    if r.expert_use == "required":
        experts.train_here(experts.needed_part(c), store)
        c = c.with_experts(experts.open_reader(c, store))
    return c


def measure(method: Method, o: argparse.Namespace) -> dict:
    """Distill by one method, keep the set, and judge the step that the held-out part chose on the test part."""
    c, started = prepared(method, o), time.process_time()
    loop = Loop(c, Progress())
    best = loop.run()
    write(loop.published(), _folder(o, method.name))
    loop.synthetic.load_learned_state(best.state)
    lr = best.student_lr or c.recipe.evaluation.lr
    test = loop.judge.score(loop.synthetic, lr, c.data.test, c.recipe.evaluation.networks, "test")
    row = {"step": best.step, "steps": c.recipe.outer.steps, "floats": loop.synthetic.budget().total}
    return row | {"set": method.set, "test": test.as_dict(), "seconds": time.process_time() - started}


def real(ipc: int, o: argparse.Namespace) -> dict:
    """Random real images of the same budget."""
    c = prepared(methods(ipc)[1], o)
    started = time.process_time()
    test = Judge(c).random_real(ipc, c.data.test)
    return {"set": "real images", "test": test.as_dict(), "seconds": time.process_time() - started}


def run(o: argparse.Namespace) -> list[dict]:
    """All rows, of the file and new ones."""
    torch.set_num_threads(1)
    lines = [("random", lambda: real(o.ipc, o))]
    lines += [(m.name, lambda m=m: measure(m, o)) for m in methods(o.ipc)]
    key = {"data": o.data, "ipc": o.ipc, "overrides": o.overrides}
    done = {row["name"] for row in read(o.out) if row.items() >= key.items()}
    for name, line in lines:
        if name in done or (o.only and not name.startswith(tuple(o.only))):
            continue
        print(f"{o.data}, {o.ipc} per class: {name}", flush=True)
        row = key | {"name": name} | line()
        with o.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return [row for row in read(o.out) if row.items() >= key.items()]


def read(file: Path) -> list[dict]:
    """Rows of a file of results, if there is one."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    lines = ["| method | set | floats | step | test accuracy | seconds |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        test, step = row["test"], f"{row['step']} of {row['steps']}" if "step" in row else "-"
        accuracy = f"{100 * test['mean']:.1f} ± {100 * test['std']:.1f}"
        floats = f"{row['floats']:,}" if "floats" in row else "-"
        lines.append(f"| {row['name']} | {row['set']} | {floats} | {step} | {accuracy} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def _folder(o: argparse.Namespace, name: str) -> Path:
    """Where the set of a line is kept."""
    return home.home() / "methods" / f"{o.data}-{o.ipc}" / name.lower().replace(" ", "-").replace(",", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=BASE)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--json", dest="out", metavar="FILE", type=Path, required=True, help="lines of JSON")
    parser.add_argument("--ipc", type=int, default=1, help="images per class")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only methods whose name starts with TEXT")
    print(table(run(parser.parse_args())))


if __name__ == "__main__":
    main()
