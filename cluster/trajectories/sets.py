"""A named set of experts in a store: its writers store experts in any order, then a manifest; later a larger one."""

import json

from cluster.store.base import Store, StoredObject
from cluster.store.cache import Cache
from cluster.trajectories import manifest as m
from cluster.trajectories.format import ExpertIndex, ExpertRecord, SetSpec, canonical, decode, encode, same_spec
from cluster.trajectories.reader import Reader
from distill.errors import ConflictError, ExpertsMissing, MissingError, TrajectoryError


def list_sets(store: Store) -> list[str]:
    """Names of all sets that have an object in the store, sealed or not, sorted."""
    return sorted({e.key.split("/")[1] for e in store.list(m.ROOT + "/") if e.key.count("/") == 2})


class TrajectorySet:
    """The set `name`: `experts/<name>/expert-00007.arrow` and `experts/<name>/manifest-00010.json` for ten experts.

    Beside each expert is its part of the index, `expert-00007.json`; `about.json` has the names of data and recipe.
    Raises TrajectoryError for a name that is not on the allow-list.
    """

    def __init__(self, store: Store, name: str):
        self.store = store
        self.name = m.check_name(name)

    @property
    def where(self) -> str:
        """The location of the set, for messages."""
        return f"{self.store.url}/{m.ROOT}/{self.name}"

    # ------------------------------------------------------------ writing

    def write_expert(self, spec: SetSpec, record: ExpertRecord) -> None:
        """Store one expert. If another worker stored it first, that one is kept.

        Raises TrajectoryError if the stored one is damaged or was trained by another recipe.
        """
        if not 0 <= record.index < m.MOST:
            raise ValueError(f"expert {record.index}: 0 to {m.MOST - 1}")
        key, data = m.expert_key(self.name, record.index), encode(spec, record)
        try:
            self.store.create(key, data)
            index = decode(data, key)[2]
        except ConflictError:
            index = self._decode(record.index, spec)[1]
        self._leave_index(spec, record.index, index)

    def describe(self, about: dict[str, str | int]) -> None:
        """Store the names of the data and the recipe, for people. The first description stays."""
        try:
            self.store.create(m.about_key(self.name), canonical(about).encode())
        except ConflictError:
            pass

    def seal(self, spec: SetSpec, count: int) -> None:
        """Make experts 0 .. count-1 a set that can be opened. Sealing again, or with more experts, is allowed.

        Experts of an earlier manifest are taken as it lists them, the others from the index beside them; those without
        an index are read and hashed.
        Raises TrajectoryError naming the experts that are missing, or one of another recipe.
        """
        sizes = {entry.key: entry.size for entry in self.entries()}
        keys = [m.expert_key(self.name, i) for i in range(count)]
        if missing := [str(i) for i, key in enumerate(keys) if key not in sizes]:
            raise TrajectoryError(
                f"{self.where}: {len(missing)} of {count} experts are missing ({', '.join(missing[:20])}"
                f"{', ...' if len(missing) > 20 else ''}); run `stillhouse experts` again to train them"
            )
        known = self._known(spec)[:count]
        experts = known + [self.part(i, sizes, spec)[1] for i in range(len(known), count)]
        self.store.create(m.manifest_key(self.name, count), m.dump(m.Manifest(spec, experts), self.name))

    def delete(self, dry_run: bool) -> list[StoredObject]:
        """Delete the set, manifests first, so that it is never there in part; return its objects, as a dry run does."""
        entries = self.entries()
        if not dry_run:
            for entry in entries:
                if m.manifest_count(entry.key) is not None:
                    self.store.delete(entry.key, dry_run=False)
            self.store.delete(self._folder, dry_run=False)
        return entries

    # ------------------------------------------------------------ reading

    def entries(self) -> list[StoredObject]:
        """All objects of the set."""
        return self.store.list(self._folder)

    def finished(self) -> list[int]:
        """The numbers of the stored experts, sorted."""
        numbers = (m.expert_number(e.key) for e in self.entries())
        return sorted(n for n in numbers if n is not None)

    def sealed(self) -> int:
        """Experts of the largest manifest, 0 when there is none."""
        counts = (m.manifest_count(e.key) for e in self.entries())
        return max((c for c in counts if c is not None), default=0)

    def about(self) -> dict[str, str | int]:
        """What `describe` stored; empty if there is nothing. Raises TrajectoryError if that object is damaged."""
        key = m.about_key(self.name)
        try:
            about = json.loads(self.store.read(key))
        except MissingError:
            return {}
        except (ValueError, RecursionError):
            about = None
        if not isinstance(about, dict):
            raise TrajectoryError(f"{self.store.url}/{key} is damaged; delete it: it only describes the set")
        return about

    def open(self, count: int | None = None, cache: Cache | None = None) -> Reader:
        """A reader of the first `count` experts of the largest sealed set; by default of all of them.

        With a cache, snapshots that were read once come from the local disk. Raises ExpertsMissing when no set is
        sealed, or only one with fewer experts, and TrajectoryError when its manifest is damaged.
        """
        sealed = self.sealed()
        if not sealed:
            raise ExpertsMissing(
                f"{self.where}: no sealed set of experts ({len(self.finished())} trained so far); "
                "run `stillhouse experts` first"
            )
        if count is not None and sealed < count:
            raise ExpertsMissing(
                f"{self.where}: {sealed} experts are sealed, {count} are needed; run `stillhouse experts` with "
                f"experts.count={count}, or lower it to {sealed}"
            )
        manifest, size = self.manifest(sealed)
        return Reader(self.store, self.name, m.Manifest(manifest.spec, manifest.experts[:count]), size, cache)

    def manifest(self, count: int) -> tuple[m.Manifest, int]:
        """The manifest of `count` experts and its bytes; TrajectoryError when it is damaged."""
        key = m.manifest_key(self.name, count)
        data = self.store.read(key)
        return m.parse(data, self.name, f"{self.store.url}/{key}"), len(data)

    def part(self, number: int, sizes: dict[str, int], spec: SetSpec | None = None) -> tuple[SetSpec, ExpertIndex]:
        """Spec and index of a stored expert; `sizes` are those of the set's objects by key.

        Read from the index beside the object; if it is missing or of another object, from the object itself.
        Raises TrajectoryError if it is damaged or of another spec.
        """
        key = m.index_key(self.name, number)
        if key in sizes:
            manifest = m.parse(self.store.read(key), self.name, f"{self.store.url}/{key}", first=number)
            if spec and not same_spec(manifest.spec, spec):
                raise self._other(f"{self.store.url}/{m.expert_key(self.name, number)}")
            if manifest.experts[0].size == sizes[m.expert_key(self.name, number)]:
                return manifest.spec, manifest.experts[0]
        return self._decode(number, spec)

    # ------------------------------------------------------------ small things

    @property
    def _folder(self) -> str:
        return f"{m.ROOT}/{self.name}/"

    def _known(self, spec: SetSpec) -> list[ExpertIndex]:
        count = self.sealed()
        if not count:
            return []
        old, _ = self.manifest(count)
        if not same_spec(old.spec, spec):
            raise self._other(f"{self.store.url}/{m.manifest_key(self.name, count)}")
        return old.experts

    def _leave_index(self, spec: SetSpec, number: int, index: ExpertIndex) -> None:
        key, data = m.index_key(self.name, number), m.dump(m.Manifest(spec, [index]), self.name, first=number)
        try:
            self.store.create(key, data)
        except ConflictError:  # of an object that was deleted by hand, to be trained again
            self.store.delete(key, dry_run=False)
            self.store.create(key, data)

    def _decode(self, number: int, spec: SetSpec | None) -> tuple[SetSpec, ExpertIndex]:
        """Spec and index from an expert's object. TrajectoryError if it is of another expert or spec."""
        key = m.expert_key(self.name, number)
        where = f"{self.store.url}/{key}"
        own_spec, expert, index = decode(self.store.read(key), where)
        if expert != number or (spec and not same_spec(own_spec, spec)):
            raise self._other(where)
        return own_spec, index

    def _other(self, where: str) -> TrajectoryError:
        return TrajectoryError(
            f"{where} is of another recipe, dataset or network; use another set name, or "
            f"`stillhouse trajectories delete {self.name}`"
        )
