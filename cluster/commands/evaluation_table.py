"""Evaluations as tables on the terminal: accuracies by what was trained on, lengths of training, scores, notes."""

from rich.markup import escape
from rich.table import Table

from cluster.commands import common
from distill.recipe import Evaluation

SAYS = {
    "random": "random real images",
    "herding": "herding",
    "kmeans-nearest": "k-means, nearest",
    "kmeans-farthest": "k-means, farthest",
    "forgetting": "forgetting",
    "entropy-high": "entropy, high",
    "entropy-low": "entropy, low",
    "full": "all training images",
}
"""Baselines in the order in which the tables show them, the distilled set before the full data."""


def show(title: str, results: list[dict]) -> None:
    """Print what was found for one or several kinds of network."""
    columns = ["test accuracy, %"] if len(results) == 1 else [r["network"] for r in results]
    common.console.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
    common.console.print(common.accuracy_table("", columns, _rows(results)))
    for result in results:
        if stations := _stations(result):
            chosen = "the TEST images" if result["evaluation"]["selection"] == "best-on-test" else "held-out images"
            common.console.print(f"{result['network']} after so many steps; in brackets the best on {chosen}")
            common.console.print(stations)
    if any("scores" in result for result in results):
        common.console.print("scores of DD-Ranking, fractions")
        common.console.print(_scores(results))
    for line in dict.fromkeys(line for result in results for line in notes(result)):
        common.console.print(line, soft_wrap=True)


def settings(e: Evaluation, student_lr: float | None) -> str:
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


def notes(result: dict) -> list[str]:
    """What the tables cannot say."""
    lines = []
    if result.get("selected_through"):
        lines.append(f"herding, k-means and entropy look through {result['selected_through']}")
    skipped = result.get("skipped", {}).items()
    return lines + [f"[yellow]no {SAYS.get(row, row)}[/] ({result['network']}): {escape(why)}" for row, why in skipped]


def _rows(results: list[dict]) -> list[tuple[str, list[dict | None]]]:
    budget = results[0]["budget_ipc"]
    images = f"{results[0].get('real_ipc', budget):.3g} per class"
    named = {row: f"{said}, {images}" if row != "full" else said for row, said in SAYS.items()}
    rows = [(said, [result.get(row) for result in results]) for row, said in named.items()]
    if "mean" in results[0]:
        rows.insert(-1, (f"[bold]distilled, {budget:.3g} per class[/]", results))
    return [(said, scores) for said, scores in rows if any(scores)]


def _stations(result: dict) -> Table | None:
    """Accuracy after each length of training, where a protocol has several."""
    named = {**({"distilled": result} if "mean" in result else {}), **{row: result.get(row) for row in SAYS}}
    named = {row: score for row, score in named.items() if score and score.get("stations")}
    if not named:
        return None
    table = Table("trained on", *next(iter(named.values()))["stations"])
    for row, score in named.items():
        cells = [f"{'[' * (int(k) == score['steps'])}{common.percent(s)}{']' * (int(k) == score['steps'])}"
                 for k, s in score["stations"].items()]  # fmt: skip
        table.add_row(SAYS.get(row, row), *map(escape, cells))
    return table


def _scores(results: list[dict]) -> Table:
    """DD-Ranking's scores, as fractions."""
    names = ("hlr", "ior", "lrs", "ars")
    table = Table("network", *map(str.upper, names))
    for result in results:
        scores = result.get("scores", {})
        table.add_row(result["network"], *(f"{scores[name]:.3f}" if name in scores else "-" for name in names))
    return table
