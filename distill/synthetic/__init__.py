"""Synthetic sets. `kind = "pixels"` in a recipe is the module distill/synthetic/pixels.py and its `build`."""

from importlib import import_module

from torch import Tensor

from distill.context import Context
from distill.synthetic.base import Synthetic

__all__ = ["Synthetic", "blank", "build", "check", "restore"]


def build(context: Context) -> Synthetic:
    """The synthetic set of a recipe at its start, on the device."""
    return _module(context).build(context.recipe.synthetic, context).to(context.device)


def blank(context: Context) -> Synthetic:
    """A set of the recipe's shapes, whatever its values, on the device; raises what can be told without experts.

    A module whose `build` may need experts, or time, has a `blank` besides, which takes neither.
    """
    module = _module(context)
    return getattr(module, "blank", module.build)(context.recipe.synthetic, context).to(context.device)


def check(context: Context) -> Synthetic:
    """Raise what `build` would, as far as it can be told without experts and in a moment; give the blank set.

    A module has a `check(settings, context)` for what its `blank` does not need, such as a file of the user's.
    """
    getattr(_module(context), "check", lambda settings, context: None)(context.recipe.synthetic, context)
    return blank(context)


def restore(context: Context, state: dict[str, Tensor]) -> Synthetic:
    """The set of a recipe as it was published."""
    made = blank(context)
    made.load_state_dict(state)
    return made


def _module(context: Context):
    return import_module(f"distill.synthetic.{context.recipe.synthetic.kind}")
