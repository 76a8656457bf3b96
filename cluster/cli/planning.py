"""What `stillhouse plan` and `stillhouse distill --within` share: the time given, and plans that are kept.

A plan is measured once: it is kept as a recipe in `plans/` of the home folder, so that the same command run again
continues the same run.
"""

import re
from pathlib import Path

from cluster.cli import common
from cluster.home import home
from distill.errors import PlanError

UNITS = {"h": 3600, "m": 60, "s": 1}
BARE = ("name", "paper", "expected", "seed", "device", "threads", "dataset")
"""Settings of a recipe that leave everything else to the plan."""


def seconds(text: str) -> float:
    """1h30m, 20m, 90s or 1.5h in seconds. PlanError for anything else."""
    parts = re.findall(r"([0-9]*\.?[0-9]+)\s*(h|m|s)", text.lower().replace("min", "m"))
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not total or re.sub(r"[0-9.\s]|min|h|m|s", "", text.lower()):
        raise PlanError(f"--within {text}: write the time as 20m, 1h or 1h30m")
    return total


def read(source: str, overrides: list[str], given: float | None):
    """The recipe to distill: that of `source`, or, for data alone and a time, a plan made now or kept."""
    if given is None or not is_bare(source):
        return common.read(source, overrides)
    return planned(source, overrides, given, 1)


def is_bare(source: str) -> bool:
    """Whether `source` is a dataset, or a recipe file that says nothing else than its dataset."""
    import tomllib

    if common.is_data(source):
        return True
    try:
        return not set(tomllib.loads(Path(source).read_text(encoding="utf8"))) - set(BARE)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False  # a shipped recipe, or for the reader of recipes to say what is wrong


def planned(source: str, overrides: list[str], given: float, ipc: int, out: Path | None = None):
    """The plan for a dataset, kept or made; prints it. Overrides but those of `dataset` are applied to the plan."""
    from distill import recipe as recipes
    from distill.recipe import digest

    data = [text for text in overrides if text.startswith("dataset.")]
    settings = common.dataset_settings(source, data)
    request = digest({"dataset": settings.model_dump(mode="json"), "seconds": given, "ipc": ipc})
    path = home() / "plans" / f"{_name(source)}-{request}.toml"
    if path.is_file():
        for line in path.read_text(encoding="utf8").splitlines():
            if line.startswith("# "):
                common.console.print(line[2:], soft_wrap=True)
        common.console.print(f"plan      {path}, made before; remove it to plan again", soft_wrap=True)
    else:
        _make(settings, source, given, ipc, path)
    if out:
        out.write_text(path.read_text(encoding="utf8"), encoding="utf8")
    return common.absolute(recipes.load(str(path), [text for text in overrides if text not in data]))


def _make(settings, source: str, given: float, ipc: int, path: Path) -> None:
    """Measure, choose, print and keep."""
    import os

    import tomlkit

    from cluster.jobs.progress import Reading
    from distill.engine import allocator
    from distill.plan import plan, words
    from distill.text import duration

    allocator.settle()
    common.console.print(f"planning for {duration(given)}: a step of everything is timed on this machine")
    with Reading(common.console) as reading:
        made = plan(settings, given, ipc, _name(source), len(os.sched_getaffinity(0)), notice=reading)
    lines = words.lines(made)
    for heading, text in lines:
        common.console.print(f"{heading:<9} {text}", soft_wrap=True)
    document = tomlkit.document()
    for heading, text in [("plan", f"{source} within {duration(given)}"), *lines]:
        document.add(tomlkit.comment(f"{heading:<9} {text}"))
    for key, value in made.recipe.model_dump(mode="json", exclude_none=True).items():
        document.add(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomlkit.dumps(document), encoding="utf8")
    common.console.print(f"plan      {path}", soft_wrap=True)


def _name(source: str) -> str:
    """A recipe's name from that of a file or folder."""
    from distill.recipe import slug

    return slug(Path(source.rstrip("/")).name.partition(".")[0])[:39]
