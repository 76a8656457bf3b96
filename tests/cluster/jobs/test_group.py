"""What workers claim of a cluster, and what is said when it has less."""

import pytest
from ray.train import RunConfig, ScalingConfig

from cluster.jobs import fitting, group, train_group
from distill import recipe
from distill.errors import ClusterError, RecipeError


def job(monkeypatch, cpus, gpus, workers, each, *overrides):
    """What workers are sent on a cluster of so many cores and GPUs."""
    monkeypatch.setattr(group, "_board", lambda items, deadline: None)
    monkeypatch.setattr(group, "nodes", lambda: [{"CPU": cpus, "GPU": gpus}])
    monkeypatch.setattr(group, "gpus", lambda: gpus)
    r = recipe.load("digits", [f"experts.gpus_per_worker={each}", *overrides])
    return group._job(print, {}, r, workers, None, r.experts.gpus_per_worker)


@pytest.mark.parametrize(
    "cpus, gpus, workers, each, overrides, claimed",
    [
        (16, 2, 8, 0.25, [], {"CPU": 2, "GPU": 0.25}),
        (16, 2, 2, 1, [], {"CPU": 8, "GPU": 1}),
        (16, 2, 4, 0.5, ["threads=1"], {"CPU": 1, "GPU": 0.5}),
        (4, 0, 2, 0.25, [], {"CPU": 2}),
        (4, 2, 2, 0.25, ["device=cpu"], {"CPU": 2}),
        (2, 0, 8, 1, [], {"CPU": 1}),
    ],
)
def test_a_worker_claims_its_threads_and_its_part_of_a_gpu(monkeypatch, cpus, gpus, workers, each, overrides, claimed):
    assert job(monkeypatch, cpus, gpus, workers, each, *overrides).resources == claimed


@pytest.mark.parametrize(
    "cpus, overrides, workers, fit", [(1, [], 2, 1), (4, ["threads=1"], 8, 4), (1, ["threads=3"], 2, 1)]
)
def test_workers_that_take_items_are_as_many_as_the_machine_holds(monkeypatch, cpus, overrides, workers, fit):
    assert group._at_once(job(monkeypatch, cpus, 0, workers, 1, *overrides), workers) == fit


@pytest.mark.parametrize("items, started", [((0, 1), 1), ((), 2)])
def test_only_workers_that_take_items_may_be_fewer(monkeypatch, items, started):
    job(monkeypatch, 1, 0, 2, 1)  # one core
    seen = []
    monkeypatch.setattr(group, "is_private", lambda: True)
    monkeypatch.setattr(group, "watch", lambda *arguments: None)
    monkeypatch.setattr(group, "refuse_unfit", lambda each, workers, fix: seen.append(workers))
    group.run(print, {}, recipe.load("digits"), 2, print, items)
    assert seen == [started]


TWO = [{"CPU": 2, "GPU": 0}, {"CPU": 2, "GPU": 0}]
MIXED = [{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 0}]


@pytest.mark.parametrize(
    "there, each, workers, room",
    [
        (TWO, {"CPU": 2}, 2, None),
        (TWO, {"CPU": 3}, 1, 0),  # 4 in all, but none on one node
        (TWO, {"CPU": 64}, 1, 0),
        (TWO, {"CPU": 0.5}, 8, None),
        (TWO, {"CPU": 1.5}, 3, 2),
        (MIXED, {"CPU": 2, "GPU": 0.25}, 4, None),
        (MIXED, {"CPU": 2, "GPU": 0.25}, 8, 4),  # 8 quarters of a GPU, but CPUs for 4 where these are
        (MIXED, {"CPU": 2, "GPU": 1}, 8, 2),
        (MIXED, {"CPU": 1, "GPU": 0}, 16, None),
    ],
)
def test_a_worker_needs_all_it_claims_on_one_node(monkeypatch, there, each, workers, room):
    monkeypatch.delenv(fitting.GROWS, raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def ask() -> str | None:
        return fitting.refuse_unfit(each, workers, "threads", there)

    if room is None:
        assert ask() is None
        return
    with pytest.raises(ClusterError, match=f"{workers} workers? claim {each['CPU']:g} CPU.*: {room} fit.*threads"):
        ask()  # this machine does not grow
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    if room:
        assert ask().startswith("waiting for the cluster to grow")
    else:
        with pytest.raises(ClusterError, match=fitting.GROWS):
            ask()
        monkeypatch.setenv(fitting.GROWS, "1")
        assert ask().startswith("waiting for the cluster to grow")


def test_the_nodes_are_named_with_what_they_have(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ClusterError, match="the nodes have 2 x 2 CPU, 1 x 8 CPU and 2 GPU: 0 fit"):
        fitting.refuse_unfit({"CPU": 9}, 1, "threads", [*TWO, MIXED[0]])


@pytest.mark.parametrize(
    "workers, there, threads",
    [
        (1, TWO, 2),
        (2, TWO, 2),
        (3, TWO, 1),
        (9, TWO, 1),
        (1, [], 1),
        (2, [{"CPU": 4}, {"CPU": 2}], 2),
        (2, [{"CPU": 5}], 2),
    ],
)
def test_workers_get_as_many_threads_as_let_all_run_at_once(workers, there, threads):
    assert fitting.threads_for(workers, there) == threads


def test_a_task_larger_than_the_machine_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(group, "_board", lambda items, deadline: None)
    monkeypatch.setattr(group, "gpus", lambda: 0)
    monkeypatch.setattr(fitting, "nodes", lambda: TWO[:1])
    read = recipe.load("digits", ["threads=64"])
    with pytest.raises(ClusterError, match="1 worker claim 64 CPU each, on one node; the machine has 2 CPU: 0 fit"):
        group.run(print, {}, read, 1, print)


@pytest.mark.parametrize("part", [0, 1.5, -1])
def test_a_worker_has_at_most_one_gpu(part):
    with pytest.raises(RecipeError, match="experts.gpus_per_worker"):
        recipe.load("digits", [f"experts.gpus_per_worker={part}"])


@pytest.mark.parametrize("address, helpers", [(None, 0), ("http://127.0.0.2:8265", 2)])
def test_a_ray_of_the_commands_own_does_not_wait_for_helpers_it_has_no_use_for(monkeypatch, tmp_path, address, helpers):
    """One of them asks another cluster, if there was one on this machine; a cluster needs them."""
    monkeypatch.setenv("RAY_ADDRESS", address) if address else monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run = RunConfig(name="test", storage_path=str(tmp_path))
    trainer = train_group._Trainer(print, scaling_config=ScalingConfig(num_workers=1), run_config=run)
    made = {type(callback).__name__ for callback in trainer._create_default_callbacks()}
    assert len(made & {"PlacementGroupCleanerCallback", "DatasetsCallback"}) == helpers
    assert "BackendSetupCallback" in made
