"""Sets of experts over both stores: written by racing, failing and foreign writers, grown, read in slices, deleted."""

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from support.stores import Watched, failing
from support.trajectories import LAYOUT, P, record_of, spec_of, theta_of

from cluster.store import open_store
from cluster.trajectories import TrajectorySet, list_sets
from cluster.trajectories.format import canonical, sha256
from distill.errors import StoreError, TrajectoryError

NETWORK = spec_of().network


@pytest.fixture
def local(tmp_path):
    return open_store(f"file:{tmp_path}/local")


def filled(store, count: int, dtype: str = "float32", name: str = "set") -> TrajectorySet:
    experts = TrajectorySet(store, name)
    for expert in range(count):
        experts.write_expert(spec_of(dtype), record_of(expert))
    return experts


class TestOverBothStores:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_what_is_written_is_read(self, store, dtype):
        experts = filled(store, 3, dtype)
        assert experts.finished() == [0, 1, 2]
        experts.seal(spec_of(dtype), 3)
        reader = experts.open(count=3)
        assert (reader.count, reader.epochs, reader.spec) == (3, [0, 1, 2, 5], spec_of(dtype))
        for expert in range(3):
            for epoch in reader.epochs:
                theta = reader.snapshot(expert, epoch)
                assert theta.dtype == torch.float32 and torch.equal(theta, theta_of(expert, epoch))
            assert reader.test_accuracy(expert) == [0.1, 0.15, 0.2, expert / 100]
            assert reader.train_accuracy(expert) == [0.1, 0.2, 0.3, 0.4]
            reader.verify(expert)

    def test_objects_have_the_documented_names(self, store):
        filled(store, 2).seal(spec_of(), 2)
        assert [e.key for e in store.list("")] == [
            "experts/set/expert-00000.arrow",
            "experts/set/expert-00000.json",
            "experts/set/expert-00001.arrow",
            "experts/set/expert-00001.json",
            "experts/set/manifest-00002.json",
        ]

    def test_of_writers_that_race_one_wins_and_the_others_adopt(self, store):
        experts = TrajectorySet(store, "set")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: experts.write_expert(spec_of(), record_of(0, shift=i)), range(8)))
        experts.seal(spec_of(), 1)
        first, last = (experts.open().snapshot(0, epoch) for epoch in (0, 5))
        shift = float(first[0])
        assert shift in range(8)
        assert torch.equal(first, theta_of(0, 0) + shift) and torch.equal(last, theta_of(0, 5) + shift)

    @pytest.mark.parametrize("every", [7, 8, 9, 10])  # sealing takes six operations, so that it can ever succeed
    def test_a_store_that_fails_every_kth_operation_gives_the_same_set(self, store, every):
        filled(store, 3, name="calm").seal(spec_of(), 3)
        watched = failing(store, every)
        experts, failed = TrajectorySet(watched, "rough"), 0
        jobs = [*(lambda i=i: experts.write_expert(spec_of(), record_of(i)) for i in range(3)),
                lambda: experts.seal(spec_of(), 3), lambda: experts.open(3)]  # fmt: skip
        while jobs:
            try:
                jobs[0]()
                jobs.pop(0)
            except StoreError:
                failed += 1
                assert failed < 20
            if len(jobs) > 2:
                with pytest.raises(TrajectoryError, match="no sealed set"):
                    TrajectorySet(store, "rough").open()
        assert failed
        for entry in store.list("experts/calm"):
            twin = entry.key.replace("calm", "rough")
            assert store.read(twin) == store.read(entry.key) or twin.endswith(".json")
        assert len(store.list("experts/calm")) == len(store.list("experts/rough"))

    def test_delete_takes_the_manifests_first(self, store):
        experts = filled(store, 2)
        experts.seal(spec_of(), 1)
        experts.seal(spec_of(), 2)
        filled(store, 1, name="set-two").seal(spec_of(), 1)
        watched = Watched(store)
        assert len(TrajectorySet(watched, "set").delete(dry_run=True)) == 6
        assert not [call for call in watched.calls if call[0] == "delete"]
        assert len(TrajectorySet(watched, "set").delete(dry_run=False)) == 6
        order = [key.rpartition("/")[2] for operation, key, *_ in watched.calls if operation == "delete"]
        assert sorted(order[:2]) == ["manifest-00001.json", "manifest-00002.json"] and len(order) == 6
        assert list_sets(store) == ["set-two"]
        assert TrajectorySet(store, "set-two").open().count == 1


