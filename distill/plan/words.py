"""A plan in about ten lines: what, why, and what to expect, for people who have not read a paper."""

from distill.plan import Plan, choose
from distill.text import duration

EVIDENCE = {
    "trajectory": "on CIFAR-10 a network learned 35 % from one such image per class, 16 % from a random one",
    "distribution": "on digits a network learned 85 % from one such image per class, 77 % from herding's",
}
"""Of docs/results.md and docs/matrix.md."""
FEW_IMAGES = 100
"""Training images of a class below which a start by herding was not improved upon (docs/results.md)."""


def lines(plan: Plan) -> list[tuple[str, str]]:
    """(heading, text) pairs, in the order of reading."""
    recipe, fit, facts = plan.recipe, plan.fit, plan.facts
    least, most = min(facts.counts), max(facts.counts)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    chosen = [
        ("data", f"{len(facts.counts)} classes, {each} training images of each, {facts.test:,} test images"),
        ("images", _images(plan)),
        ("network", _network(plan)),
        ("method", _method(plan)),
        ("set", _set(plan)),
    ]
    if recipe.objective.expert_use == "required":
        e = recipe.experts
        chosen.append(("experts", f"{e.count} networks, {e.epochs} epochs each: {duration(fit.experts_seconds)}"))
    o, e = recipe.outer, recipe.evaluation
    step = plan.chosen.speeds.outer[recipe.objective.kind]
    return chosen + [
        ("distill", f"{o.steps:,} steps of {step:.2g} s, compiled if that pays: {duration(fit.distill_seconds)}"),
        ("judge", f"{choose.JUDGEMENTS} times on held-out images, once on the test images, with networks trained for "
                  f"{e.steps[0]:,} steps: {duration(fit.judge_seconds)}"),
        ("total", f"about {duration(fit.seconds)} of {duration(plan.seconds)}"),
        ("expect", _expect(plan)),
    ]  # fmt: skip


def _images(plan: Plan) -> str:
    size, side, seen = plan.chosen.size, plan.glance.side, plan.recipe.dataset
    if not seen.size:
        return f"{side} px, as they are"
    largest = max(t.size for t in plan.tried)
    why = "larger ones leave too few steps" if largest > size else "larger ones would not fit into the time"
    return f"{size} px, made from {side} px: {why if size < side else 'all are made as large as most'}"


def _network(plan: Plan) -> str:
    n, text = plan.recipe.network, []
    text.append(f"ConvNet of depth {n.depth}, the papers' for this size, and width {n.width}")
    wider = [t for t in plan.tried if (t.size, t.width) > (plan.chosen.size, plan.chosen.width)]
    if wider:
        text.append(f"{wider[0].size} px with width {wider[0].width} would leave too little time")
    return "; ".join(text)


def _method(plan: Plan) -> str:
    if plan.recipe.objective.expert_use == "required":
        return "matching the training of experts (MTT): the best we know for few images, and experts fit into the time"
    each = plan.chosen.speeds.expert_epoch * choose.draft_epochs(plan.facts)
    return (
        f"distribution matching (DM): matching experts is better, but one would take {duration(each)} and "
        f"{choose.FEWEST_EXPERTS} are the fewest"
        if each * choose.FEWEST_EXPERTS > choose.EXPERTS * plan.seconds
        else "distribution matching (DM): experts would leave too few steps for matching them"
    )


def _set(plan: Plan) -> str:
    ipc, per_class = plan.recipe.synthetic.ipc, plan.ipc
    text = f"{ipc} image{'s' * (ipc > 1)} per class, starting from real ones that herding chose"
    return text if ipc == per_class else f"{text}; not {per_class}, since a class has no more"


def _expect(plan: Plan) -> str:
    kind = plan.recipe.objective.kind
    few_steps = plan.recipe.outer.steps < 1.5 * choose.STEPS[kind][0]
    if few_steps or min(plan.facts.counts) < FEW_IMAGES:
        why = "few steps" if few_steps else f"a class has only {min(plan.facts.counts)} images"
        return f"{why}: perhaps no better than herding's images, which the run starts from"
    return f"at least as good as herding's images, which the run starts from; {EVIDENCE[kind]}"
