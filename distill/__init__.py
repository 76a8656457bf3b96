"""Stillhouse's core in pure PyTorch: data, networks, engine, synthetic sets, objectives, the loop and the judge.

    from distill import load
    train = load("synthetic.safetensors")
"""

__all__ = ["load"]


def __getattr__(name: str):
    """`load`, imported when it is asked for: the recipes of this package do without torch."""
    if name == "load":
        from distill.published import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
