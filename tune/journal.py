"""What a sweep leaves in the store, from which it goes on after any end: `sweeps/<sweep-id>/`.

    sweep.json                         the sweep and its recipe
    trials/00003/drawn.json            what the searcher drew, before the trial begins
    trials/00003/reports/00000080.json the judgement after 80 steps
    trials/00003/pictures/...png       the set at each best so far, named by step and accuracy
    trials/00003/end.json              how the trial ended; without it, as when the budget was used up, it goes on

Everything is JSON and PNG: Ray's own experiment files hold pickles, so they are never read.
"""

import json
from dataclasses import asdict, dataclass, field

from cluster.store.base import Store
from distill.errors import ConflictError
from tune.space import Value

FINISHED, STOPPED, BUDGET, DIVERGED, MEMORY, FAILED = "finished", "stopped", "budget", "diverged", "memory", "failed"
WELL = (FINISHED, STOPPED, BUDGET)
"""Ends of trials whose accuracy counts; the others say nothing but where not to search."""


@dataclass(frozen=True)
class Report:
    """One judgement of a trial; accuracies are fractions of the held-out training images."""

    step: int
    accuracy: float
    best_step: int
    best_accuracy: float
    loss: float | None
    budget_floats: int
    seconds: float
    """The trial's own time so far; what a killed attempt took is not in it."""
    run_id: str
    """The run in the store that holds its checkpoints."""
    values: dict[str, Value]
    """Recipe values at that step, which only pbt changes."""

    @property
    def picture(self) -> str:
        """Name of the picture of its best set."""
        return f"{self.best_step:08d}-{self.best_accuracy:.6f}.png"


@dataclass(frozen=True)
class End:
    """How a trial ended."""

    status: str
    step: int
    message: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0
    """The estimate of a trial that ran out of memory."""


@dataclass
class Trial:
    """All that is known of one trial."""

    number: int
    point: dict
    values: dict[str, Value]
    reports: list[Report] = field(default_factory=list)
    end: End | None = None

    @property
    def status(self) -> str:
        return self.end.status if self.end else "running"

    @property
    def best(self) -> Report | None:
        """The last report, which carries the best so far."""
        return self.reports[-1] if self.reports else None

    def score(self, metric: str) -> float | None:
        """The value of the sweep's metric; None where there is none that counts."""
        if not self.reports or self.status not in (*WELL, "running"):
            return None
        return self.reports[-1].best_accuracy if metric == "validation_accuracy" else self.reports[-1].loss


class Journal:
    """The records of one sweep. Writing a record again is allowed: what is there stays."""

    def __init__(self, store: Store, sweep_id: str):
        self.store, self.sweep_id = store, sweep_id
        self.folder = f"sweeps/{sweep_id}"

    def begin(self, head: dict) -> None:
        """Record the sweep itself."""
        self._write("sweep.json", head)

    def begun(self) -> bool:
        return bool(self.store.list(f"{self.folder}/sweep.json"))

    def drawn(self, trial: Trial) -> None:
        """Record a trial before it begins."""
        about = {"number": trial.number, "point": trial.point, "values": trial.values}
        self._write(f"trials/{trial.number:05d}/drawn.json", about)

    def report(self, number: int, report: Report, picture: bytes | None = None) -> None:
        """Record a judgement; `picture` is the best set so far as PNG, where it was not recorded before."""
        if picture:
            self._create(f"trials/{number:05d}/pictures/{report.picture}", picture)
        self._write(f"trials/{number:05d}/reports/{report.step:08d}.json", asdict(report))

    def end(self, number: int, end: End) -> None:
        """Record how a trial ended."""
        self._write(f"trials/{number:05d}/end.json", asdict(end))

    def trials(self) -> list[Trial]:
        """All trials by number."""
        keys = [entry.key for entry in self.store.list(f"{self.folder}/trials/")]
        found = {key.split("/")[3]: Trial(**self._read(key)) for key in keys if key.endswith("/drawn.json")}
        for key in keys:
            trial = found.get(key.split("/")[3])
            if trial and "/reports/" in key and key.endswith(".json"):
                trial.reports.append(Report(**self._read(key)))
            elif trial and key.endswith("/end.json"):
                trial.end = End(**self._read(key))
        return [found[name] for name in sorted(found)]

    def picture(self, trial: Trial) -> bytes | None:
        """PNG of a trial's best set, or None where it was never judged."""
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
            pass  # an attempt that was killed had come that far
