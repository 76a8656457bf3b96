"""Evaluations as tables on the terminal: accuracies by what was trained on, lengths of training, scores, notes."""

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from cluster.cli import common
from cluster.results.baselines import TITLES, title
from distill.text import percent

if TYPE_CHECKING:
    from distill.recipe import Evaluation


def show(heading: str, results: list[dict], own: str = "distilled") -> None:
    """Print the figures for one or several kinds of network; `own` says what the set is."""
    columns = ["test accuracy, %"] if len(results) == 1 else [r["network"] for r in results]
    common.console.print(f"[bold]{escape(heading)}[/]", soft_wrap=True)
    common.console.print(accuracy_table(columns, _rows(results, own)))
    for result in results:
        if by_steps := _by_steps(result):
            chosen = "the TEST images" if result["evaluation"]["selection"] == "best-on-test" else "held-out images"
            common.console.print(f"{result['network']} by steps of training; in brackets the best on {chosen}")
            common.console.print(by_steps)
    if any("scores" in result for result in results):
        common.console.print("scores of DD-Ranking, fractions")
        common.console.print(_scores(results))
    for line in dict.fromkeys(line for result in results for line in notes(result)):
        common.console.print(line, soft_wrap=True)


def settings(e: "Evaluation", student_lr: float | None) -> str:
    """A protocol's settings in a line."""
    rate = f"lr {e.lr:g}"
    if student_lr and e.learned_lr:
        rate = f"the learned lr {student_lr:.3g} (real images: {e.lr:g})"
    momentum = f", momentum {e.momentum:g}, weight decay {e.weight_decay:g}" if e.optimizer == "sgd" else ""
    length = f"{e.epochs} epochs" if e.epochs else f"{'/'.join(map(str, e.steps))} steps"
    decay = ", x0.1 at half" if e.decay == "half" else ""
    batch = f"batch {e.batch}" if e.batch else "the whole set each step"
    augmented, short = ", ".join(e.augment.strategies) or "none", "; bfloat16" if e.bf16 else ""
    return (
        f"protocol {e.protocol}: {e.optimizer}, {rate}{momentum}, {batch}, {length}{decay}; "
        f"augmentation: {augmented}{short}"
    )


def accuracy_table(columns: list[str], rows: list[tuple[str, list[dict | None]]]) -> Table:
    """Rows of (what was trained on, its score for each column); a dash if there is none."""
    table = Table(title_justify="left")
    for name, justify in (("trained on", "left"), *((column, "right") for column in columns), ("n", "right")):
        table.add_column(name, justify=justify, overflow="fold")
    for name, scores in rows:
        n = "/".join(dict.fromkeys(str(score["n"]) for score in scores if score))
        table.add_row(name, *(percent(score) or "-" for score in scores), n)
    return table


def notes(result: dict) -> list[str]:
    """What the tables cannot say."""
    lines = []
    if result.get("selection_network"):
        lines.append(f"herding, k-means and entropy use the features of {result['selection_network']}")
    skipped = result.get("skipped", {}).items()
    return lines + [f"[yellow]no {title(row)}[/] ({result['network']}): {escape(why)}" for row, why in skipped]


def _rows(results: list[dict], own: str) -> list[tuple[str, list[dict | None]]]:
    budget = results[0]["budget_ipc"]
    images = f"{results[0].get('real_ipc', budget):.3g} per class"
    named = {row: f"{said}, {images}" if row != "full" else said for row, said in TITLES.items()}
    rows = [(said, [result.get(row) for result in results]) for row, said in named.items()]
    if "mean" in results[0]:
        rows.insert(-1, (f"[bold]{own}, {budget:.3g} per class[/]", results))
    return [(said, scores) for said, scores in rows if any(scores)]


def _by_steps(result: dict) -> Table | None:
    """Accuracy after each length of training, if the protocol has several."""
    named = {**({"distilled": result} if "mean" in result else {}), **{row: result.get(row) for row in TITLES}}
    named = {row: score for row, score in named.items() if score and score.get("by_steps")}
    if not named:
        return None
    table = Table("trained on", *next(iter(named.values()))["by_steps"])
    for row, score in named.items():
        cells = [f"{'[' * (int(k) == score['steps'])}{percent(s)}{']' * (int(k) == score['steps'])}"
                 for k, s in score["by_steps"].items()]  # fmt: skip
        table.add_row(title(row), *map(escape, cells))
    return table


def _scores(results: list[dict]) -> Table:
    """DD-Ranking's scores, as fractions."""
    names = ("hlr", "ior", "lrs", "ars")
    table = Table("network", *map(str.upper, names))
    for result in results:
        scores = result.get("scores", {})
        table.add_row(result["network"], *(f"{scores[name]:.3f}" if name in scores else "-" for name in names))
    return table
