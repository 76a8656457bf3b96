"""Objectives. `kind = "trajectory"` in a recipe selects the class `Objective` in distill/objectives/trajectory.py."""

from importlib import import_module

from distill.context import Context
from distill.objectives.base import Inner, Objective, Pass, Work

__all__ = ["Inner", "Objective", "Pass", "Work", "build"]


def build(context: Context) -> Objective:
    """The objective of a recipe, on its device."""
    settings = context.recipe.objective
    return import_module(f"distill.objectives.{settings.kind}").Objective(settings, context).to(context.device)
