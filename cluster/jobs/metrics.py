"""What Prometheus sees of a job, through the metrics port of every Ray node (infra/grafana has a dashboard of it).

    ray_stillhouse_steps_total{run="digits-...-5000"} 4200

Workers count; Prometheus makes rates of it. Ray sends the figures on every ten seconds and drops those of processes
that ended. A Ray of the command's own has no metrics port; counting then costs nothing.
"""

import time

from ray.util.metrics import Counter, Gauge, Metric

from cluster.store.base import TRAFFIC

PREFIX = "ray_stillhouse_"
COUNTERS = {
    "steps": "Outer steps done.",
    "images": "Images passed through networks in training: synthetic and real, of experts and of students.",
    "expert_epochs": "Epochs of experts trained.",
    "read_bytes": "Bytes read from the store.",
    "written_bytes": "Bytes written to the store.",
}
GAUGES = {
    "judgement_accuracy": "Last accuracy on the held-out images, in [0, 1].",
    "checkpoint_time_seconds": "When the last checkpoint was saved, in seconds since 1970.",
}


def exported() -> dict[str, str]:
    """Every metric by the name that Prometheus has for it."""
    counters = {f"{PREFIX}{name}_total": about for name, about in COUNTERS.items()}
    return counters | {f"{PREFIX}{name}": about for name, about in GAUGES.items()}


_made: dict[str, Metric] = {}


def _metric(name: str) -> Metric:
    """One object per process and name."""
    if name not in _made:
        kind, about = (Counter, COUNTERS[name]) if name in COUNTERS else (Gauge, GAUGES[name])
        _made[name] = kind(f"stillhouse_{name}", about, tag_keys=("run",))
    return _made[name]


class JobMetrics:
    """The figures of one worker of one run, or of one set of experts."""

    def __init__(self, run: str):
        self.run = run
        self.images_per_step = 0.0
        """Images that this worker passes through networks in one outer step."""
        self._moved = TRAFFIC.copy()

    def step(self, first: bool) -> None:
        """An outer step is done: every worker counts its images, the first worker the step."""
        self._count("steps", int(first))
        self._count("images", self.images_per_step)
        self._count_bytes()

    def epoch(self, experts: int, images: int) -> None:
        """Experts that are trained together have seen `images` training images each."""
        self._count("expert_epochs", experts)
        self._count("images", experts * images)
        self._count_bytes()

    def judged(self, accuracy: float) -> None:
        """The set was judged on the held-out images."""
        _metric("judgement_accuracy").set(accuracy, tags={"run": self.run})

    def saved(self) -> None:
        """A checkpoint is in the store."""
        _metric("checkpoint_time_seconds").set(time.time(), tags={"run": self.run})
        self._count_bytes()

    def _count(self, name: str, amount: float) -> None:
        if amount > 0:
            _metric(name).inc(amount, tags={"run": self.run})

    def _count_bytes(self) -> None:
        """What this process read and wrote since the last call; two jobs are never in one process at once."""
        now = TRAFFIC.copy()
        self._count("read_bytes", now["read"] - self._moved["read"])
        self._count("written_bytes", now["written"] - self._moved["written"])
        self._moved = now
