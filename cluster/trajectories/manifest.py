"""The index of a set: its experts, and the location of each snapshot. Written last: a set is whole or not there.

Every snapshot has its own SHA-256 and every object has one of all its bytes. Per snapshot, because a reader that wants
two snapshots of an object must be able to verify them without fetching the rest; of the whole object, because that is
what `stillhouse trajectories verify`, or `sha256sum` on a copy, can check without knowing the format.

The writer of an expert leaves its part of the index beside it, `expert-00007.json`, a manifest of that expert alone: so
sealing reads a few kilobytes per expert instead of all of it, and the SHA-256 is that of the bytes that were sent.
"""

import json
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from cluster.trajectories.format import FORMAT, ExpertIndex, SetSpec, canonical, check_format, sha256
from distill.errors import TrajectoryError
from distill.recipe import Name

ROOT = "experts"
MOST = 100_000  # experts in a set: five digits in a key
_FIX = "delete it and run `stillhouse experts` again"
_NAME = TypeAdapter(Name)
_EXPERT = re.compile(r"expert-(\d{5})\.arrow")
_MANIFEST = re.compile(r"manifest-(\d{5})\.json")


@dataclass(frozen=True)
class Manifest:
    """The spec of a set and the index of its experts 0 .. n-1, or of n other consecutive ones."""

    spec: SetSpec
    experts: Annotated[list[ExpertIndex], Field(min_length=1, max_length=MOST)]


_MANIFESTS = TypeAdapter(Manifest)


def check_name(name: str) -> str:
    """The set's name if it is on the allow-list; else TrajectoryError."""
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        fix = "use up to 63 of a-z, 0-9, '_' and '-', a letter or digit first"
        raise TrajectoryError(f"set name {name!r}: {fix}") from None


def expert_key(name: str, expert: int) -> str:
    return f"{ROOT}/{name}/expert-{expert:05d}.arrow"


def index_key(name: str, expert: int) -> str:
    """Key of the index beside an expert."""
    return f"{ROOT}/{name}/expert-{expert:05d}.json"


def about_key(name: str) -> str:
    return f"{ROOT}/{name}/about.json"


def manifest_key(name: str, count: int) -> str:
    return f"{ROOT}/{name}/manifest-{count:05d}.json"


def expert_number(key: str) -> int | None:
    """The number of the expert whose object has this key; None for other keys."""
    return _number(_EXPERT, key)


def manifest_count(key: str) -> int | None:
    """The number of experts in the manifest with this key; None for other keys."""
    return _number(_MANIFEST, key)


def dump(manifest: Manifest, name: str, first: int = 0) -> bytes:
    """The manifest's object, of experts `first` and following; the same manifest gives the same bytes."""
    experts = [
        {
            "key": expert_key(name, i),
            "size": e.size,
            "sha256": e.sha256,
            "snapshots": e.snapshots,
            "train_accuracy": e.train_accuracy,
            "test_accuracy": e.test_accuracy,
            "seed": e.seed,
        }
        for i, e in enumerate(manifest.experts, first)
    ]
    content = {"spec": manifest.spec.json(), "experts": experts}
    return canonical({"format": FORMAT, "sha256": sha256(canonical(content).encode()), "content": content}).encode()


def parse(data: bytes, name: str, where: str, first: int = 0) -> Manifest:
    """The manifest of experts `first` and following in an object.

    Raises TrajectoryError, naming `where`, if it is damaged or of another version.
    """
    try:
        outer = json.loads(data)
        version, digest, content = outer.get("format"), outer.get("sha256"), outer.get("content")
    except (ValueError, AttributeError, RecursionError):
        raise TrajectoryError(f"{where} is not a manifest; {_FIX}") from None
    check_format(version, where)
    if digest != sha256(canonical(content).encode()):
        raise TrajectoryError(f"{where} is damaged (SHA-256 differs); {_FIX}")
    try:
        manifest = _MANIFESTS.validate_python(content)
        _check_places(manifest)
    except ValueError as error:
        raise TrajectoryError(f"{where} contradicts itself: {error}; {_FIX}") from None
    keys = [expert_key(name, i) for i in range(first, first + len(manifest.experts))]
    if [e.get("key") for e in content["experts"]] != keys:
        raise TrajectoryError(f"{where} lists objects of another set; {_FIX}")
    return manifest


def _check_places(manifest: Manifest) -> None:
    spec = manifest.spec
    for number, expert in enumerate(manifest.experts):
        if not len(expert.snapshots) == len(expert.train_accuracy) == len(expert.test_accuracy) == len(spec.epochs):
            raise ValueError(f"expert {number} has not {len(spec.epochs)} epochs")
        for start, length, _ in expert.snapshots:
            if length != spec.snapshot_bytes or not 0 <= start <= expert.size - length:
                raise ValueError(f"a snapshot of expert {number} is outside its object")


def _number(pattern: re.Pattern, key: str) -> int | None:
    match = pattern.fullmatch(key.rpartition("/")[2])
    return int(match[1]) if match else None