def test_requests_to_s3_are_those_that_docs_scale_md_counts(s3_url):
    store, asked = open_store(s3_url), Counter()
    store.client.meta.events.register("before-call.s3", lambda model, **_: asked.update([model.name]))
    experts = filled(store, 3)
    assert asked == {"PutObject": 2 * 3}, "an expert and its index"
    asked.clear()
    experts.seal(spec_of(), 3)
    assert asked == {"PutObject": 1, "GetObject": 3, "ListObjectsV2": 2}
    asked.clear()
    reader = experts.open()
    for expert, epoch in ((0, 1), (2, 5)):
        reader.snapshot(expert, epoch)
    assert asked == {"ListObjectsV2": 1, "GetObject": 1 + 2}, "the manifest once, then one for each snapshot"


def test_a_snapshot_is_one_ranged_read_of_its_own_bytes(local):
    filled(local, 3, "bfloat16").seal(spec_of("bfloat16"), 3)
    watched = Watched(local)
    reader = TrajectorySet(watched, "set").open()
    (index,) = [call for call in watched.calls if call[0] == "read"]
    assert reader.index_bytes == local.size(index[1])
    watched.calls.clear()
    reader.snapshot(1, 2)
    reader.snapshot(2, 5)
    assert [(c[0], c[1], c[3] - c[2]) for c in watched.calls] == [
        ("read", "experts/set/expert-00001.arrow", P * 2),
        ("read", "experts/set/expert-00002.arrow", P * 2),
    ]
    assert reader.bytes_read == 2 * P * 2


def test_a_snapshot_is_the_callers_own(local):
    filled(local, 1).seal(spec_of(), 1)
    reader = TrajectorySet(local, "set").open()
    reader.prefetch([(0, 1)])
    reader.snapshot(0, 1).zero_()
    assert torch.equal(reader.snapshot(0, 1), theta_of(0, 1))


def test_a_set_grows(local):
    experts = filled(local, 2)
    experts.seal(spec_of(), 2)
    early = experts.open()
    for expert in (2, 3, 4):
        experts.write_expert(spec_of(), record_of(expert))
    experts.seal(spec_of(), 5)
    assert (early.count, experts.open().count) == (2, 5)
    assert torch.equal(experts.open().snapshot(4, 5), theta_of(4, 5))
    experts.seal(spec_of(), 5)
    experts.seal(spec_of(), 3)
    assert experts.open().count == 5


def arrow_reads(watched: Watched) -> list[str]:
    """Keys of the expert objects that were read."""
    return [key for operation, key, *_ in watched.calls if operation == "read" and key.endswith("arrow")]


def test_sealing_reads_the_small_index_beside_each_expert_and_not_the_expert(local):
    filled(local, 3, name="calm").seal(spec_of(), 3)
    watched = Watched(local)
    filled(watched, 3).seal(spec_of(), 3)
    assert arrow_reads(watched) == []
    same = local.read("experts/calm/manifest-00003.json").replace(b"calm", b"set")
    assert json.loads(same)["content"] == json.loads(local.read("experts/set/manifest-00003.json"))["content"]


def test_where_there_is_no_index_the_expert_is_read_and_the_manifest_is_the_same(local):
    experts = filled(local, 5)
    experts.seal(spec_of(), 5)
    whole = local.read("experts/set/manifest-00005.json")
    for key in ("manifest-00005.json", "expert-00002.json", "expert-00004.json"):
        local.delete(f"experts/set/{key}", dry_run=False)
    experts.seal(spec_of(), 2)
    watched = Watched(local)
    TrajectorySet(watched, "set").seal(spec_of(), 5)
    assert arrow_reads(watched) == ["experts/set/expert-00002.arrow", "experts/set/expert-00004.arrow"]
    assert local.read("experts/set/manifest-00005.json") == whole


