"""Synthetic sets. `kind = "pixels"` in a recipe is the module distill/synthetic/pixels.py and its `build`."""

from importlib import import_module

from distill.context import Context
from distill.synthetic.base import Synthetic

__all__ = ["Synthetic", "build"]


def build(context: Context) -> Synthetic:
    """The synthetic set of a recipe at its start, on the device."""
    settings = context.recipe.synthetic
    return import_module(f"distill.synthetic.{settings.kind}").build(settings, context).to(context.device)
