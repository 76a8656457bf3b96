"""The accuracies of a set's experts by epoch, in one MLflow run per set even if training is resumed many times.

Metrics: `expert-003/test_accuracy` and `expert-003/train_accuracy` by epoch, and their means over all experts,
`mean-of-100/test_accuracy`, once the set is complete.
"""

from cluster.tracking.run import Tracker
from cluster.trajectories import Reader
from distill.context import Context

EXPERIMENT = "experts"
PARTS = ("train_accuracy", "test_accuracy")


class Curves:
    """Open with Curves.of(). Epochs that the run already has are not logged again. Not thread-safe.

    Without a tracker nothing is logged.
    """

    def __init__(self, tracker: Tracker | None):
        self.tracker = tracker
        self._logged: dict[str, set[int]] = {}

    @classmethod
    def of(cls, context: Context, name: str, uri: str | None) -> "Curves":
        """The new or resumed run of the set `name`; without a tracking URI nothing is logged.

        Raises StoreError if the tracking store cannot be used.
        """
        if uri is None:
            return cls(None)
        recipe = context.recipe
        blocks = recipe.model_dump(mode="json", include={"dataset", "network", "experts"})
        del blocks["experts"]["count"], blocks["experts"]["workers"]  # they change when a set grows
        tags = {"dataset": context.data.fingerprint, "network": recipe.network.label, "recipe": recipe.name}
        return cls(Tracker.open(uri, EXPERIMENT, name, name, blocks, tags))

    def expert(self, expert: int, epoch: int, accuracies: dict[str, float]) -> None:
        """Log `train_accuracy` and `test_accuracy` of one expert at one epoch."""
        self._log(f"expert-{expert:03d}", epoch, accuracies)

    def finish(self, reader: Reader) -> None:
        """Log the means of a complete set, and the epochs that an interrupted driver did not log; close the run."""
        if self.tracker is None:
            return
        curves = [
            {"train_accuracy": reader.train_accuracy(i), "test_accuracy": reader.test_accuracy(i)}
            for i in range(reader.count)
        ]
        for expert, curve in enumerate(curves):
            for row, epoch in enumerate(reader.epochs):
                self.expert(expert, epoch, {part: curve[part][row] for part in PARTS})
        for row, epoch in enumerate(reader.epochs):
            means = {part: sum(curve[part][row] for curve in curves) / len(curves) for part in PARTS}
            self._log(f"mean-of-{reader.count}", epoch, means)
        self.tracker.finish()

    def fail(self) -> None:
        """Mark the run as failed."""
        if self.tracker:
            self.tracker.fail()

    def stop(self) -> None:
        """Mark the run as stopped by the user."""
        if self.tracker:
            self.tracker.finish("KILLED")

    def _log(self, group: str, epoch: int, accuracies: dict[str, float]) -> None:
        if self.tracker is None:
            return
        if group not in self._logged:
            self._logged[group] = self.tracker.steps(f"{group}/{PARTS[0]}") if self.tracker.resumed else set()
        if epoch not in self._logged[group]:
            self._logged[group].add(epoch)
            self.tracker.log(epoch, {f"{group}/{part}": accuracies[part] for part in PARTS})
