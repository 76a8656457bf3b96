"""Figures as people read them, the same in every message, table and plot."""

import re
from collections.abc import Mapping


def byte_size(n: float) -> str:
    """A number of bytes with a decimal unit: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def percent(score: Mapping | None) -> str:
    """Mean and standard deviation (`mean`, `std`; fractions) in percent, without the sign; empty without a score.

    Of a single network (`n` = 1) the mean alone: one value has no deviation.
    """
    if not score:
        return ""
    mean = f"{100 * score['mean']:.1f}"
    return mean if score.get("n") == 1 else f"{mean} ± {100 * score['std']:.1f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours: 45 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def public(text: str) -> str:
    """The text without the user and password that an address in it may have."""
    return re.sub(r"(\w://)[^/\s@]+@", r"\1***@", text)
