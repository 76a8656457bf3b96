"""Rows of an evaluation: each is what it says, and does not depend on who trains it."""

from dataclasses import replace

import pytest
import torch
from support import small
from support.small import plain

from distill import rng, synthetic
from distill.accuracy import hits, statistics
from distill.data.base import Split
from distill.errors import DataError, RecipeError
from distill.evaluate import Judge, real_set
from distill.evaluate.rows import Hard, Rows
from distill.recipe import ConvNet


def rows_of(context, pixels=None, soft=False) -> Rows:
    made = synthetic.build(context)
    if soft:
        made.y.data = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7]]).repeat(3, 1)
    rows = Rows(context, pixels or made.budget().pixels, made, 0.05, trainings=1)
    rows.use(context.recipe.network)
    return rows


def test_rows_are_those_of_the_judge_alone():
    """The distilled set at its learned rate, random images at the rate of the baselines, a draw for every network."""
    context = small.context("trajectory", "evaluation.networks=3", digits=200)
    rows, judge = rows_of(context), Judge(context)
    test = context.data.test
    distilled = tuple(m.accuracy[0] for m in rows.measure("distilled", 0))
    assert distilled == judge.score(rows.synthetic, 0.05, test, 3, "evaluate").values
    assert tuple(m.accuracy[0] for m in rows.measure("random", 0)) == judge.random_real(2, test).values
    sets = [rows.training_set("random", i).x for i in range(2)]
    assert not torch.equal(*sets)


def test_those_trained_beside_an_earlier_one_are_not_trained_again():
    rows = rows_of(small.context("trajectory", "evaluation.networks=3"))
    assert [len(rows.measure("distilled", i)) for i in range(3)] == [3, 0, 0]


def test_large_networks_are_trained_one_by_one(monkeypatch):
    monkeypatch.setattr("distill.evaluate.judge.SIDE_BY_SIDE_FLOPS", 0)
    rows = rows_of(small.context("trajectory", "evaluation.networks=3"))
    assert [len(rows.measure("distilled", i)) for i in range(3)] == [1, 1, 1]


def test_selected_images_are_chosen_once_for_the_budget():
    context = small.context("trajectory")
    rows = rows_of(context)
    first, second = rows.training_set("herding", 0), rows.training_set("herding", 1)
    assert torch.equal(first.x, second.x) and first.y.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_budget_below_one_image_has_no_baseline():
    rows = rows_of(small.context("trajectory"), pixels=100)
    with pytest.raises(DataError, match="less than one real image"):
        rows.measure("random", 0)


def test_real_images_beside_a_set_in_eight_bits_count_with_eight_bits_too():
    """Two images per class in 8 bits, levels of three channels in six floats: two real images per class."""
    rows = rows_of(small.context("trajectory", "synthetic.ipc=2", "synthetic.bits=8"))
    budget = rows.synthetic.budget()
    assert (budget.total, rows.pixels) == (6 * 192 // 4 + 6, 6 * 192 + 6 * 4)
    assert [len(rows.training_set(row, 0)) for row in ("random", "herding")] == [6, 6]


def test_forgetting_without_experts_says_what_to_do():
    rows = rows_of(replace(small.context("trajectory"), experts=None))
    with pytest.raises(RecipeError, match="stillhouse experts"):
        rows.measure("forgetting", 0)


def test_hard_labels_are_the_most_likely_classes():
    rows = rows_of(small.context("trajectory"), soft=True)
    x, y = plain(rows.training_set("distilled-hard", 0))
    assert torch.equal(x, rows.synthetic.x) and y.tolist()[:2] == [[1, 0, 0], [0, 0, 1]]
    assert isinstance(rows.training_set("distilled-hard", 0), Hard)


def test_other_augmentation_is_none_where_there_is_some_and_dsa_where_there_is_none():
    some = rows_of(small.context("trajectory", 'evaluation.augment.strategies=["flip"]'))
    assert some.judges[True].context.recipe.evaluation.augment.strategies == ()
    none = rows_of(small.context("trajectory"))
    assert len(none.judges[True].context.recipe.evaluation.augment.strategies) == 6


def test_other_networks_are_trained_on_the_same_images():
    context = small.context("trajectory")
    rows = rows_of(context)
    before = rows.training_set("herding", 0).x
    rows.use(ConvNet(depth=2, width=6))
    (measured,) = rows.measure("herding", 0)
    assert torch.equal(rows.training_set("herding", 0).x, before) and 0 <= measured.accuracy[0] <= 1
    assert rows.judges[False].network.layout.size != context.network.layout.size


def test_batch_norms_judge_with_what_they_saw_in_training():
    """One test image alone is classified as among others; by statistics of its own batch it would not be."""
    context = small.context("trajectory", "network.norm=batch", "evaluation.epochs=40", digits=200)
    judge, key = Judge(context), ("k", "network", 0)
    images = real_set(context, 2, rng.generator(0, "images"))
    parts = judge._batches([images], [key])
    (theta,) = [t[0] for t in judge._train(parts, [key], 0.05, (40,))]
    known = statistics(judge.step, theta, (parts[0](i)[0] for i in range(3)))
    few = Split(context.data.test.x[:40], context.data.test.y[:40])
    assert hits(judge.step, theta, few, batch=1, statistics=known) == hits(judge.step, theta, few, statistics=known)
    assert hits(judge.step, theta, few, batch=1) != hits(judge.step, theta, few)
