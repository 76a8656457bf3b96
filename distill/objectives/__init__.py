"""Objectives. `kind = "trajectory"` in a recipe is the module distill/objectives/trajectory.py and its `Objective`."""

from importlib import import_module

from distill.context import Context
from distill.objectives.base import Objective

__all__ = ["Objective", "build", "needs_experts"]


def build(context: Context) -> Objective:
    """The objective of a recipe, on the device."""
    settings = context.recipe.objective
    return _module(settings.kind).Objective(settings, context).to(context.device)


def needs_experts(kind: str) -> bool:
    """Whether this kind of objective reads expert trajectories."""
    return _module(kind).Objective.needs_experts


def _module(kind: str):
    return import_module(f"distill.objectives.{kind}")
