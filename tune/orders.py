"""The search for class orders (distill/order/search.py) as a sweep's searcher: one poster distilled per order."""

from distill import order
from distill.context import Context
from distill.errors import RecipeError
from distill.order.search import OrderSearch
from tune.journal import SweepTrial
from tune.reading import Plan
from tune.space import Permutation


class OrderDraws:
    """Orders of classes, each proposed from the results of the trials before it."""

    def __init__(self, plan: Plan, past: list[SweepTrial], context: Context):
        """Raises RecipeError if the synthetic set has no grid of classes, or the items are not its classes."""
        ((self.path, self.permutation),) = plan.sweep.search.items()
        self.metric, self.sign = plan.sweep.metric, 1 if plan.sweep.mode == "max" else -1
        poster = plan.base.synthetic
        if poster.kind != "poster" or poster.posters != "one":
            raise RecipeError("searcher order lays classes out on a poster: set synthetic.kind = poster, posters = one")
        classes = context.data.classes
        rows, columns = (poster.rows, poster.columns) if poster.rows else order.shape_of(len(classes))
        self.items = _by_class(self.permutation, classes)
        apart = order.distances(classes, plan.sweep.searcher.embedding or poster.embedding, context=context)
        self.search = OrderSearch(apart, rows, columns, plan.sweep.seed)
        self.grids = {trial.number: self._grid(trial, columns) for trial in past}
        flat = [sum(self.grids[trial.number], []) for trial in past]
        self.search.restored({"trials": [[cells, None] for cells in flat]})  # JournalSearcher adds their values

    def point(self, number: int) -> dict:
        grid = self.grids[number] = self.search.ask()
        place = {self.items[k]: i for i, k in enumerate(sum(grid, []))}
        return {f"{self.path}#{i}": place[item] / len(place) for i, item in enumerate(self.permutation.items)}

    def result(self, number: int, score: dict | None) -> None:
        value = score.get(self.metric) if score else None
        self.search.tell(self.grids[number], None if value is None else self.sign * value)

    def _grid(self, trial: SweepTrial, columns: int) -> list[list[int]]:
        classes = {item: k for k, item in enumerate(self.items)}
        cells = [classes[item] for item in trial.values[self.path]]
        return [cells[i : i + columns] for i in range(0, len(cells), columns)]


def _by_class(permutation: Permutation, classes: tuple[str, ...]) -> list[int | str]:
    """The item of each class, in the order of the classes."""
    by_class = {(classes.index(item) if item in classes else item): item for item in permutation.items}
    if sorted(by_class, key=str) != sorted(range(len(classes)), key=str):
        raise RecipeError(f"searcher order: items must be the {len(classes)} classes, each once: {', '.join(classes)}")
    return [by_class[k] for k in range(len(classes))]
