"""Objectives. `kind = "trajectory"` in a recipe is the module distill/objectives/trajectory.py and its `Objective`."""

from importlib import import_module

from distill.context import Context
from distill.objectives.base import Inner, Objective, Pass, Work

__all__ = ["Inner", "Objective", "Pass", "Work", "build"]


def build(context: Context) -> Objective:
    """The objective of a recipe, on the device."""
    settings = context.recipe.objective
    return import_module(f"distill.objectives.{settings.kind}").Objective(settings, context).to(context.device)
