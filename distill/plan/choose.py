"""From speeds and the time given to settings: network, objective, counts and steps that fit.

The rules are few, and each is from a result of ours or of the papers. Matching experts needs experts, so it is chosen
if at least FEWEST_EXPERTS of them and enough outer steps fit; else distribution matching, which needs none. Larger
images and wider networks are chosen only if they leave time for a long run.
"""

import math
from dataclasses import dataclass

from distill.engine.compiling import COMPILE_SECONDS
from distill.errors import PlanError
from distill.recipe import DSA, Recipe, parse

START = 40.0
"""Seconds in which Ray starts, workers import, and the set is published."""
SHARE = 0.85
"""Part of the time that is planned; the rest is for a machine that is slower than it was when it was timed."""
JUDGEMENTS = 6
"""Times that the set is judged on its way: at the start and after each fifth of the steps."""
FINAL, SELECTION = 5, 2
"""Networks of the final judgement, and of each on the way."""
JUDGING = 0.25
"""Part of the time for all judgements, at most."""
EXPERTS = 0.4
"""Part of the time for experts, at most."""
FEWEST_EXPERTS, MOST_EXPERTS = 4, 20
STEPS = {"trajectory": (250, 600, 1500), "distribution": (100, 400, 1500)}
"""Outer steps by objective: fewest, those from which a larger network is better than more steps, most."""
COMPILED_SAVES = 0.35
"""Part of the eager seconds that compiled steps save, cautiously."""
TO_COMPILE = 120.0
"""Eager seconds of outer steps from which `compile = "auto"` compiles."""
HARDLY = 1.15
"""All threads must be at least this many times as fast as one."""
TRAINING = (150, 1000)
"""Fewest and most steps of a judged network."""
LADDER = ((32, 32), (64, 32), (64, 64), (128, 64), (128, 128), (256, 128))
"""(pixels per side, width of the network): the next is tried if the one before leaves much time."""


@dataclass(frozen=True)
class Facts:
    """What the data are."""

    table: dict
    """The dataset's block of the recipe, with the size to use."""
    shape: tuple[int, int, int]
    """(c, h, w) of the images at that size."""
    counts: tuple[int, ...]
    """Training images of each class."""
    test: int
    """Test images."""


@dataclass(frozen=True)
class Speeds:
    """Seconds on this machine with one network and size of images."""

    threads: int
    """CPU threads of a worker: 1, or 0 for all, as in a recipe."""
    expert_epoch: float
    """Of one expert, one worker."""
    outer: dict[str, float]
    """An outer step by objective, not compiled."""
    train: dict[int, float]
    """A step of training judged networks, by how many are trained."""
    test: dict[int, float]
    """Their accuracies on one image."""


@dataclass(frozen=True)
class Fit:
    """Settings that fit, and what they take."""

    recipe: Recipe
    experts_seconds: float
    distill_seconds: float
    judge_seconds: float
    roomy: bool
    """Whether the run is long enough that a larger network may be tried."""

    @property
    def seconds(self) -> float:
        return START + self.experts_seconds + self.distill_seconds + self.judge_seconds


def ladder(side: int, forced: int = 0) -> list[tuple[int, int]]:
    """(size, width) to try for images of `side` pixels, the cheapest first; `forced` is a size that the user set.

    Images are never enlarged, and images up to 48 px never made smaller.
    """
    largest = forced or side
    kept = largest if forced or side <= 48 else 0
    sizes = [(kept or min(size, side), width) for size, width in LADDER]
    if kept:
        return [(kept, width) for width in (32, 64, 128)]
    return list(dict.fromkeys(pair for pair, (size, _) in zip(sizes, LADDER, strict=True) if size <= side))


def depth(side: int) -> int:
    """Depth of a ConvNet by the papers' rule: 3 for 32 px, 4 for 64, 5 for 128, 6 for 256; 2 for the 8 px digits."""
    return max(2, min(6, round(math.log2(max(side, 8))) - 2))


