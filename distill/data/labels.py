"""Labels as files have them (numbers, texts, truth values) to the numbers of classes, 0 to n - 1.

found = numbering({"dog", "cat"})          # names ("cat", "dog"); number("dog") == 1
found = numbering({1, 2, 5})               # names ("1", "2", "5"), with a note
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from distill.data.texts import shown

LARGEST = 2**31
"""A larger number is no class: something else stands in its place."""
NAMED = 10
Label = int | str | float | None


@dataclass(frozen=True)
class Numbering:
    """The classes of a dataset by their labels."""

    names: tuple[str, ...]
    numbers: dict[Label, int]
    note: str = ""
    """How labels that are not 0 to n - 1 were read; empty if they are."""

    def number(self, label: Any) -> Label:
        """The class of a label, None of a missing one, a text or a number outside of the classes of an unknown one."""
        label = plain(label)
        if label is None or label in self.numbers:
            return None if label is None else self.numbers[label]
        is_outside = isinstance(label, int) and not 0 <= label < len(self.names)
        return label if is_outside else str(label)


def numbering(labels: Iterable[Any], names: tuple[str, ...] = ()) -> Numbering:
    """The classes of the labels that occur in a training part: numbers in their order, texts sorted.

    With `names` in label order, labels are numbers or these names. Missing, negative and broken numbers are no classes.
    """
    if names:
        return Numbering(names, {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))})
    known = {plain(label) for label in labels}
    texts = sorted(label for label in known if isinstance(label, str))
    numbers = sorted(label for label in known if isinstance(label, int) and 0 <= label < LARGEST)
    classes = texts or numbers
    made = {label: i for i, label in enumerate(classes)}
    note = ""
    if classes and classes != list(range(len(classes))):
        shown_ = ", ".join(map(str, classes[:NAMED])) + (", ..." if len(classes) > NAMED else "")
        kind = "texts" if texts else "numbers"
        note = f"the labels are the {kind} {shown_}: these {len(classes)} classes are numbered in this order"
    return Numbering(tuple(str(label) for label in classes), made, note)


def plain(label: Any) -> Label:
    """A label as a number or a text: truth values as texts, whole floats as integers, NaN as a missing label."""
    if isinstance(label, bool):
        return str(label)
    if isinstance(label, bytes):
        return shown(label.decode("utf8", "surrogateescape"))
    if isinstance(label, float):
        if label != label:
            return None
        return int(label) if label.is_integer() else label
    return shown(label) if isinstance(label, str) else label
