"""The figures of evaluations that are kept with a run, as this version writes them."""

from distill.recipe import current

RENAMED = {"stations": "by_steps", "scored_with": "score_rows", "selected_through": "selection_network"}
"""Keys of earlier versions."""


def as_current(figures: dict) -> dict:
    """Stored figures, also those of an earlier version: the keys of docs/formats.md, a recipe that can be parsed."""
    figures = _renamed(figures)
    return figures | {"recipe": current(figures["recipe"])} if "recipe" in figures else figures


def _renamed(figures):
    if isinstance(figures, dict):
        return {RENAMED.get(key, key): _renamed(value) for key, value in figures.items()}
    return [_renamed(value) for value in figures] if isinstance(figures, list) else figures
