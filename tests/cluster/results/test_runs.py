"""A run in a store: the newest checkpoint counts, old ones go, the result is written last."""

import json
from dataclasses import replace

import pytest
import torch
from support import small

from cluster.results.runs import KEPT, Run, fetch_url, run_ids
from cluster.store import open_store
from distill.checkpoint import Checkpoint
from distill.errors import ConflictError, MissingError, StoreError
from distill.published import FILE, read, write


def checkpoint(step: int, run_id: str = "demo-1") -> Checkpoint:
    return Checkpoint(step, run_id, {"x": torch.full((2,), float(step))}, {})


def published():
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return small.published(x, torch.eye(2), x, ("a", "b"), 0.1, {"name": "demo"}, 3, {"x": x})


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(open_store(f"file:{tmp_path}/store"), "demo-1")


def test_the_newest_checkpoint_counts_and_old_ones_go(run):
    assert run.latest() is None
    for step in (2, 4, 10, 100):
        run.save(checkpoint(step))
    assert run.latest().step == 100
    assert len(run.checkpoints()) == KEPT
    assert run_ids(run.store) == ["demo-1"]


def test_saving_the_same_state_again_is_no_conflict(run):
    assert run.save(checkpoint(2)) == run.save(checkpoint(2))


def test_a_checkpoint_of_another_run_is_refused(run):
    run.save(checkpoint(2, "other"))
    with pytest.raises(StoreError, match="other"):
        run.latest()


def damage(run: Run, step: int, how=lambda blob: blob[:-1] + bytes([blob[-1] ^ 4])) -> None:
    path = run.store.root / f"{run.folder}/checkpoints/{step:08d}.safetensors"
    path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize("how", [lambda blob: blob[:-1] + bytes([blob[-1] ^ 4]), lambda blob: blob[:50]])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_it(run, how, caplog):
    run.save(checkpoint(2))
    run.save(checkpoint(4))
    damage(run, 4, how)
    assert run.latest().step == 2
    assert "00000004.safetensors is damaged" in caplog.text and "resuming from step 2" in caplog.text
    run.save(checkpoint(4))  # the run gets there again
    assert run.latest().step == 4 and len(run.checkpoints()) == 2


def test_if_all_checkpoints_are_damaged_nothing_starts_anew_silently(run):
    run.save(checkpoint(2))
    damage(run, 2)
    with pytest.raises(StoreError, match="00000002.safetensors is damaged"):
        run.latest()


def test_a_whole_checkpoint_is_never_replaced(run):
    run.save(checkpoint(2))
    with pytest.raises(ConflictError):
        run.save(Checkpoint(2, "demo-1", {"x": torch.zeros(2)}, {}))
    assert run.latest().tensors["x"].tolist() == [2, 2]


def test_publishing_writes_the_result_last(run, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.results.runs.json.dumps", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.publish(write(published(), tmp_path / "out"), {"mean": 0.5})
    monkeypatch.undo()
    assert run.result() is None
    run.publish(write(published(), tmp_path / "out"), {"mean": 0.5})
    assert run.result() == {"mean": 0.5}
    assert torch.equal(run.published().images, published().images)


def test_a_run_knows_where_its_data_are_and_its_published_files_do_not(run, tmp_path):
    recipe = {"name": "demo", "dataset": {"kind": "npz", "path": "/data/of/somebody/digits.npz"}}
    run.publish(write(replace(published(), recipe=recipe), tmp_path / "out"), {"mean": 0.5})
    assert read(tmp_path / "out").recipe["dataset"]["path"] == "digits.npz"
    assert run.published().recipe["dataset"]["path"] == "digits.npz"
    run.describe(recipe | {"device": "cpu"})
    assert run.published().recipe == recipe
    assert run.with_own_paths(read(tmp_path / "out")).recipe == recipe


def test_the_files_of_a_run_are_fetched_whole_and_its_result_replaced(run, tmp_path):
    files = write(published(), tmp_path / "out")
    run.publish(files, {"version": 1})
    (tmp_path / "got").mkdir()
    got = run.fetch_published(tmp_path / "got")
    assert {f.name: f.read_bytes() for f in got.iterdir()} == {f.name: f.read_bytes() for f in files}
    run.replace_result({"version": 2})
    assert run.result() == {"version": 2}


def test_fetching_from_a_run_that_published_nothing_is_refused(run, tmp_path):
    with pytest.raises(MissingError):
        run.published()


def test_the_selected_set_is_there_before_and_after_publication(run, tmp_path):
    with pytest.raises(MissingError, match="demo-1"):
        run.selected()
    x = torch.full((2,), 7.0)
    run.describe({"name": "demo"})
    run.describe({"name": "demo", "experts": "another number of workers"})
    run.save(Checkpoint(4, "demo-1", {"synthetic.x": x + 1, "best.x": x}, {"best_lr": 0.25}))
    recipe, state, rate = run.selected()
    assert (recipe, rate) == ({"name": "demo"}, 0.25) and torch.equal(state["x"], x)
    run.publish(write(published(), tmp_path / "out"), {"step": 3})
    recipe, state, rate = run.selected()
    assert rate == 0.1 and torch.equal(state["x"], published().images)


def test_evaluations_of_earlier_versions_are_read_under_todays_names(run):
    score = {"mean": 0.5, "std": 0.1, "n": 2}
    same, seen = {**score, "steps": 600, "random": score}, "expert 0"
    old = {**same, "stations": {"600": score}, "selected_through": seen, "scored_with": {"random-other": score}}
    run.store.create(f"{run.folder}/evaluations/0123.json", json.dumps(old).encode())
    new = {**same, "by_steps": {"600": score}, "selection_network": seen, "score_rows": {"random-other": score}}
    assert run.evaluation("0123") == new and run.evaluations() == [new]


def test_a_published_set_is_fetched_from_any_store_by_its_url(store, tmp_path):
    """What `distill.load("s3://bucket/prefix/runs/RUN/published")` calls."""
    Run(store, "demo-1").publish(write(published(), tmp_path / "out"), {"step": 3})
    for number, url in enumerate((f"{store.url}/runs/demo-1/published", f"{store.url}/runs/demo-1/published/{FILE}")):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert torch.equal(read(fetch_url(url, folder)).images, published().images)


def test_a_run_of_an_earlier_version_is_selected_without_settings_that_were_removed(run):
    x = torch.full((2,), 7.0)
    run.describe({"name": "demo", "objective": {"kind": "trajectory", "first_experts": 0, "first_steps": 0}})
    run.save(Checkpoint(4, "demo-1", {"synthetic.x": x, "best.x": x}, {"best_lr": None}))
    assert run.selected()[0] == {"name": "demo", "objective": {"kind": "trajectory"}}