def test_damage_between_writing_and_sealing_is_not_sealed_as_truth(local):
    experts = filled(local, 1)
    path = local.root / "experts/set/expert-00000.arrow"
    path.write_bytes(path.read_bytes().replace(theta_of(0, 5).numpy().tobytes(), bytes(4 * P)))
    experts.seal(spec_of(), 1)
    with pytest.raises(TrajectoryError, match="epoch 5: damaged"):
        experts.open().snapshot(0, 5)


def test_an_expert_that_was_deleted_by_hand_and_came_out_otherwise_is_sealed_as_it_is(local):
    experts = filled(local, 1)
    local.delete("experts/set/expert-00000.arrow", dry_run=False)
    experts.write_expert(spec_of(), record_of(0, shift=1.0))
    experts.seal(spec_of(), 1)
    assert torch.equal(experts.open().snapshot(0, 5), theta_of(0, 5) + 1.0)
    experts.open().verify(0)


def test_an_index_of_another_object_is_not_believed(local):
    experts = filled(local, 2)
    longer = replace(record_of(0), test_accuracy=[0.123456789] * 4)
    local.delete("experts/set/expert-00000.arrow", dry_run=False)
    TrajectorySet(local, "other").write_expert(spec_of(), longer)
    local.create("experts/set/expert-00000.arrow", local.read("experts/other/expert-00000.arrow"))
    experts.seal(spec_of(), 2)
    assert experts.open().test_accuracy(0) == [0.123456789] * 4


def test_a_damaged_index_is_named(local):
    experts = filled(local, 1)
    path = local.root / "experts/set/expert-00000.json"
    path.write_bytes(path.read_bytes().replace(b"0.15", b"0.95"))
    with pytest.raises(TrajectoryError, match="expert-00000.json is damaged.*delete it"):
        experts.seal(spec_of(), 1)


def test_the_first_description_stays_and_changes_nothing_else(local):
    experts = filled(local, 2)
    assert experts.about() == {}
    experts.describe({"dataset": "cifar10"})
    experts.describe({"dataset": "the same data elsewhere"})
    experts.seal(spec_of(), 2)
    assert TrajectorySet(local, "set").about() == {"dataset": "cifar10"}
    assert experts.open().spec == spec_of() and experts.finished() == [0, 1]
    (local.root / "experts/set/about.json").write_text("[1]")
    with pytest.raises(TrajectoryError, match="about.json is damaged; delete it"):
        experts.about()


def test_a_reader_of_the_first_experts_does_not_see_the_others(local):
    experts = filled(local, 3)
    experts.seal(spec_of(), 3)
    reader = experts.open(count=2)
    assert reader.count == 2 and torch.equal(reader.snapshot(1, 5), theta_of(1, 5))
    with pytest.raises(TrajectoryError, match="no expert 2 among 2"):
        reader.snapshot(2, 0)


def test_sealing_names_the_experts_that_are_missing(local):
    experts = filled(local, 1)
    experts.write_expert(spec_of(), record_of(3))
    with pytest.raises(TrajectoryError, match=r"3 of 5 experts are missing \(1, 2, 4\)"):
        experts.seal(spec_of(), 5)
    with pytest.raises(TrajectoryError, match=r"no sealed set of experts \(2 trained so far\)"):
        experts.open()


def test_opening_fewer_than_needed_is_refused(local):
    experts = filled(local, 2)
    experts.seal(spec_of(), 2)
    assert experts.open(count=2).count == 2
    with pytest.raises(TrajectoryError, match="2 experts are sealed, 3 are needed; .*experts.count=3"):
        experts.open(count=3)


