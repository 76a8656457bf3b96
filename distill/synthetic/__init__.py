"""Synthetic sets. `kind = "pixels"` in a recipe is the class of that kind in distill/synthetic/pixels.py."""

from importlib import import_module

from torch import Tensor

from distill.context import Context
from distill.synthetic.base import Budget, Group, Synthetic, learned_of

__all__ = ["Budget", "Group", "Synthetic", "blank", "build", "check", "learned_of", "restore"]


def build(context: Context) -> Synthetic:
    """The synthetic set of a recipe at its start, on the device."""
    return _class(context).build(context.recipe.synthetic, context).to(context.device)


def blank(context: Context) -> Synthetic:
    """A set of the recipe's shapes, whatever its values, on the device; needs no experts."""
    return _class(context).blank(context.recipe.synthetic, context).to(context.device)


def check(context: Context) -> None:
    """Raise what build() would, as far as it can be known without experts and in a moment."""
    _class(context).check(context.recipe.synthetic, context)


def restore(context: Context, state: dict[str, Tensor]) -> Synthetic:
    """The set of a recipe as it was published, on the device."""
    return _class(context).restore(context.recipe.synthetic, context, state).to(context.device)


def _class(context: Context) -> type[Synthetic]:
    kind = context.recipe.synthetic.kind
    import_module(f"distill.synthetic.{kind}")
    return Synthetic.kinds[kind]
