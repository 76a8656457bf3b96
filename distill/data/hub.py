"""The Parquet files of a dataset's parts, as Hugging Face's hub and `datasets` lay them out.

    train-00000-of-00002.parquet          in the folder itself, in data/ or in a configuration such as plain_text/
    default/train/0000.parquet            as the hub converts every dataset

A snapshot with several configurations is read only if one of them is the default. What is left unread is noted.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from distill.data.faults import refuse
from distill.data.parts import SPELLED, part_of
from distill.data.texts import shown
from distill.data.walk import below


@dataclass(frozen=True)
class Parts:
    """The files of each part; without `test` the test part is drawn from the training part."""

    train: list[Path]
    test: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_parts(place: Path, is_secret: Callable[[list[Path]], bool]) -> Parts:
    """The training and the test files at a path, with what is left unread. DataError if there are none to train on.

    `is_secret` tells whether files have no labels, as test parts of competitions: the validation part is better then.
    """
    if place.is_file():
        return Parts([place])
    config, files = _configuration(place)
    by_part = {part: [file for file in files if _part(file) == part] for part in ("train", "test", "validation", None)}
    train = by_part["train"] or (by_part[None] if not (by_part["test"] or by_part["validation"]) else [])
    if not train:
        faults = ["no train*.parquet: put the training part there under that name"]
        if not files:
            faults.append("no test*.parquet or validation*.parquet: put the test part there under that name")
        refuse(shown(str(config)), faults)
    tests = [files for files in (by_part["test"], by_part["validation"]) if files]
    if len(tests) == 2 and is_secret(tests[0]):
        tests.reverse()
    used = {*train, *(tests[0] if tests else [])}
    unread = [shown(str(file.relative_to(place))) for file in _files(place) if file not in used]
    notes = [f"{len(unread)} Parquet files are left unread: {', '.join(unread[:5])}"] if unread else []
    if not tests:
        notes.append("no test part: dataset.test_part of each class is drawn from the training part")
    return Parts(train, tests[0] if tests else [], notes)


def _configuration(place: Path) -> tuple[Path, list[Path]]:
    """The folder of the configuration that is read, and its files: a snapshot may have several."""
    configs: dict[Path, list[Path]] = {}
    for file in _files(place):
        split = file.parent if file.parent == place or _token(file.parent.name) is None else file.parent.parent
        configs.setdefault(split, []).append(file)
    usable = {config: files for config, files in configs.items() if any(_part(file) == "train" for file in files)}
    preferred = [config for config in (place, place / "data", place / "default") if config in usable]
    if not preferred and len(usable) > 1:
        shown_ = ", ".join(sorted(shown(str(config.relative_to(place))) for config in usable))
        refuse(shown(str(place)), [f"several configurations ({shown_}): set dataset.path to the folder of one"])
    chosen = next(iter([*preferred, *usable, *configs]), place)
    return chosen, configs.get(chosen, [])


def _files(place: Path) -> list[Path]:
    return [file for file in below(place).others if file.suffix == ".parquet" and not file.name.startswith(".")]


def _part(file: Path) -> str | None:
    """The part that a file, or the folder it is in, is named after."""
    stem = file.stem.lower()
    begins = next((part for part in ("train", "test", "validation") if stem.startswith(part)), None)
    return begins or _token(file.stem) or _token(file.parent.name)


def _token(name: str) -> str | None:
    """The part that is a word of a name, as in `plain_text-train-00000`."""
    words = re.split(r"[^a-z]+", name.lower())
    return part_of(name) or next((SPELLED[word] for word in words if word in SPELLED), None)