def test_another_recipes_experts_are_never_taken_in(local):
    other = spec_of(recipe_hash="another")
    experts = filled(local, 1)
    with pytest.raises(TrajectoryError, match="another recipe.*use another set name"):
        experts.write_expert(other, record_of(0))
    with pytest.raises(TrajectoryError, match="another recipe"):
        experts.seal(other, 1)
    experts.seal(spec_of(), 1)
    experts.write_expert(other, record_of(1))
    with pytest.raises(TrajectoryError, match="manifest-00001.json is of another recipe"):
        experts.seal(other, 2)
    with pytest.raises(TrajectoryError, match="expert-00001.arrow is of another recipe"):
        experts.seal(spec_of(), 2)


def test_an_expert_under_another_number_is_not_taken_in(local):
    experts = filled(local, 1)
    shutil.copy(local.root / "experts/set/expert-00000.arrow", local.root / "experts/set/expert-00001.arrow")
    with pytest.raises(TrajectoryError, match="expert-00001"):
        experts.seal(spec_of(), 2)


def test_a_damaged_winner_is_not_adopted(local):
    local.create("experts/set/expert-00000.arrow", b"ARROW1 no")
    with pytest.raises(TrajectoryError, match="not a trajectory file.*delete it"):
        TrajectorySet(local, "set").write_expert(spec_of(), record_of(0))


def test_a_damaged_snapshot_is_refused_and_the_others_are_read(local):
    experts = filled(local, 2)
    experts.seal(spec_of(), 2)
    path = local.root / "experts/set/expert-00001.arrow"
    data = bytearray(path.read_bytes())
    at = data.index(theta_of(1, 2).numpy().tobytes())
    data[at + 3] ^= 1
    path.write_bytes(data)
    reader = experts.open()
    with pytest.raises(TrajectoryError, match="expert-00001.arrow, epoch 2: damaged.*restore that object"):
        reader.snapshot(1, 2)
    assert torch.equal(reader.snapshot(1, 5), theta_of(1, 5))
    reader.verify(0)
    with pytest.raises(TrajectoryError, match="expert-00001.arrow, object: damaged"):
        reader.verify(1)


def test_verify_sees_damage_outside_the_snapshots(local):
    experts = filled(local, 1)
    experts.seal(spec_of(), 1)
    path = local.root / "experts/set/expert-00000.arrow"
    path.write_bytes(path.read_bytes().replace(b'"convnet"', b'"convmet"', 1))
    with pytest.raises(TrajectoryError, match="damaged"):
        experts.open().verify(0)


def test_an_object_that_is_gone_or_short_is_named(local):
    experts = filled(local, 2)
    experts.seal(spec_of(), 2)
    (local.root / "experts/set/expert-00000.arrow").unlink()
    path = local.root / "experts/set/expert-00001.arrow"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrajectoryError, match="expert-00000.arrow is not there.*restore it"):
        experts.open().snapshot(0, 0)
    with pytest.raises(TrajectoryError, match="expert-00001.arrow.*damaged"):
        experts.open().snapshot(1, 0)


@pytest.mark.parametrize("expert, epoch, fault", [(2, 0, "no expert 2"), (-1, 0, "no expert -1"), (0, 3, "epoch 3")])
def test_what_is_not_in_the_set_is_said(local, expert, epoch, fault):
    filled(local, 2).seal(spec_of(), 2)
    reader = TrajectorySet(local, "set").open()
    with pytest.raises(TrajectoryError, match=fault):
        reader.snapshot(expert, epoch)
    if epoch == 0:
        for call in (reader.test_accuracy, reader.train_accuracy, reader.seed, reader.verify):
            with pytest.raises(TrajectoryError, match=fault):
                call(expert)