def draft(facts: Facts, width: int, ipc: int, objective: str, name: str) -> Recipe:
    """The recipe before its counts and steps are fitted to the time."""
    side, grey = min(facts.shape[1:]), facts.shape[0] == 1
    seen = ("crop", "scale", "rotate") if grey else DSA  # grey images are often signs, which a flip would change
    epochs = draft_epochs(facts)
    images = ipc * len(facts.counts)
    blocks = {
        "trajectory": {
            "kind": "trajectory", "syn_steps": 20 if side <= 48 else 10, "expert_epochs": 2,
            "max_start_epoch": max(2, min(5, epochs // 2)), "batch_syn": 100 if images > 150 else 0,
            "lr_teacher": 0.02, "lr_lr": 1e-5, "augment": {"strategies": seen},
        },
        "distribution": {"kind": "distribution", "augment": {"strategies": seen}},
    }  # fmt: skip
    table = {
        "name": name,
        "dataset": facts.table,
        "network": {"kind": "convnet", "depth": depth(side), "width": width},
        "experts": {
            "count": FEWEST_EXPERTS, "epochs": epochs, "lr": 0.02, "momentum": 0.5, "batch": 64,
            "augment": {"strategies": seen},
        },
        "synthetic": {"kind": "pixels", "ipc": ipc, "init": "herding"},
        "objective": blocks[objective],
        "outer": {"optimizer": "adam", "lr_img": 0.05},
        "evaluation": {
            "networks": FINAL, "selection_networks": SELECTION, "steps": [TRAINING[1]], "lr": 0.02,
            "augment": {"strategies": seen}, "baselines": ["random", "herding", "full"],
        },
    }  # fmt: skip
    return parse(table, "of the plan")


def draft_epochs(facts: Facts) -> int:
    """Epochs of an expert: 400 steps at least, and 6 to 30 epochs."""
    return max(6, min(30, math.ceil(400 / math.ceil(sum(facts.counts) / 64))))


def fit(recipe: Recipe, facts: Facts, speeds: Speeds, seconds: float, cores: int) -> Fit | None:
    """The recipe with counts and steps that fit into `seconds`; None if fewer than the fewest steps do."""
    left = seconds * SHARE - START
    if left <= 0:
        return None
    training, judging = _judging(facts, speeds, left * JUDGING)
    left -= judging
    updates = {"evaluation": {"steps": [training]}}
    kind, training_experts = recipe.objective.kind, 0.0
    with_experts = recipe.objective.expert_use == "required"
    if with_experts:
        count, training_experts = _experts(recipe, facts, speeds, seconds, cores)
        if count < FEWEST_EXPERTS:
            return None
        updates["experts"] = {"count": count, "workers": min(cores, count)}
        left -= training_experts
    fewest, many, most = STEPS[kind]
    steps = min(most, int(affordable(left) / speeds.outer[kind]))
    if steps < fewest:
        return None
    every = math.ceil(steps / (JUDGEMENTS - 1))
    minute = max(1, int(60 / speeds.outer[kind]))
    updates["outer"] = {
        "steps": steps, "evaluate_every": every, "checkpoint_every": min(every, minute), "picture_every": every
    }  # fmt: skip
    table = recipe.model_dump(mode="json") | {"threads": speeds.threads}
    for block, values in updates.items():
        table[block] |= values
    if not with_experts:
        table["experts"] = {}
    distilling = compiled(steps * speeds.outer[kind])
    roomy = steps >= many and (with_experts or training >= TRAINING[1] // 2)
    return Fit(parse(table, "of the plan"), training_experts, distilling, judging, roomy)


def compiled(eager: float) -> float:
    """Seconds of outer steps that take `eager` seconds without compiling."""
    return eager if eager < TO_COMPILE else min(eager, COMPILE_SECONDS + (1 - COMPILED_SAVES) * eager)


def affordable(seconds: float) -> float:
    """Eager seconds of outer steps that are done in `seconds`; the inverse of compiled()."""
    return max(seconds, (seconds - COMPILE_SECONDS) / (1 - COMPILED_SAVES)) if seconds > TO_COMPILE else seconds


def _judging(facts: Facts, speeds: Speeds, most: float) -> tuple[int, float]:
    """(steps of a judged network, seconds of all judgements)."""
    held_out = sum(facts.counts) // 9
    fixed = speeds.test[FINAL] * facts.test + JUDGEMENTS * speeds.test[SELECTION] * held_out
    each = speeds.train[FINAL] + JUDGEMENTS * speeds.train[SELECTION]
    steps = max(TRAINING[0], min(TRAINING[1], int((most - fixed) / each)))
    return steps, fixed + steps * each


def _experts(recipe: Recipe, facts: Facts, speeds: Speeds, seconds: float, cores: int) -> tuple[int, float]:
    """(experts that fit, seconds of training them): a worker on each core, or all on one GPU."""
    each = compiled(speeds.expert_epoch * recipe.experts.epochs)
    count = min(MOST_EXPERTS, int(EXPERTS * seconds / each))
    count -= count % cores if count > cores else 0
    return count, each * count


def refuse(seconds: float, tried: list[str]) -> PlanError:
    """The error for a time in which nothing fits."""
    raise PlanError(
        f"no run fits into {seconds / 60:.0f} min on this machine: even distribution matching with the smallest "
        f"network ({tried[-1]}) has time for fewer than {STEPS['distribution'][0]} steps: give it more time, fewer "
        f"images per class, or a smaller dataset.size or dataset.limit"
    )
