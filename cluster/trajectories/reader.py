"""A sealed set of experts, as distillation sees it: one snapshot at a time, each one ranged read, each verified."""

import threading
from dataclasses import replace

from torch import Tensor

from cluster.store.base import Store
from cluster.store.cache import Cache
from cluster.trajectories import manifest as m
from cluster.trajectories.format import ExpertIndex, SetSpec, canonical, sha256, values
from cluster.trajectories.prefetch import Prefetcher
from distill.errors import MissingError, TrajectoryError


class Reader:
    """Snapshots of the experts 0 .. count-1. Made by `TrajectorySet.open`; may be used from many threads."""

    def __init__(self, store: Store, name: str, manifest: m.Manifest, index_bytes: int, cache: Cache | None = None):
        self.store = store
        self.name = name
        self.index_bytes = index_bytes
        """Bytes of the manifest, read once."""
        self.bytes_read = 0
        """Bytes of snapshots read from the store so far, without the manifest."""
        self._manifest = manifest
        self._cache = cache
        self._prefetcher: Prefetcher | None = None
        self._lock = threading.Lock()

    @property
    def spec(self) -> SetSpec:
        return self._manifest.spec

    @property
    def count(self) -> int:
        return len(self._manifest.experts)

    @property
    def epochs(self) -> list[int]:
        """The saved epochs; 0 is the initial network."""
        return self.spec.epochs

    def train_accuracy(self, expert: int) -> list[float]:
        """Per saved epoch, in [0, 1]."""
        return self._expert(expert).train_accuracy

    def test_accuracy(self, expert: int) -> list[float]:
        """Per saved epoch, in [0, 1]."""
        return self._expert(expert).test_accuracy

    def seed(self, expert: int) -> int:
        return self._expert(expert).seed

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        """Parameters (p,) float32 on the CPU of an expert after an epoch, in one ranged read.

        Raises TrajectoryError if that epoch was not saved, or the bytes are damaged.
        """
        ahead = self._prefetcher
        return values(self.spec, ahead.take(expert, epoch) if ahead else self._fetch(expert, epoch))

    def prefetch(self, wanted: list[tuple[int, int]]) -> None:
        """Start reading these (expert, epoch) in the background, so that `snapshot` has them at once.

        Returns at once; errors are raised by `snapshot`. The last two lists are kept in memory.
        """
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self._fetch)
        self._prefetcher.request(wanted)

    def close(self) -> None:
        """Stop the background reads, if there are any; `snapshot` still works."""
        ahead, self._prefetcher = self._prefetcher, None
        if ahead is not None:
            ahead.close()

    def verify(self, expert: int) -> None:
        """Read an expert's whole object; TrajectoryError if it is not, byte for byte, what the manifest lists."""
        verify_object(self.store, self.name, expert, self._expert(expert))

    def check(self, dataset_fingerprint: str, network: dict, layout: list[tuple[str, tuple[int, ...]]]) -> None:
        """Raise TrajectoryError, naming all that differs, unless the experts are of this dataset and network."""
        wanted = replace(self.spec, dataset=dataset_fingerprint, network=network, layout=layout).json()
        have = self.spec.json()
        faults = [
            f"  {key}: the set has {have[key]}, the recipe {wanted[key]}"
            for key in ("dataset", "network", "layout")
            if canonical(have[key]) != canonical(wanted[key])
        ]
        if faults:
            raise TrajectoryError(
                f"{self._where}: these experts do not fit the recipe; train others with `stillhouse experts` "
                "under another name, or correct the recipe:\n" + "\n".join(faults)
            )

    @property
    def _where(self) -> str:
        return f"{self.store.url}/{m.ROOT}/{self.name}"

    def _expert(self, expert: int) -> ExpertIndex:
        if not 0 <= expert < self.count:
            raise TrajectoryError(f"{self._where}: no expert {expert} among {self.count}; train more of them")
        return self._manifest.experts[expert]

    def _fetch(self, expert: int, epoch: int) -> bytes:
        """A snapshot as stored, verified; from the cache if it is there."""
        if epoch not in self.epochs:
            raise TrajectoryError(f"{self._where}: epoch {epoch} was not saved; there are {self.epochs}")
        start, length, digest = self._expert(expert).snapshots[self.epochs.index(epoch)]

        def read() -> bytes:
            data = self._read(expert, start, start + length)
            if sha256(data) != digest:
                raise _damaged(self.store, self.name, expert, f"epoch {epoch}")
            return data

        return self._cache.fetch(digest, read) if self._cache else read()

    def _read(self, expert: int, start: int, stop: int | None) -> bytes:
        data = _read(self.store, self.name, expert, start, stop)
        with self._lock:
            self.bytes_read += len(data)
        return data


def verify_object(store: Store, name: str, expert: int, index: ExpertIndex) -> None:
    """Read an expert's whole object; TrajectoryError if it is not, byte for byte, what its index says."""
    if sha256(_read(store, name, expert, 0, None)) != index.sha256:
        raise _damaged(store, name, expert, "object")


def _read(store: Store, name: str, expert: int, start: int, stop: int | None) -> bytes:
    try:
        return store.read(m.expert_key(name, expert), start, stop)
    except MissingError as error:
        raise TrajectoryError(f"{error}; the manifest of set {name} lists it: restore it") from None


def _damaged(store: Store, name: str, expert: int, part: str) -> TrajectoryError:
    return TrajectoryError(
        f"{store.url}/{m.expert_key(name, expert)}, {part}: damaged (SHA-256 differs from the manifest); "
        f"restore that object, or `stillhouse trajectories delete {name}` and train again"
    )
