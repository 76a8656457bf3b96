"""What workers claim of a cluster, and what is said when it has less."""

import pytest
from ray.train import RunConfig, ScalingConfig

from cluster.jobs import group, train_group
from distill import recipe
from distill.errors import RecipeError


def job(monkeypatch, cpus, gpus, workers, each, *overrides):
    """What workers are sent on a cluster of so many cores and GPUs."""
    monkeypatch.setattr(group, "cores", lambda: cpus)
    monkeypatch.setattr(group, "gpus", lambda: gpus)
    monkeypatch.setattr(group, "_board", lambda items: None)
    r = recipe.load("digits", [f"experts.gpus_per_worker={each}", *overrides])
    return group._job(print, {}, r, workers, (), r.experts.gpus_per_worker)


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


def test_eight_workers_on_two_gpus_fit_with_a_quarter_each_and_not_with_a_whole_one():
    there = {"CPU": 16, "GPU": 2}
    assert group.shortage({"CPU": 2, "GPU": 0.25}, 8, there) is None
    said = group.shortage({"CPU": 2, "GPU": 1}, 8, there)
    assert "8 workers claim 8 GPU, it has 2 GPU" in said and "experts.gpus_per_worker" in said
    assert "8 workers claim 24 CPU, it has 16 CPU" in group.shortage({"CPU": 3}, 8, there)


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
