"""Summary of a set of experts, sealed or not: data, network, progress, accuracy."""

import statistics
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from cluster.store.base import Store
from cluster.trajectories import manifest as m
from cluster.trajectories.format import ExpertIndex, SetSpec
from cluster.trajectories.sets import TrajectorySet, list_sets
from distill.recipe import Network

_NETWORK = TypeAdapter(Network)


@dataclass(frozen=True)
class Epoch:
    """Accuracy after a saved epoch: means and standard deviations over the finished experts, in [0, 1]."""

    epoch: int
    train_mean: float
    train_std: float
    test_mean: float
    test_std: float


@dataclass(frozen=True)
class Summary:
    """A set as `stillhouse trajectories` shows it."""

    name: str
    about: dict[str, str | int]
    """Names of its data and recipe; empty for a set without a description."""
    spec: SetSpec | None
    """None before the first expert is finished."""
    sealed: int
    """Experts of the largest manifest."""
    experts: dict[int, ExpertIndex]
    """The finished experts by number, sealed or not."""
    bytes: int
    """Of all objects of the set."""

    @property
    def data(self) -> str:
        """The data in a few words: their names, if described, and their fingerprint."""
        known = [str(self.about[key]) for key in ("dataset", "preprocess", "shape") if key in self.about]
        return ", ".join([*known, f"fingerprint {self.spec.dataset[:12]}"] if self.spec else known)

    @property
    def network(self) -> str:
        """The network in a few words."""
        return network_label(self.spec.network) if self.spec else ""

    def curve(self) -> list[Epoch]:
        """Accuracy per saved epoch."""
        experts = list(self.experts.values())
        return [
            Epoch(
                epoch,
                *_mean_and_std([e.train_accuracy[row] for e in experts]),
                *_mean_and_std([e.test_accuracy[row] for e in experts]),
            )
            for row, epoch in enumerate(self.spec.epochs if self.spec else ())
        ]

    def json(self) -> dict:
        """The figures."""
        last = self.curve()[-1] if self.experts else None
        return {
            "name": self.name,
            "about": self.about,
            "dataset": self.spec and self.spec.dataset,
            "network": self.network,
            "finished": len(self.experts),
            "sealed": self.sealed,
            "epochs": self.spec and self.spec.epochs[-1],
            "saved_epochs": self.spec and len(self.spec.epochs),
            "dtype": self.spec and self.spec.dtype,
            "bytes": self.bytes,
            "test_accuracy": last and last.test_mean,
            "test_accuracy_std": last and last.test_std,
        }


def summaries(store: Store) -> list[Summary]:
    """All sets of a store, by name."""
    return [summarize(TrajectorySet(store, name)) for name in list_sets(store)]


def summarize(experts: TrajectorySet) -> Summary:
    """The summary, from the manifest and the indexes beside the objects; an object without an index is read itself.

    Raises TrajectoryError for damaged objects.
    """
    entries = experts.entries()
    sizes = {entry.key: entry.size for entry in entries}
    numbers = sorted(n for n in map(m.expert_number, sizes) if n is not None)
    sealed = max((c for c in map(m.manifest_count, sizes) if c is not None), default=0)
    spec, found = None, {}
    if sealed:
        manifest, _ = experts.manifest(sealed)
        spec, found = manifest.spec, dict(enumerate(manifest.experts))
    for number in numbers:
        if number not in found:
            spec, found[number] = experts.part(number, sizes, spec)
    return Summary(experts.name, experts.about(), spec, sealed, found, sum(sizes.values()))


def network_label(network: dict) -> str:
    """A network's settings in a few words; those of another version of this program unchanged."""
    try:
        return _NETWORK.validate_python(network).label
    except ValidationError:
        return " ".join(f"{key}={value}" for key, value in network.items())


def _mean_and_std(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
