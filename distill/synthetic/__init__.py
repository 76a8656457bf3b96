"""Synthetic sets. `kind = "pixels"` in a recipe selects the class in distill/synthetic/pixels.py."""

from importlib import import_module

from torch import Tensor

from distill.context import Context
from distill.recipe import SyntheticBase
from distill.synthetic.base import Budget, Group, Synthetic, learned_of

__all__ = ["Budget", "Group", "Synthetic", "blank", "build", "check", "learned_of", "restore", "sized"]


def build(context: Context) -> Synthetic:
    """The initial synthetic set of a recipe, on its device."""
    return _class(context).build(context.recipe.synthetic, context).to(context.device)


def blank(context: Context) -> Synthetic:
    """A set with the recipe's shapes and arbitrary values, on its device; needs no experts."""
    return _class(context).blank(context.recipe.synthetic, context).to(context.device)


def check(context: Context) -> None:
    """Raise the errors of build() that can be found quickly and without experts."""
    _class(context).check(context.recipe.synthetic, context)


def restore(context: Context, state: dict[str, Tensor]) -> Synthetic:
    """The set that was published with `state`, on the device of the recipe."""
    return _class(context).restore(context.recipe.synthetic, context, state).to(context.device)


def sized(context: Context, floats: int) -> SyntheticBase:
    """The recipe's settings of the set, sized to store as many floats as possible up to `floats`.

    Raises RecipeError if the kind has no set that small, with what it needs.
    """
    return _class(context).sized(context.recipe.synthetic, context, floats)


def _class(context: Context) -> type[Synthetic]:
    kind = context.recipe.synthetic.kind
    import_module(f"distill.synthetic.{kind}")
    return Synthetic.kinds[kind]
