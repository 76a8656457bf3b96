"""--dry-run: the resolved recipe, the store, and what a run costs in time, memory and storage. Starts nothing."""

from dataclasses import asdict
from pathlib import Path

from cluster.cli import common


def show(recipe, url: str, json: Path | None) -> None:
    from cluster.jobs.experts import set_name
    from distill import synthetic
    from distill.cost.estimate import estimate
    from distill.engine import allocator
    from distill.text import byte_size as size
    from distill.text import duration

    allocator.settle()  # as workers do: it changes how long a step takes
    context = common.prepared(recipe, url)
    e = estimate(context)
    blank = synthetic.blank(context)
    common.print_recipe(recipe)
    unneeded = "" if recipe.expert_use != "none" else " (this recipe needs none)"
    common.console.print(
        f"\nset       {blank.describe()}: {_budget(context, blank.budget())}\n"
        f"store     {url}\n"
        f"run       runs/{context.run_id}\n"
        f"experts   experts/{set_name(recipe, context.data.fingerprint)}{unneeded}\n"
        f"storage   {size(e.storage_bytes)}\n"
        f"memory    {size(e.memory_bytes)} per worker while distilling, {size(e.available_bytes)} free here\n"
        f"time      {duration(e.experts_seconds)} for the experts, {duration(e.distill_seconds)} to distill, "
        "on this machine",
        soft_wrap=True,
    )
    for line in e.advice:
        common.console.print(f"[yellow]{line}[/]", soft_wrap=True)
    common.write_json(json, {"recipe": recipe.model_dump(mode="json"), "store": url, **asdict(e)})


def _budget(context, budget) -> str:
    from distill.evaluate.budget import per_class

    text = (
        f"{budget.total:,} floats, {per_class(context, budget.total):.4g} images or "
        f"{budget.bits_per_class(context.classes):,.0f} bits per class"
    )
    shared = ", ".join(f"{name} {n:,}" for name, n in budget.shared.items())
    return f"{text}; shared: {shared}" if shared else text

