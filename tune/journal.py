"""The records of a sweep in the store, from which it can always be resumed: `sweeps/<sweep-id>/`.

    sweep.json                         the sweep and its recipe
    trials/00003/drawn.json            what the searcher drew, written before the trial starts
    trials/00003/reports/00000080.json the judgement after 80 steps
    trials/00003/pictures/...png       the set at each new best, named by step and accuracy
    trials/00003/end.json              how the trial ended; without it (budget used up, killed) it can be resumed
    notes/baselines.json               figures beside the trials, of `stillhouse matrix`

Everything is JSON and PNG. Ray's own experiment files hold pickles, so they are never read.
"""

import json
from dataclasses import asdict, dataclass, field

from cluster.store.base import Store
from distill.errors import ConflictError, MissingError
from tune.space import Value

FINISHED, STOPPED, BUDGET, DIVERGED, MEMORY, FAILED = "finished", "stopped", "budget", "diverged", "memory", "failed"
COUNTED = (FINISHED, STOPPED, BUDGET)
"""Ends of trials whose accuracy counts."""


@dataclass(frozen=True)
class Judgement:
    """One judgement of a trial; accuracies are fractions of the held-out training images."""

    step: int
    accuracy: float
    best_step: int
    best_accuracy: float
    loss: float | None
    budget_floats: int
    seconds: float
    """Time spent so far in this attempt; earlier attempts that were killed are not included."""
    run_id: str
    """The run in the store that holds the trial's checkpoints."""
    values: dict[str, Value]
    """Recipe values at that step; only pbt changes them during a trial."""

    @property
    def picture(self) -> str:
        """File name of the picture of the best set."""
        return f"{self.best_step:08d}-{self.best_accuracy:.6f}.png"


@dataclass(frozen=True)
class End:
    """How a trial ended."""

    status: str
    step: int
    message: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0
    """Estimated memory of a trial that ran out of it."""


@dataclass
class SweepTrial:
    """Everything known about one trial of a sweep."""

    number: int
    point: dict
    values: dict[str, Value]
    reports: list[Judgement] = field(default_factory=list)
    end: End | None = None

    @property
    def status(self) -> str:
        return self.end.status if self.end else "running"

    @property
    def best(self) -> Judgement | None:
        """The last judgement, which includes the best so far."""
        return self.reports[-1] if self.reports else None

    def score(self, metric: str) -> float | None:
        """The value of the sweep's metric; None if there is none that counts."""
        if not self.reports or self.status not in (*COUNTED, "running"):
            return None
        return self.reports[-1].best_accuracy if metric == "validation_accuracy" else self.reports[-1].loss


class Journal:
    """The records of one sweep. Writing a record a second time is allowed and changes nothing."""

    def __init__(self, store: Store, sweep_id: str):
        self.store, self.sweep_id = store, sweep_id
        self.folder = f"sweeps/{sweep_id}"

    def start(self, head: dict) -> None:
        """Record the sweep itself."""
        self._write("sweep.json", head)

    def started(self) -> bool:
        return bool(self.store.list(f"{self.folder}/sweep.json"))

    def drawn(self, trial: SweepTrial) -> None:
        """Record a trial before it starts."""
        about = {"number": trial.number, "point": trial.point, "values": trial.values}
        self._write(f"trials/{trial.number:05d}/drawn.json", about)

    def report(self, number: int, report: Judgement, picture: bytes | None = None) -> None:
        """Record a judgement; `picture` is the best set so far as PNG, if it is not recorded yet."""
        if picture:
            self._create(f"trials/{number:05d}/pictures/{report.picture}", picture)
        self._write(f"trials/{number:05d}/reports/{report.step:08d}.json", asdict(report))

    def end(self, number: int, end: End) -> None:
        """Record how a trial ended."""
        self._write(f"trials/{number:05d}/end.json", asdict(end))

    def reopen(self, number: int) -> None:
        """Forget how a trial ended, so that it continues."""
        self.store.delete(f"{self.folder}/trials/{number:05d}/end.json", dry_run=False)

    def note(self, name: str, value: dict | list) -> None:
        """Record something about the sweep as a whole; a note that exists stays."""
        self._write(f"notes/{name}.json", value)

    def noted(self, name: str) -> dict | list | None:
        """A note, or None if there is none."""
        try:
            return self._read(f"{self.folder}/notes/{name}.json")
        except MissingError:
            return None

    def trials(self) -> list[SweepTrial]:
        """All trials by number."""
        keys = [entry.key for entry in self.store.list(f"{self.folder}/trials/")]
        by_name = {key.split("/")[3]: SweepTrial(**self._read(key)) for key in keys if key.endswith("/drawn.json")}
        for key in keys:
            trial = by_name.get(key.split("/")[3])
            if trial and "/reports/" in key and key.endswith(".json"):
                trial.reports.append(Judgement(**self._read(key)))
            elif trial and key.endswith("/end.json"):
                trial.end = End(**self._read(key))
        return [by_name[name] for name in sorted(by_name)]

    def picture(self, trial: SweepTrial) -> bytes | None:
        """PNG of a trial's best set; None if it was never judged."""
        if trial.best is None:
            return None
        return self.store.read(f"{self.folder}/trials/{trial.number:05d}/pictures/{trial.best.picture}")

    def _read(self, key: str) -> dict:
        return json.loads(self.store.read(key))

    def _write(self, name: str, value: dict) -> None:
        self._create(name, json.dumps(value, sort_keys=True).encode())

    def _create(self, name: str, data: bytes) -> None:
        try:
            self.store.create(f"{self.folder}/{name}", data)
        except ConflictError:
            pass  # written by an earlier attempt that was killed afterwards
