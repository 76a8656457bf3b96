"""Selectors against choices worked by hand on a few points in the plane."""

from dataclasses import replace

import pytest
import torch
from support import small

from distill import rng, synthetic
from distill.errors import DataError, RecipeError
from distill.selectors import SELECTORS, Evidence, entropy, forgetting, herding, kmeans, select
from distill.selectors.forgetting import events_of


class Points:
    """Evidence that is given."""

    def __init__(self, features=None, logits=None, right=None):
        self.features, self.logits, self.correct = features, logits, right


def chance(seed: int = 0) -> torch.Generator:
    return rng.generator(seed, "test")


def test_herding_keeps_the_mean_of_the_chosen_near_the_mean_of_all():
    """Points 0, 1, 2, 9 have mean 3: first 2 (nearest), then 2 and 1 (1.5), 2 and 0 (1), 2 and 9 (5.5): 1; then 9."""
    points = Points(features=torch.tensor([[0.0], [1.0], [2.0], [9.0]]))
    assert herding.pick(points, torch.arange(4), 3, chance()).tolist() == [2, 1, 3]


def test_herding_looks_at_the_members_only():
    points = Points(features=torch.tensor([[100.0], [0.0], [1.0], [2.0], [9.0]]))
    assert herding.pick(points, torch.tensor([1, 2, 3, 4]), 2, chance()).tolist() == [3, 2]


def test_kmeans_takes_the_nearest_or_farthest_of_each_cluster():
    """Clusters {0, 1, 5} with centre 2 and {100, 101, 108} with centre 103."""
    features = torch.tensor([[0.0], [1.0], [5.0], [100.0], [101.0], [108.0]])
    near = kmeans.pick_nearest(Points(features), torch.arange(6), 2, chance())
    far = kmeans.pick_farthest(Points(features), torch.arange(6), 2, chance())
    assert sorted(near.tolist()) == [1, 4] and sorted(far.tolist()) == [2, 5]


@pytest.mark.parametrize("pick", [kmeans.pick_nearest, kmeans.pick_farthest])
def test_kmeans_of_equal_images_takes_each_different_one_first(pick):
    features = torch.tensor([[0.0, 0.0]] * 3 + [[5.0, 5.0]] * 2 + [[9.0, 9.0]])
    picked = pick(Points(features), torch.arange(6) + 0, 4, chance()).tolist()
    assert len(set(picked)) == 4 and {features[i, 0].item() for i in picked[:3]} == {0.0, 5.0, 9.0}


def test_entropy_orders_from_certain_to_uncertain():
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    assert entropy.pick_lowest(Points(logits=logits), torch.arange(4), 4, chance()).tolist() == [1, 3, 2, 0]
    assert entropy.pick_highest(Points(logits=logits), torch.arange(4), 2, chance()).tolist() == [0, 2]


def test_events_are_falls_from_right_to_wrong_and_never_learned_is_worst():
    right = torch.tensor([[[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1]]]).bool()  # (1, 4 epochs, 4 images)
    assert events_of(right).tolist() == [2.0, 0.0, float("inf"), 1.0]
    chosen = forgetting.pick(Points(right=right), torch.arange(4), 3, chance())
    assert chosen.tolist() == [2, 0, 3]


def test_ties_of_forgetting_are_broken_by_chance():
    right = torch.ones(1, 3, 6).bool()
    drawn = {tuple(forgetting.pick(Points(right=right), torch.arange(6), 2, chance(s)).tolist()) for s in range(20)}
    assert len(drawn) > 5


@pytest.mark.parametrize("name", SELECTORS)
def test_each_gives_different_images_of_each_class(name):
    context = small.context("trajectory")
    rows = select(name, Evidence(context), [3, 0, 5], chance())
    assert context.data.train.y[rows].tolist() == [0] * 3 + [2] * 5
    assert len({*rows.tolist()}) == 8
    assert torch.equal(rows, select(name, Evidence(context), [3, 0, 5], chance()))


def test_a_class_with_too_few_images_is_refused():
    with pytest.raises(DataError, match="class 1 has only 15"):
        select("herding", Evidence(small.context("trajectory")), [1, 16, 1], chance())


def test_images_are_seen_through_the_first_expert_at_its_end():
    context = small.context("trajectory")
    evidence, theta, x = Evidence(context), context.experts.theta[0, -1], context.data.train.x
    assert torch.allclose(evidence.features, context.network.features(theta, x), atol=1e-5)
    assert torch.allclose(evidence.logits, context.network(theta, x), atol=1e-5)
    right = torch.stack([context.network(t, x).argmax(1) == context.data.train.y for t in context.experts.theta[1, 1:]])
    assert evidence.correct.shape == (2, 6, 45) and torch.equal(evidence.correct[1], right)
    assert evidence.source == "expert 0 of the store after 6 epochs"


def test_without_experts_a_network_is_trained_briefly_and_says_so(caplog):
    context = replace(small.context("distribution", "experts.lr=0.05"), experts=None)
    evidence = Evidence(context)
    with caplog.at_level("INFO", "stillhouse"):
        right = (evidence.logits.argmax(1) == context.data.train.y).float().mean()
    assert right > 0.5 > 1 / 3
    assert "a network trained for 6 epochs, as the run has no experts" in caplog.text
    with pytest.raises(RecipeError, match="stillhouse experts"):
        select("forgetting", evidence, [1, 1, 1], chance())


@pytest.mark.parametrize("init", ["herding", "entropy-low", "kmeans-farthest"])
def test_a_set_may_start_from_selected_images(init):
    context = small.context("trajectory", f"synthetic.init={init}")
    made = synthetic.build(context)
    rows = select(init, Evidence(context), [2, 2, 2], rng.generator(context.seed, "synthetic init"))
    assert torch.equal(made.x, context.data.train.x[rows]) and made.y.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_published_set_is_restored_without_experts_and_without_training():
    context = small.context("trajectory", "synthetic.init=forgetting", "synthetic.labels.mode=expert")
    made = synthetic.build(context)
    again = synthetic.restore(replace(context, experts=None), made.state_dict())
    assert torch.equal(again.x, made.x) and torch.equal(again.y, made.y)
    assert again.budget().total == made.budget().total


def test_too_few_images_are_told_before_any_expert_is_trained():
    context = replace(small.context("trajectory", "synthetic.init=herding", "synthetic.ipc=99"), experts=None)
    with pytest.raises(DataError, match=r"only 15 training images to choose 99 from; lower .*synthetic\.ipc"):
        synthetic.blank(context)