def test_check_names_all_that_differs(local):
    filled(local, 1).seal(spec_of(), 1)
    reader = TrajectorySet(local, "set").open()
    reader.check("f" * 64, dict(reversed(NETWORK.items())), [list(entry) for entry in LAYOUT])
    with pytest.raises(TrajectoryError) as error:
        reader.check("0" * 64, NETWORK | {"width": 64}, LAYOUT)
    assert "dataset: the set has fff" in str(error.value) and "'width': 64" in str(error.value)
    assert "layout" not in str(error.value)
    with pytest.raises(TrajectoryError, match="layout: the set has"):
        reader.check("f" * 64, NETWORK, LAYOUT[:-1])


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a.b", "-a", "a" * 64, "a\n", "ä"])
def test_a_name_off_the_allow_list_is_refused(local, name):
    with pytest.raises(TrajectoryError, match="set name"):
        TrajectorySet(local, name)


def test_list_sets_finds_sets_and_nothing_else(local):
    filled(local, 1, name="b")
    filled(local, 1, name="a").seal(spec_of(), 1)
    local.create("runs/x/manifest-00001.json", b"x")
    local.create("experts/stray", b"x")
    assert list_sets(local) == ["a", "b"]


def _set(path: str, value):
    """A change of one value in a manifest, by its dotted path."""

    def change(content):
        *blocks, last = path.split(".")
        for block in blocks:
            content = content[int(block) if block.isdecimal() else block]
        content[int(last) if last.isdecimal() else last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("experts.0.key", "experts/other/expert-00000.arrow"),
        _set("experts.0.key", "../../etc/passwd"),
        _set("experts.0.snapshots.1.0", 10**9),
        _set("experts.0.snapshots.1.0", -1),
        _set("experts.0.snapshots.1.1", 1),
        _set("experts.0.snapshots.1.1", "x"),
        _set("experts.0.snapshots", []),
        _set("experts.0.test_accuracy", [0.5]),
        _set("experts.0.size", None),
        _set("experts.0", []),
        _set("experts", []),
        _set("experts", {}),
        _set("spec.epochs", [0, 1]),
        _set("spec.dtype", "complex64"),
        _set("spec.layout", [["w", [3]]]),
        _set("spec.layout", [["w", ["x"]]]),
        _set("spec", None),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(local, change):
    content = _manifest(local)["content"]
    change(content)
    _overwrite(local, {"format": 1, "sha256": sha256(canonical(content).encode()), "content": content})
    with pytest.raises(TrajectoryError, match="manifest-00001.json (contradicts itself|lists objects of another)"):
        TrajectorySet(local, "set").open()


@pytest.mark.parametrize(
    "text, fault",
    [
        ("", "not a manifest"),
        ("[]", "not a manifest"),
        ("[" * 100_000, "not a manifest"),
        ('{"format":2}', "version 2; this program reads 1"),
        ("{}", "version None"),
        ('{"format":1,"sha256":"x","content":{}}', "damaged"),
    ],
    ids=["empty", "list", "deep", "version", "nothing", "digest"],
)
def test_a_manifest_that_is_none_is_refused(local, text, fault):
    filled(local, 1).seal(spec_of(), 1)
    _overwrite(local, text)
    with pytest.raises(TrajectoryError, match=f"manifest-00001.json.*{fault}"):
        TrajectorySet(local, "set").open()


def test_a_manifest_with_one_letter_changed_is_refused(local):
    outer = _manifest(local)
    outer["content"]["experts"][0]["test_accuracy"][3] = 0.99
    _overwrite(local, outer)
    with pytest.raises(TrajectoryError, match="damaged"):
        TrajectorySet(local, "set").open()


def test_an_expert_number_out_of_range_is_refused(local):
    for number in (-1, 100_000):
        with pytest.raises(ValueError, match=f"expert {number}"):
            TrajectorySet(local, "set").write_expert(spec_of(), replace(record_of(0), index=number))
    assert local.list("") == []


def _manifest(store) -> dict:
    filled(store, 1).seal(spec_of(), 1)
    return json.loads(store.read("experts/set/manifest-00001.json"))


def _overwrite(store, manifest: dict | str) -> None:
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (store.root / "experts/set/manifest-00001.json").write_text(text)
