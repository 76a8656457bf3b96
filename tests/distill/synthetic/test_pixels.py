"""Pixels: real or noise starts, hard, learned and expert labels, the budget, and what the outer optimiser may move."""

import pytest
import torch
from support import small

from distill import rng, synthetic
from distill.errors import DataError, RecipeError
from distill.recipe import Outer


def test_a_real_start_is_training_images_ordered_by_class():
    context = small.context("trajectory")
    made = synthetic.build(context)
    assert made.x.shape == (6, 3, 8, 8) and made.y.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    for x, y in zip(made.x, made.y.argmax(1), strict=True):
        rows = (context.data.train.x == x).flatten(1).all(1)
        assert rows.any() and (context.data.train.y[rows] == y).all()


def test_the_start_depends_on_the_seed_alone():
    a, b, c = (synthetic.build(small.context("trajectory", f"seed={seed}")).x for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_learning_does_not_touch_the_data():
    context = small.context("trajectory")
    before = context.data.train.x.clone()
    made = synthetic.build(context)
    with torch.no_grad():
        made.x.add_(1)
    assert torch.equal(context.data.train.x, before)


def test_noise_has_the_mean_and_deviation_of_the_data():
    context = small.context("trajectory", "synthetic.init=noise", "synthetic.ipc=200")
    made, train = synthetic.build(context).x, context.data.train.x
    assert abs(made.mean() - train.mean()) < 0.02 and abs(made.std() - train.std()) < 0.02


def test_more_real_images_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"to choose 999 from; lower .*synthetic\.ipc"):
        synthetic.build(small.context("trajectory", "synthetic.ipc=999"))


def test_hard_labels_are_not_learned_and_cost_nothing():
    made = synthetic.build(small.context("trajectory"))
    assert [p is made.x for p in made.parameters() if p.requires_grad] == [True]
    assert made.budget().total == 6 * 3 * 8 * 8


def test_learned_labels_move_at_their_own_rate_stay_positive_and_are_counted():
    made = synthetic.build(small.context("trajectory", 'synthetic.labels={mode="learned", lr=0.3}'))
    groups = made.parameter_groups(Outer(lr_img=7.0))
    assert [(g.params[0] is p, g.lr) for g, p in zip(groups, (made.x, made.y), strict=True)] == [
        (True, 7.0), (True, 0.3),
    ]  # fmt: skip
    with torch.no_grad():
        made.y.sub_(0.5)
    made.project()
    assert made.y.min() == 0 and made.y.max() == 0.5
    assert made.budget().total == 6 * 3 * 8 * 8 + 6 * 3


def test_expert_labels_are_the_mean_of_the_experts_last_answers():
    context = small.context("trajectory", "synthetic.labels.mode=expert")
    made = synthetic.build(context)
    last = context.experts.theta[:, -1]
    expected = torch.stack([context.network(theta, made.x).softmax(1) for theta in last]).mean(0)
    assert torch.allclose(made.y, expected, atol=1e-6) and not made.y.requires_grad


def test_expert_labels_without_experts_are_refused():
    from dataclasses import replace

    context = replace(small.context("trajectory", "synthetic.labels.mode=expert"), experts=None)
    with pytest.raises(RecipeError, match="stillhouse experts"):
        synthetic.build(context)


def test_a_batch_is_the_items_asked_for():
    made = synthetic.build(small.context("trajectory"))
    x, y = made.batch(torch.tensor([4, 1]), rng.generator(0, "x"))
    assert torch.equal(x, made.x[[4, 1]]) and torch.equal(y, made.y[[4, 1]])
    x.sum().backward()
    assert made.x.grad[4].sum() == 3 * 8 * 8 and made.x.grad[0].sum() == 0
