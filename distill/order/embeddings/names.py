"""Matching the class names of a dataset with those of a table or a file."""

from collections.abc import Sequence

from distill.errors import RecipeError


def plain(name: str) -> str:
    """A name for comparison: the first of its synonyms, lower case, spaces for underscores."""
    return " ".join(name.partition(",")[0].replace("_", " ").lower().split())


def find(classes: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """For each class its index in `names`: of the same name, else of the same plain name.

    Raises RecipeError naming every class that `where` does not hold, or holds twice under one plain name.
    """
    same = {name: index for index, name in enumerate(names)}
    by_plain_name: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        by_plain_name.setdefault(plain(name), []).append(index)
    matches = [[same[name]] if name in same else by_plain_name.get(plain(name), []) for name in classes]
    faults = [
        f"{name!r} is {'there more than once' if indices else 'missing'}"
        for name, indices in zip(classes, matches, strict=True)
        if len(indices) != 1
    ]
    if faults:
        more = f" and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise RecipeError(f"{where} does not name every class: {', '.join(faults[:20])}{more}: add or rename them")
    return [indices[0] for indices in matches]
