"""How runs stand: from their checkpoints in the store, and from the steps that they log to MLflow. From any machine.

status(run, client).state    # "running"
"""

import json
import time
from dataclasses import dataclass

from cluster.results.runs import Run
from cluster.store.base import Store
from distill.errors import MissingError

PLACE, STEPS = "stillhouse.place", "stillhouse.steps"
"""Tags of a run in MLflow: the host of its first worker and its workers; its outer steps."""
RECENT = 50
"""Steps from which the speed is told."""
SILENT_SECONDS = 600.0
"""A run that logs nothing for so long may have lost its machine."""


@dataclass(frozen=True)
class Tracked:
    """What MLflow knows of a run."""

    state: str
    """MLflow's: RUNNING, FINISHED, FAILED or KILLED."""
    place: str
    steps: int
    """Of the whole run; 0 if unknown."""
    points: tuple[tuple[int, float], ...]
    """(step, time in s) of the last steps logged."""


@dataclass(frozen=True)
class Status:
    """How one run stands."""

    run: str
    state: str
    """finished, running, silent, stopped, failed, or unknown: it has checkpoints and no page in MLflow."""
    step: int
    steps: int
    """0 if unknown."""
    rate: float
    """Steps per second, lately; 0 if unknown."""
    checkpoint: int | None
    """Step of the last checkpoint."""
    place: str
    """Where it runs, or ran last."""
    seen: float | None
    """Seconds since it last logged a step."""

    @property
    def left(self) -> float | None:
        """Seconds until its last step, of a run that is running."""
        return (self.steps - self.step) / self.rate if self.state == "running" and self.rate and self.steps else None


def status(run: Run, tracked: Tracked | None, now: float | None = None) -> Status:
    """How a run stands; `tracked` is None if MLflow does not know it."""
    now = time.time() if now is None else now
    keys, result = run.checkpoints(), run.result()
    checkpoint = int(keys[-1].rpartition("/")[2].partition(".")[0]) if keys else None
    points = tracked.points if tracked else ()
    seen = max(0.0, now - points[-1][1]) if points else None
    step = max([checkpoint or 0, *(step for step, _ in points[-1:])])
    return Status(
        run=run.run_id,
        state="finished" if result else _state(tracked, seen),
        step=result["step"] if result and not points else step,
        steps=(tracked.steps if tracked else 0) or _steps(run),
        rate=rate(points),
        checkpoint=checkpoint,
        place=tracked.place if tracked else "",
        seen=seen,
    )


def rate(points: tuple[tuple[int, float], ...]) -> float:
    """Steps per second between the first and the last point, from the last time that the run was resumed."""
    begin = max((i for i in range(1, len(points)) if points[i][0] <= points[i - 1][0]), default=0)
    (first, began), (last, ended) = (points[begin], points[-1]) if points else ((0, 0.0), (0, 0.0))
    return (last - first) / (ended - began) if ended > began and last > first else 0.0


def unfinished(store: Store) -> list[Run]:
    """The runs of a store that have no result, by name."""
    names: dict[str, bool] = {}
    for entry in store.list("runs/"):
        name = entry.key.split("/")[1]
        names[name] = names.get(name, False) or entry.key == f"runs/{name}/result.json"
    return [Run(store, name) for name, done in sorted(names.items()) if not done]


def _state(tracked: Tracked | None, seen: float | None) -> str:
    if tracked is None:
        return "unknown"
    if tracked.state == "RUNNING":
        return "silent" if seen is not None and seen > SILENT_SECONDS else "running"
    return {"KILLED": "stopped", "FAILED": "failed", "FINISHED": "finished"}.get(tracked.state, "unknown")


def _steps(run: Run) -> int:
    """The steps of its recipe."""
    try:
        return int(json.loads(run.store.read(f"{run.folder}/recipe.json"))["outer"]["steps"])
    except (MissingError, KeyError, ValueError):
        return 0
