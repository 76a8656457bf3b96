"""Stillhouse's core in pure PyTorch: data, networks, engine, synthetic sets, objectives, the loop and the judge.

from distill import load
train = load("synthetic.safetensors")
"""

__all__ = ["load"]


def __getattr__(name: str):
    """Import `load` on first use, so that distill.recipe works without importing torch."""
    if name == "load":
        from distill.published import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
