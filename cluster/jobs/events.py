"""What the workers of a job report to its driver while it runs; each event is one of these classes.

worker.post(StepDone(12, {"loss": 0.4}, accuracy=0.31))
"""

from dataclasses import dataclass, field

from distill.errors import StillhouseError, WorkerError
from distill.evaluate.score import Measured


@dataclass(frozen=True)
class Event:
    """Something that happened in a job."""

    worker: int = field(default=0, kw_only=True, compare=False)
    """Rank of the worker that posted it; 0 for the driver's own."""


@dataclass(frozen=True)
class Note(Event):
    """A line for the user."""

    text: str


@dataclass(frozen=True)
class Fault(Event):
    """An exception that ends the job; the driver raises it."""

    error: StillhouseError | WorkerError


@dataclass(frozen=True)
class Saved(Event):
    """A worker has saved its state because the command was stopped, and ends."""

    what: str
    """What is saved, for the user."""


# ---------------------------------------------------------------- experts


@dataclass(frozen=True)
class ExpertsStarted(Event):
    """Workers are about to train experts."""

    experts: int
    """How many will be trained."""
    epochs: int
    """Epochs of each."""


@dataclass(frozen=True)
class ExpertResumed(Event):
    """An expert continues from a saved state."""

    expert: int
    epoch: int
    """The last epoch in that state."""


@dataclass(frozen=True)
class ExpertEpoch(Event):
    """An expert has finished an epoch; epoch 0 is its initial network."""

    expert: int
    epoch: int
    train_accuracy: float
    """In [0, 1]."""
    test_accuracy: float
    """In [0, 1]."""


# ---------------------------------------------------------------- distilling


@dataclass(frozen=True)
class DistillingStarted(Event):
    """Workers are about to distill."""

    steps: int
    """Outer steps of the whole run."""


@dataclass(frozen=True)
class DistillingResumed(Event):
    """The run continues from a checkpoint."""

    step: int
    """Outer steps done by then."""
    run_id: str = ""
    """The shorter run whose checkpoint it is; empty for the run's own."""


@dataclass(frozen=True)
class DistillingCutShort(Event):
    """The time given is over: the set is published after fewer steps than planned."""

    step: int
    """Outer steps done."""
    run_id: str
    """The run with that number of steps, under which the set is published."""


@dataclass(frozen=True)
class StepDone(Event):
    """An outer step is done."""

    step: int
    """Counted from 1."""
    metrics: dict[str, float]
    """`loss` and what else the objective measures."""
    accuracy: float | None
    """The last selection accuracy, in [0, 1]; None before the first judgement."""
    judged: int | None = None
    """The step at which it was measured."""


# ---------------------------------------------------------------- evaluating


@dataclass(frozen=True)
class BudgetKnown(Event):
    """The size of the set that is evaluated, and of the real images it is compared with."""

    floats: int
    """Numbers that must be stored."""
    per_class: float
    """The same as images per class."""
    real: float
    """Real images per class of the baselines."""


@dataclass(frozen=True)
class NetworkMeasured(Event):
    """One network of an evaluation is trained and judged."""

    network: int
    """Which kind of network, as an index into the request's networks."""
    row: str
    """What it was trained on (distill/evaluate/rows.py)."""
    number: int
    """Which network of its row."""
    measured: Measured
    selection_network: str | None
    """The network in whose feature space the row's images were selected; None if there is none."""


@dataclass(frozen=True)
class RowSkipped(Event):
    """A row of an evaluation cannot be measured."""

    network: int
    row: str
    reason: str
