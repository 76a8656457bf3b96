"""Budgets: what floats buy in real images, also below one image per class."""

import torch
from support import small

from distill import rng, synthetic
from distill.evaluate.budget import image_counts, per_class, real_set


def test_learned_labels_cost_what_they_weigh():
    """6 images of 3x8x8 are 2 per class; 18 label floats are 0.03 of an image per class."""
    hard = small.context("trajectory")
    soft = small.context("trajectory", 'synthetic.labels={mode="learned", lr=0.3}')
    assert per_class(hard, synthetic.build(hard).budget().total) == 2.0
    assert per_class(soft, synthetic.build(soft).budget().total) == (6 * 192 + 18) / (192 * 3)


def test_images_are_whole_and_spread_evenly():
    context = small.context("trajectory")
    g = rng.generator(0, "counts")
    assert image_counts(context, 6 * 192, g) == [2, 2, 2]
    assert image_counts(context, 7 * 192 - 1, g) == [2, 2, 2]
    assert sorted(image_counts(context, 7 * 192, g)) == [2, 2, 3]
    assert image_counts(context, 191, g) == [0, 0, 0]


def test_below_one_image_per_class_chance_says_which_classes_have_one():
    context = small.context("trajectory")
    drawn = [tuple(image_counts(context, 2 * 192, rng.generator(seed, "counts"))) for seed in range(40)]
    assert {sum(counts) for counts in drawn} == {2}
    assert set(drawn) == {(1, 1, 0), (1, 0, 1), (0, 1, 1)}


def test_a_set_of_real_images_has_their_labels_and_copies_them():
    context = small.context("trajectory")
    before = context.data.train.x.clone()
    made = real_set(context, [2, 0, 1], rng.generator(0, "images"))
    assert made.y.argmax(1).tolist() == [0, 0, 2]
    with torch.no_grad():
        made.x.add_(1)
    assert torch.equal(context.data.train.x, before)
