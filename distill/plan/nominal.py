"""Speeds of a machine that nobody has timed: for defaults that follow from the data alone, the same everywhere.

    made = nominal.planned(settings, ipc=1, name="my-photos")

Counts floating-point operations, at the rate that two CPU cores reach in eager steps, and a least time for a step.
"""

from distill import nets
from distill.data.images import Notice, silent
from distill.engine.compiling import (
    FLOPS_PER_SECOND,
    OVERHEAD_SECONDS,
    PASS_FLOPS,
    STEP_FLOPS,
    forward_flops,
)
from distill.errors import PlanError
from distill.plan import Plan, choose, plan
from distill.plan.choose import Facts, Speeds
from distill.recipe import DatasetSettings, Recipe

HOURS, CORES = (1, 2, 4, 8, 16, 32, 64), 2
"""The time that the defaults are for, the first in which a run fits, and the cores."""


def planned(
    settings: DatasetSettings, ipc: int, name: str, device="auto", notice: Notice = silent, objective: str = ""
) -> Plan:
    """The plan for a dataset on CORES cores of usual speed. PlanError if nothing fits even into the longest time."""
    for hours in HOURS:
        try:
            return plan(settings, 3600 * hours, ipc, name, CORES, device, notice, speeds, objective)
        except PlanError:
            if hours == HOURS[-1]:
                raise


def speeds(drafts: dict[str, Recipe], facts: Facts) -> Speeds:
    """Seconds of everything by its floating-point operations, in place of measured ones."""
    one = next(iter(drafts.values()))
    network = nets.build(one.network, facts.shape, len(facts.counts), False)
    forward = forward_flops(network, facts.shape) / FLOPS_PER_SECOND
    classes, ipc = len(facts.counts), one.synthetic.ipc

    def trained(images: float, steps: float = 1) -> float:
        return max(PASS_FLOPS * forward * images, OVERHEAD_SECONDS / 4 * steps)

    def outer(recipe: Recipe) -> float:
        o = recipe.objective
        if recipe.objective.expert_use == "required":
            batch = min(o.batch_syn or classes * ipc, classes * ipc)
            return o.syn_steps * max(STEP_FLOPS * forward * batch, OVERHEAD_SECONDS)
        real = sum(min(o.batch_real, n) for n in facts.counts)
        return max(forward * (real + PASS_FLOPS * classes * ipc), OVERHEAD_SECONDS)

    images = min(one.evaluation.batch_of(classes * ipc), classes * ipc)
    epoch = trained(sum(facts.counts), sum(facts.counts) / one.experts.batch) * CORES  # a worker has one core
    return Speeds(
        threads=0,
        expert_epoch=epoch,
        outer={kind: outer(recipe) for kind, recipe in drafts.items()},
        train={n: n * trained(images) for n in (choose.SELECTION, choose.FINAL)},
        test={n: n * forward for n in (choose.SELECTION, choose.FINAL)},
    )
