"""A recipe for somebody's images and the time they have: chosen from what is measured on this machine.

    made = plan(settings, seconds=3600, ipc=1, name="my-photos", cores=2)
    made.recipe, words.lines(made)

glance.py looks at the data, clock.py times one step of everything, choose.py holds the rules, words.py says what was
chosen and why. The same measurements give the same plan. nominal.py takes the place of the clock for defaults that
depend on the data alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from distill import data, nets
from distill.data.images import Notice, silent
from distill.engine.compiling import forward_flops
from distill.errors import DataError
from distill.plan import choose
from distill.plan.choose import Facts, Fit, Speeds
from distill.plan.clock import Clock
from distill.plan.glance import Glance, glance
from distill.recipe import DatasetSettings, Recipe

__all__ = ["Plan", "Tried", "plan"]


@dataclass(frozen=True)
class Tried:
    """One rung of the ladder: its fit by objective, and how fast it is."""

    size: int
    width: int
    fits: dict[str, Fit | None]
    speeds: Speeds

    @property
    def best(self) -> Fit | None:
        """Matching experts if it fits, else what does."""
        return next((fit for fit in self.fits.values() if fit), None)


@dataclass(frozen=True)
class Plan:
    """A recipe that fits into the time, with what it was chosen from."""

    fit: Fit
    facts: Facts
    glance: Glance
    tried: list[Tried]
    """From the smallest network to the last that was timed; the chosen one is among them."""
    chosen: Tried
    seconds: float
    """The time given."""
    ipc: int
    """Images per class that were asked for; the recipe has fewer if a class has too few."""

    @property
    def recipe(self) -> Recipe:
        return self.fit.recipe


def plan(
    settings: DatasetSettings,
    seconds: float,
    ipc: int,
    name: str,
    cores: int,
    device="auto",
    notice: Notice = silent,
    measure: Callable[[dict[str, Recipe], Facts], Speeds] | None = None,
    objective: str = "",
) -> Plan:
    """Choose a recipe for the data of `settings` that is done within `seconds` on `cores` cores or a GPU.

    `objective` is one that the user set; one that is not planned for leaves the choice to the plan. `measure` finds the
    speeds, by default with a clock. PlanError if nothing fits; DataError if the dataset is missing, damaged, or too
    small.
    """
    seen = glance(settings, notice)
    kinds = [objective] if objective in choose.STEPS else list(choose.STEPS)
    tried: list[Tried] = []
    for size, width in choose.ladder(seen.side, settings.size):
        guess = _guess(settings, seen, size)
        images = min(ipc, max(1, min(guess.counts) - 1))
        drafts = {o: _draft(guess, width, images, o, name, device) for o in kinds}
        if tried and not _may_fit(tried[-1], drafts, guess, seconds, cores):
            break
        speeds = (measure or _speeds)(drafts, guess)
        fits = {o: choose.fit(draft, guess, speeds, seconds, cores) for o, draft in drafts.items()}
        tried.append(Tried(size, width, fits, speeds))
        notice("timing networks", len(tried), len(choose.LADDER))
        if not tried[-1].best or not tried[-1].best.roomy:
            break
    chosen = next((t for t in reversed(tried) if t.best and (t.best.roomy or t is tried[0])), tried[0])
    if not chosen.best:
        choose.refuse(seconds, [f"{chosen.size} px, width {chosen.width}"])
    facts = _facts(settings, seen, chosen.size, chosen.best.recipe.seed, notice)
    images = min(ipc, min(facts.counts))
    draft = _draft(facts, chosen.width, images, chosen.best.recipe.objective.kind, name, device)
    fit = choose.fit(draft, facts, chosen.speeds, seconds, cores) or chosen.best
    return Plan(fit, facts, seen, tried, chosen, seconds, ipc)


def _guess(settings: DatasetSettings, seen: Glance, size: int) -> Facts:
    """The facts as far as a glance tells: classes of equal size."""
    counts = (max(2, round(seen.images * (1 - settings.validation) / seen.classes)),) * seen.classes
    return Facts(_table(settings, seen, size), (seen.channels, size, size), counts, max(1, seen.images // 5))


def _facts(settings: DatasetSettings, seen: Glance, size: int, seed: int, notice: Notice) -> Facts:
    """The facts of the data as they are read for the run."""
    table = _table(settings, seen, size)
    dataset = data.outline(settings.model_copy(update={"size": table["size"]}), seed, notice)
    counts = torch.bincount(dataset.train.y, minlength=len(dataset.classes)).tolist()
    if min(counts) < 1:
        raise DataError(f"class {dataset.classes[counts.index(0)]!r} has no training image: add some")
    return Facts(table, dataset.shape, tuple(counts), len(dataset.test))


def _table(settings: DatasetSettings, seen: Glance, size: int) -> dict:
    """The dataset's block; its size is only set if images are to be resized."""
    resized = settings.size or (0 if seen.alike and size == seen.side else size)
    return settings.model_dump(mode="json") | {"size": resized}


def _draft(facts: Facts, width: int, ipc: int, objective: str, name: str, device: str) -> Recipe:
    return choose.draft(facts, width, ipc, objective, name).model_copy(update={"device": device})


def _speeds(drafts: dict[str, Recipe], facts: Facts) -> Speeds:
    """Time everything once, with one thread if more are hardly faster: small networks, or cores with other work."""
    clocks = {o: Clock(recipe, facts.shape, facts.counts) for o, recipe in drafts.items()}
    first, all_threads = next(iter(clocks.values())), torch.get_num_threads()
    steps = {}
    try:
        for threads in {1, all_threads}:
            torch.set_num_threads(threads)
            steps[threads] = first.outer_step()
        torch.set_num_threads(1)
        expert_epoch = first.expert_epoch(sum(facts.counts), facts.test)  # a worker on each core
        best = 1 if steps[1] < choose.HARDLY * steps[all_threads] else all_threads
        torch.set_num_threads(best)
        judged = {n: first.judgement(n) for n in (choose.SELECTION, choose.FINAL)}
        return Speeds(
            threads=1 if best == 1 else 0,
            expert_epoch=expert_epoch,
            outer={o: steps[best] if clock is first else clock.outer_step() for o, clock in clocks.items()},
            train={n: seconds for n, (seconds, _) in judged.items()},
            test={n: seconds for n, (_, seconds) in judged.items()},
        )
    finally:
        torch.set_num_threads(all_threads)


def _may_fit(before: Tried, drafts: dict[str, Recipe], facts: Facts, seconds: float, cores: int) -> bool:
    """Whether a larger network may fit, by its floating-point operations: half of them, as small ones are overhead."""
    recipe = next(iter(drafts.values()))
    small = before.best.recipe.network.model_copy(update={"width": before.width})
    c, classes = facts.shape[0], len(facts.counts)
    flops = [
        forward_flops(nets.build(network, shape, classes, False), shape)
        for network, shape in ((small, (c, before.size, before.size)), (recipe.network, facts.shape))
    ]
    factor = max(1.0, flops[1] / flops[0] / 2)
    s = before.speeds
    slower = replace(
        s,
        expert_epoch=s.expert_epoch * factor,
        outer={k: v * factor for k, v in s.outer.items()},
        train={k: v * factor for k, v in s.train.items()},
        test={k: v * factor for k, v in s.test.items()},
    )
    fits = (choose.fit(draft, facts, slower, seconds, cores) for draft in drafts.values())
    return any(fit and fit.roomy for fit in fits)
