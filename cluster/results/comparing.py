"""What runs of one dataset reached, read from the store: their results, their evaluations, the papers' figures.

    found = gather(["digits-0123", "digits-4567"], store)
    markdown(found, "compare.png")

Nothing is computed anew. A run's own figure stands in runs/<id>/result.json; its baselines in the evaluations that
`stillhouse evaluate` leaves beside it.
"""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cluster.results.baselines import title
from cluster.results.runs import Run, run_ids
from cluster.store import Store
from distill.errors import DataError
from distill.papers import Reference, reference
from distill.published import Published
from distill.recipe import dotted, parse
from distill.text import percent

Score = dict
"""mean, std and n of an accuracy, as a fraction."""


@dataclass(frozen=True)
class Entry:
    """One run: its method and budget, its accuracy, and the baselines that were measured with it."""

    run_id: str
    method: str
    """Synthetic and objective."""
    network: str
    protocol: str
    selection: str
    ipc: float
    """Budget: all floats to be stored, as images per class."""
    score: Score
    baselines: dict[str, Score] = field(default_factory=dict)
    """Of the same recipe, by name; `full` is all training images."""
    differing_settings: dict[str, str] = field(default_factory=dict)
    """Settings that every run has and in which they differ, by dotted name."""

    @property
    def label(self) -> str:
        """What the run has in common with others of its line in a plot."""
        return f"{self.method}, {self.network}, {self.protocol}"


@dataclass(frozen=True)
class Comparison:
    """Runs of one dataset, by rising budget."""

    dataset: str
    entries: tuple[Entry, ...]
    published: Reference | None

    @property
    def baselines(self) -> list[str]:
        """Names of all baselines that some run has, full data last."""
        names = {name for entry in self.entries for name in entry.baselines}
        return sorted(names, key=lambda name: (name == "full", name != "random", name))


def gather(runs: Sequence[str], store: Store) -> Comparison:
    """Read what the store knows of these runs.

    Raises DataError for a run that is not there, has not ended or is of another dataset, naming all of them.
    """
    known, faults, results = run_ids(store), [], {}
    for run_id in dict.fromkeys(runs):
        result = Run(store, run_id).result() if run_id in known else None
        if result is None:
            why = "has not ended: run its `stillhouse distill` again" if run_id in known else "is not in the store"
            faults.append(f"  {run_id} {why}")
        results[run_id] = result
    if faults:
        raise DataError(f"store {store.url}:\n" + "\n".join(faults) + f"\n  runs there: {', '.join(known) or 'none'}")
    sets = {run_id: Run(store, run_id).published() for run_id in results}
    _same_dataset({run_id: _identity(made) for run_id, made in sets.items()})
    differing = _differing_settings({run_id: made.recipe for run_id, made in sets.items()})
    entries = [entry(Run(store, run_id), result, sets[run_id], differing[run_id]) for run_id, result in results.items()]
    first = next(iter(sets.values()))
    dataset = first.recipe["dataset"]
    papers = reference(dataset, first.classes, min(first.shape[1:]))
    return Comparison(dataset_name(dataset), tuple(sorted(entries, key=lambda e: (e.ipc, e.run_id))), papers)


def entry(run: Run, result: dict, made: Published, differing: dict[str, str]) -> Entry:
    """A run with its `result`, and those of its evaluations that used the same settings as its own."""
    method = f"{made.recipe['synthetic']['kind']} x {made.recipe['objective']['kind']}"
    own = {"mean": result["test_mean"], "std": result["test_std"], "n": result["test_n"]}
    baselines: dict[str, Score] = {}
    for figures in run.evaluations():
        if _as_the_run(figures, made):
            own = max(own, figures, key=lambda score: score["n"])
            baselines |= named_scores(figures)
    score = {key: own[key] for key in ("mean", "std", "n")}
    kinds = result["network"], result["protocol"], result["selection"]
    return Entry(run.run_id, method, *kinds, result["budget_ipc"], score, baselines, differing)


def _differing_settings(recipes: dict[str, dict]) -> dict[str, dict[str, str]]:
    """Of every run the settings in which they differ; kinds, and what only some kinds have, are part of the method."""
    tables = {run_id: dotted(parse(recipe, run_id).decisive()) for run_id, recipe in recipes.items()}
    first, *others = tables.values()
    every = [name for name in first if all(name in table for table in others) and not name.endswith(".kind")]
    names = [name for name in every if any(table[name] != first[name] for table in others)]
    return {run_id: {name: json.dumps(table[name]) for name in names} for run_id, table in tables.items()}


