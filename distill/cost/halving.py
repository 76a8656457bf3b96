"""What the time of a run is made of, and which setting would halve it.

parts(context, estimate)      # {"experts": 3600.0, "steps": 1200.0, "judgements": 60.0}
halving(context, estimate)    # "experts.count=7"
"""

from distill.context import Context
from distill.cost.estimate import Estimate

LEAST = 0.25
"""Share of a part that an override leaves at least."""


def parts(estimate: Estimate) -> dict[str, float]:
    """Seconds of training experts, of the outer steps and of judging the set."""
    return {
        "experts": estimate.experts_seconds,
        "steps": estimate.distill_seconds - estimate.judge_seconds,
        "judgements": estimate.judge_seconds,
    }


def halving(context: Context, estimate: Estimate) -> str:
    """The override that halves the time of a run, or several that do together; empty if none can."""
    seconds = parts(estimate)
    total, changed, saved = sum(seconds.values()), [], 0.0
    for part in sorted(seconds, key=seconds.__getitem__, reverse=True):
        left = total / 2 - saved
        share = max(LEAST, 1 - left / seconds[part]) if seconds[part] else 1.0
        setting, kept = _reduced(context, part, share)
        if setting:
            changed.append(setting)
            saved += seconds[part] * (1 - kept)
        if saved >= 0.45 * total:
            return " ".join(changed)
    return ""


def _reduced(context: Context, part: str, share: float) -> tuple[str, float]:
    """The override that leaves about a share of a part's seconds, and the share that it does leave."""
    r = context.recipe
    if part == "steps":
        return _override("outer.steps", max(1, int(r.outer.steps * share)), r.outer.steps)
    if part == "judgements":
        if r.evaluation.steps:
            longest = max(r.evaluation.steps)
            return _override("evaluation.steps", max(1, int(longest * share)), longest, "[{}]")
        return _override("evaluation.epochs", max(1, int(r.evaluation.epochs * share)), r.evaluation.epochs)
    if r.experts_needed > 1 and share * r.experts_needed >= 1:
        count = max(1, int(r.experts_needed * share))
        return _override("experts.count", count, r.experts_needed)
    return _override("experts.epochs", max(1, int(r.experts.epochs * share)), r.experts.epochs)


def _override(path: str, value: int, before: int, form: str = "{}") -> tuple[str, float]:
    return ("", 1.0) if value >= before else (f"{path}={form.format(value)}", value / before)
