"""Networks. `kind = "convnet"` in a recipe is the module distill/nets/convnet.py and its `build`."""

from importlib import import_module

from distill.nets.functional import Layout, Network
from distill.recipe import Settings

__all__ = ["Layout", "Network", "build"]


def build(settings: Settings, shape: tuple[int, int, int], classes: int, bf16: bool = False) -> Network:
    """The network of a recipe for images of shape (c, h, w)."""
    return Network(import_module(f"distill.nets.{settings.kind}").build(settings, shape, classes), bf16)
