"""What `stillhouse plan` and `stillhouse distill --within` share: the time given, and plans that are kept.

A plan is measured once: it is kept as a recipe in `plans/` of the home folder, so that the same command run again
continues the same run.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from cluster.cli import common
from cluster.home import home
from distill.errors import PlanError, RecipeError, StoreError

UNITS = {"h": 3600, "m": 60, "s": 1}
BARE = ("name", "paper", "expected", "seed", "device", "threads", "dataset", "synthetic")
"""Settings of a recipe that leave everything else to the plan."""


def seconds(text: str) -> float:
    """1h30m, 20m, 90s or 1.5h in seconds. PlanError for anything else."""
    parts = re.findall(r"([0-9]*\.?[0-9]+)\s*(h|m|s)", text.lower().replace("min", "m"))
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not total or re.sub(r"[0-9.\s]|min|h|m|s", "", text.lower()):
        raise PlanError(f"--within {text}: write the time as 20m, 1h or 1h30m")
    return total


def read(source: str, overrides: list[str], given: float | None = None):
    """The recipe to distill: that of `source`, or, for data alone, a plan made now or kept."""
    return planned(source, overrides, given) if is_bare(source) else common.read(source, overrides)


def is_bare(source: str) -> bool:
    """Whether `source` is a dataset, or a recipe file that names only its dataset, its set and who runs it."""
    return common.is_data(source) or (Path(source).is_file() and not set(_table(source)) - set(BARE))


def planned(source: str, overrides: list[str], given: float | None, ipc: int = 1, out: Path | None = None):
    """The plan for a dataset, kept or made; prints it, and writes the recipe to `out`.

    Without a time the plan is for an hour, or as many as it takes, of two cores of nominal speed, and the same on every
    machine. `dataset`, `device`, `synthetic.ipc` and `objective.kind` of the overrides, or of a bare recipe, are
    planned with; the others are applied to the plan. Raises PlanError if nothing fits, StoreError if `out` cannot be
    written.
    """
    from distill import recipe as recipes
    from distill.recipe import digest, dotted

    own = _table(source) if is_bare(source) and not common.is_data(source) else {}
    rest = [f"{path}={json.dumps(value)}" for path, value in dotted(own).items() if not path.startswith("dataset.")]
    rest += [text for text in overrides if not text.startswith("dataset.") or text == "dataset.size=0"]
    settings = common.dataset_settings(source, [text for text in overrides if text.startswith("dataset.")])
    asked = _asked(rest, source)
    ipc = max(1, math.ceil(asked.get("synthetic.ipc", ipc)))
    device, objective = asked.get("device", "auto"), asked.get("objective.kind", "")
    request = {"dataset": settings.model_dump(mode="json"), "seconds": given, "ipc": ipc, "device": device}
    request |= {"objective": objective} if objective else {}
    path = home() / "plans" / f"{_name(source)}-{digest(request)}.toml"
    if kept := path.is_file():
        comments = [line[2:] for line in path.read_text(encoding="utf8").splitlines() if line.startswith("# ")]
    else:
        comments = _make(settings, source, given, ipc, device, objective, path)
    for line in comments:
        common.console.print(line, soft_wrap=True, markup=False)
    made = "made before: remove it to plan again" if kept else "kept: the same command continues with it"
    common.console.print(f"plan      {path}, {made}", soft_wrap=True, markup=False)
    recipe = common.absolute(recipes.load(str(path), rest))
    if out:
        try:
            out.write_text(_toml(comments, recipe), encoding="utf8")
        except OSError as error:
            raise StoreError(f"{out}: {error.strerror}: name a file that can be written with --out") from None
    return recipe


def _make(settings, source: str, given: float | None, ipc: int, device: str, objective: str, path: Path) -> list[str]:
    """Measure, choose and keep; returns the plan in lines."""
    from cluster.jobs.progress import Reading
    from distill.data.texts import shown
    from distill.engine import allocator
    from distill.plan import nominal, plan, words
    from distill.text import duration

    allocator.settle()
    if given:
        common.console.print(f"planning for {duration(given)}: a step of everything is timed on this machine")
    with Reading(common.console) as reading:
        if given:
            made = plan(settings, given, ipc, _name(source), os.cpu_count() or 1, device, reading, objective=objective)
        else:
            made = nominal.planned(settings, ipc, _name(source), device, reading, objective)
    where = "" if given else " of two CPU cores of usual speed; --within plans for the time there is here"
    lines = [("for", f"{source} within {duration(made.seconds)}{where}"), *words.lines(made)]
    comments = [f"{heading:<9} {shown(' '.join(text.split()))}" for heading, text in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".part")
    whole.write_text(_toml(comments, made.recipe), encoding="utf8")
    os.replace(whole, path)
    return comments


def _toml(comments: list[str], recipe) -> str:
    """A recipe as a file, its comments first."""
    import tomlkit

    document = tomlkit.document()
    for line in comments:
        document.add(tomlkit.comment(line))
    for key, value in recipe.model_dump(mode="json", exclude_none=True).items():
        document.add(key, value)
    return tomlkit.dumps(document)


def _table(source: str) -> dict:
    """The recipe file `source`. RecipeError if it is not TOML."""
    import tomllib

    try:
        return tomllib.loads(Path(source).read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"recipe {source}: not TOML: {error}") from None


def _asked(overrides: list[str], source: str) -> dict[str, Any]:
    """What overrides say of the settings that are planned with. RecipeError if they are wrong."""
    from distill import recipe as recipes

    said = [text for text in overrides if text.split("=")[0].split(".")[0] in ("device", "synthetic")]
    said += [text for text in overrides if text.startswith("objective.kind=")]
    any_recipe = {"name": "plan", "dataset": {"kind": "digits"}}
    values = recipes.dotted(recipes.override(any_recipe, said, source).model_dump(mode="json"))
    return {path: values[path] for path in values if any(text.startswith(f"{path}=") for text in said)}


def _name(source: str) -> str:
    """A recipe's name from that of a file or folder."""
    from distill.recipe import slug

    return slug(Path(source.rstrip("/")).name.partition(".")[0])[:39]
