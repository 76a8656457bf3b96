"""A named set of experts in a store: its writers store experts in any order, then a manifest; later a larger one."""

from cluster.store.base import Entry, Store
from cluster.store.cache import Cache
from cluster.trajectories import manifest as m
from cluster.trajectories.format import ExpertIndex, ExpertRecord, SetSpec, decode, encode, same_spec
from cluster.trajectories.reader import Reader
from distill.errors import ConflictError, TrajectoryError


def list_sets(store: Store) -> list[str]:
    """Names of all sets that have an object in the store, sealed or not, sorted."""
    return sorted({e.key.split("/")[1] for e in store.list(m.ROOT + "/") if e.key.count("/") == 2})


class TrajectorySet:
    """The set `name`: `experts/<name>/expert-00007.arrow` and `experts/<name>/manifest-00010.json` for ten experts.

    Raises TrajectoryError for a name that is not on the allow-list.
    """

    def __init__(self, store: Store, name: str):
        self.store = store
        self.name = m.check_name(name)

    def write_expert(self, spec: SetSpec, record: ExpertRecord) -> None:
        """Store one expert. If another worker's is there already, theirs is kept: one wins, the other adopts.

        Raises TrajectoryError when what is there is damaged or was trained by another recipe.
        """
        if not 0 <= record.index < m.MOST:
            raise ValueError(f"expert {record.index}: 0 to {m.MOST - 1}")
        key = m.expert_key(self.name, record.index)
        try:
            self.store.create(key, encode(spec, record))
        except ConflictError:
            self._index(spec, record.index)

    def finished(self) -> list[int]:
        """The experts whose object is there, sorted."""
        numbers = (m.expert_number(e.key) for e in self.store.list(self._folder))
        return sorted(n for n in numbers if n is not None)

    def seal(self, spec: SetSpec, count: int) -> None:
        """Make experts 0 .. count-1 a set that can be opened. Sealing again, or with more experts, is allowed.

        Experts of an earlier manifest are taken as it lists them, the others are read and hashed.
        Raises TrajectoryError naming the experts that are missing, or one of another recipe.
        """
        finished = set(self.finished())
        if missing := [str(i) for i in range(count) if i not in finished]:
            raise TrajectoryError(
                f"{self._where}: {len(missing)} of {count} experts are missing ({', '.join(missing[:20])}"
                f"{', ...' if len(missing) > 20 else ''}); run `stillhouse experts` again to train them"
            )
        known = self._known(spec)[:count]
        experts = known + [self._index(spec, i) for i in range(len(known), count)]
        self.store.create(m.manifest_key(self.name, count), m.dump(m.Manifest(spec, experts), self.name))

    def open(self, minimum: int | None = None, cache: Cache | None = None) -> Reader:
        """A reader of the largest sealed set; TrajectoryError if there is none, or none of `minimum` experts.

        With a cache, snapshots that were read once come from the local disk.
        """
        count = self._largest()
        if count is None:
            raise TrajectoryError(
                f"{self._where}: no sealed set of experts ({len(self.finished())} trained so far); "
                "run `stillhouse experts` first"
            )
        if minimum is not None and count < minimum:
            raise TrajectoryError(
                f"{self._where}: {count} experts are sealed, {minimum} are needed; run `stillhouse experts` with "
                f"experts.count={minimum}"
            )
        data = self.store.read(m.manifest_key(self.name, count))
        manifest = m.parse(data, self.name, self._manifest_where(count))
        return Reader(self.store, self.name, manifest, len(data), cache)

    def delete(self, dry_run: bool) -> list[Entry]:
        """Delete the set, manifests first, so that it is never there in part; return what is, or would be, deleted."""
        entries = self.store.list(self._folder)
        if not dry_run:
            for entry in entries:
                if m.manifest_count(entry.key) is not None:
                    self.store.delete(entry.key, dry_run=False)
            self.store.delete(self._folder, dry_run=False)
        return entries

    @property
    def _folder(self) -> str:
        return f"{m.ROOT}/{self.name}/"

    @property
    def _where(self) -> str:
        return f"{self.store.url}/{m.ROOT}/{self.name}"

    def _manifest_where(self, count: int) -> str:
        return f"{self.store.url}/{m.manifest_key(self.name, count)}"

    def _largest(self) -> int | None:
        counts = (m.manifest_count(e.key) for e in self.store.list(self._folder))
        return max((c for c in counts if c is not None), default=None)

    def _known(self, spec: SetSpec) -> list[ExpertIndex]:
        count = self._largest()
        if count is None:
            return []
        where = self._manifest_where(count)
        old = m.parse(self.store.read(m.manifest_key(self.name, count)), self.name, where)
        if not same_spec(old.spec, spec):
            raise self._other(where)
        return old.experts

    def _index(self, spec: SetSpec, number: int) -> ExpertIndex:
        """Read an expert's object and check that it is what its key says."""
        key = m.expert_key(self.name, number)
        where = f"{self.store.url}/{key}"
        found, expert, index = decode(self.store.read(key), where)
        if expert != number or not same_spec(found, spec):
            raise self._other(where)
        return index

    def _other(self, where: str) -> TrajectoryError:
        return TrajectoryError(
            f"{where} was made by another recipe, dataset or network; name the set otherwise, or "
            f"`stillhouse trajectories delete {self.name}`"
        )
