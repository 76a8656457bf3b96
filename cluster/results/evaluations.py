"""The figures of evaluations that are kept with a run, under the names that this version gives them."""

RENAMED = {"stations": "by_steps", "scored_with": "score_rows", "selected_through": "selection_network"}
"""Keys of earlier versions."""


def with_current_names(figures):
    """Figures from JSON, those of an earlier version too, under the keys that docs/formats.md lists."""
    if isinstance(figures, dict):
        return {RENAMED.get(key, key): with_current_names(value) for key, value in figures.items()}
    return [with_current_names(value) for value in figures] if isinstance(figures, list) else figures