def _as_the_run(figures: dict, made: Published) -> bool:
    """Whether an evaluation's recipe and data are the run's, but for how many networks and which baselines it had."""
    theirs, own = (_deciding(table) for table in (figures["recipe"], made.recipe))
    return theirs == own and figures.get("data", {}) == made.data


def _deciding(recipe: dict) -> tuple[dict, list[int]]:
    """The settings that decide what a run gives."""
    return parse(recipe, "of a run").decisive(), _limits(recipe["dataset"])


def named_scores(figures: dict) -> dict[str, Score]:
    """Every named score inside an evaluation's figures, whichever there are."""
    named = {**figures, **figures.get("baselines", {})}
    return {name: s for name, s in named.items() if isinstance(s, dict) and {"mean", "std", "n"} <= {*s}}


# ---------------------------------------------------------------- one dataset


def _identity(published: Published) -> dict:
    """What must agree between runs for their test accuracies to be of the same task."""
    dataset = published.recipe["dataset"]
    return {
        "data": dataset_name(dataset),
        "classes": list(published.classes),
        "image shape": list(published.shape),
        "limits": _limits(dataset),
        **({"test images": published.data["test"]} if published.data else {}),
    }


def _limits(dataset: dict) -> list[int]:
    return [dataset.get("limit", 0), dataset.get("limit_test", 0)]


def _same_dataset(identities: dict[str, dict]) -> None:
    first, *others = identities
    faults = []
    for other in others:
        mine, theirs = identities[first], identities[other]
        if differing := [key for key in mine if key in theirs and mine[key] != theirs[key]]:
            key = differing[0]
            faults.append(f"  {key}: {other} has {_short(theirs[key])}, {first} has {_short(mine[key])}")
    if faults:
        raise DataError("runs of different datasets are not compared; leave some out:\n" + "\n".join(faults))


def _short(value: object) -> str:
    return textwrap.shorten(str(value), 80, placeholder=" ...")


def dataset_name(dataset: dict) -> str:
    """What people call the data: its folder or file, else its reader's kind; and its subset."""
    path = str(dataset.get("path", "")).partition("?")[0]
    return " ".join(part for part in (PurePosixPath(path).name or dataset["kind"], dataset.get("subset")) if part)


# ---------------------------------------------------------------- Markdown


def markdown(found: Comparison, picture: str) -> str:
    """The table of the runs, then that of the papers, which is of another selection and marked so."""
    names = found.baselines
    head = ["run", "method", "network", "protocol", "step chosen on", "images per class", "test accuracy, %", "n"]
    rows = [
        [
            e.run_id, e.method, e.network, e.protocol, chosen_on(e), f"{e.ipc:.3g}", f"**{percent(e.score)}**",
            str(e.score["n"]), *(percent(e.baselines.get(name)) for name in names),
        ]
        for e in found.entries
    ]  # fmt: skip
    text = [f"# {_cell(found.dataset)}: accuracy against budget", "", f"![accuracy against budget]({picture})", ""]
    text += _table([*head, *(title(name) for name in names)], rows)
    text += [
        "",
        "Mean and standard deviation of n networks, trained from scratch and judged on the test images.",
        *_settings_table(found.entries),
    ]
    return "\n".join([*text, *_papers(found.published)]) + "\n"


def _settings_table(entries: Sequence[Entry]) -> list[str]:
    names = list(entries[0].differing_settings)
    if not names:
        return []
    rows = [[name, *(e.differing_settings[name] for e in entries)] for name in names]
    return ["", "## Settings in which the runs differ", "", *_table(["setting", *(e.run_id for e in entries)], rows)]


def _papers(papers: Reference | None) -> list[str]:
    if papers is None:
        return []
    budgets = sorted({ipc for pairs in papers.methods.values() for ipc, _ in pairs})
    rows = [[name, *(str(dict(pairs).get(b, "")) for b in budgets)] for name, pairs in papers.methods.items()]
    whole = f" All training images: {papers.full} %." if papers.full else ""
    return [
        "", f"## Published figures: {papers.title}, percent", "",
        "As the papers report them, with their networks: **the best step on the test images**, which flatters." + whole,
        "", *_table(["method", *(f"{b:g} per class" for b in budgets)], rows),
    ]  # fmt: skip


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def chosen_on(entry: Entry) -> str:
    """Which images chose the published step."""
    return "held-out training images" if entry.selection == "validation" else "TEST images"
