"""Figures as people read them, the same in every message, table and plot."""

from collections.abc import Mapping


def byte_size(n: float) -> str:
    """A number of bytes with a decimal unit: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def percent(score: Mapping | None) -> str:
    """Mean and standard deviation (`mean`, `std`; fractions) in percent, without the sign; empty without a score."""
    return f"{100 * score['mean']:.1f} ± {100 * score['std']:.1f}" if score else ""
