"""--dry-run: what would run, where, and what it costs in time, memory and storage. Starts nothing.

The first lines are a summary; --full adds every setting of the resolved recipe.
"""

from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from cluster.cli import common


def show(recipe, url: str, json: Path | None, full: bool = False) -> None:
    from distill import synthetic
    from distill.cost.estimate import estimate
    from distill.engine import allocator
    from distill.recipe import dotted

    allocator.settle()  # as workers do: it changes how long a step takes
    context = common.prepared(recipe, url, outline=True)
    e, before = estimate(context), _before(context, url)
    settings = dotted(recipe.model_dump(mode="json"))
    for heading, text in [*_lines(context, synthetic.blank(context), e, url), *before]:
        common.console.print(f"{heading:<9} {escape(text)}", soft_wrap=True)
    for line in e.advice:
        common.console.print(f"[yellow]{line}[/]", soft_wrap=True)
    if full:
        common.console.print()
        common.print_recipe(recipe)
    else:
        common.console.print(f"settings  {len(settings)} in all: --full prints them, and the output is a recipe")
    common.write_json(json, {"recipe": recipe.model_dump(mode="json"), "store": url, **asdict(e)})


def _lines(context, blank, e, url: str) -> list[tuple[str, str]]:
    """The summary, one (heading, text) pair a line."""
    from distill.text import byte_size as size

    r, d = context.recipe, context.data
    c, h, w = d.shape
    source = getattr(r.dataset, "path", r.dataset.kind)
    unneeded = "" if r.expert_use != "none" else " (this recipe needs none)"
    needed = f" ({r.experts_needed} of {r.experts.epochs} epochs each)" if r.experts_needed else unneeded
    return [
        ("data", f"{source}: {len(d.classes)} classes of {w}x{h}x{c}, {len(d.train):,} images to train on, "
                 f"{len(d.validation):,} held out, {len(d.test):,} to test"),
        ("method", f"{r.synthetic.kind} by {r.objective.kind}, {r.outer.steps:,} steps, with a {r.network.label}"),
        ("set", f"{blank.describe()}: {_budget(context, blank.budget())}"),
        ("store", url),
        ("run", f"runs/{context.run_id}"),
        ("experts", f"experts/{r.experts_name(d.fingerprint)}{needed}"),
        ("storage", size(e.storage_bytes)),
        ("memory", f"{size(e.memory_bytes)} per worker while distilling, {size(e.available_bytes)} free here"),
        ("time", _time(context, e)),
    ]  # fmt: skip


def _before(context, url: str) -> list[tuple[str, str]]:
    """A line for each run that must have ended before this one, the last first: what it is, how long it takes."""
    from cluster.results.runs import Run
    from cluster.store import open_store
    from distill.cost.estimate import estimate
    from distill.text import duration

    if not (r := context.recipe.before):
        return []
    first = common.prepared(r, url, outline=True)
    e = estimate(first)
    takes = f"{duration(e.experts_seconds + e.distill_seconds)} more"
    if Run(open_store(url), first.run_id).result():
        return [("before", f"runs/{first.run_id}, which has ended")]
    text = f"runs/{first.run_id}: {r.synthetic.kind} by {r.objective.kind}, {r.outer.steps:,} steps, {takes}"
    return [("before", text), *_before(first, url)]


def _time(context, e) -> str:
    """The total, its parts, and the setting that halves it."""
    from distill.cost.halving import halving, parts
    from distill.text import duration

    named = {"experts": "to train experts", "steps": "of outer steps", "judgements": "to judge"}
    made_of = ", ".join(f"{duration(seconds)} {named[part]}" for part, seconds in parts(e).items() if seconds)
    half = halving(context, e)
    total = duration(e.experts_seconds + e.distill_seconds)
    return f"{total} on this machine: {made_of}" + (f"; {half} would halve it" if half else "")


def _budget(context, budget) -> str:
    from distill.evaluate.budget import per_class

    text = (
        f"{budget.total:,} floats, {per_class(context, budget.total):.4g} images or "
        f"{budget.bits_per_class(context.classes):,.0f} bits per class"
    )
    shared = ", ".join(f"{name} {n:,}" for name, n in budget.shared.items())
    return f"{text}; shared: {shared}" if shared else text
