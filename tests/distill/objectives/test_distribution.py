"""Distribution matching against explicit per-class means, with the same augmentation on both sides."""

import pytest
import torch
from support import small

from distill import objectives, rng, synthetic
from distill.augment import apply, draw
from distill.objectives.distribution import items_of_classes


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(*overrides):
    c = small.context("distribution", *overrides, dtype=torch.float64)
    return c, synthetic.build(c), objectives.build(c)


def by_hand(c, made, step, rows_of):
    """Sum over classes of the squared distance of mean embeddings; `rows_of(k)` are the real images of class k."""
    key = (c.seed, "distribution", step, 0)
    theta = c.network.init(rng.generator(*key, "network"))
    x, y = made.x, made.y
    total = 0.0
    for k in range(c.classes):
        shared = draw(c.recipe.objective.augment, 1, rng.generator(*key, "augment", k))
        real = torch.stack([embedding(c, theta, apply(c.data.train.x[r : r + 1], shared)) for r in rows_of(k)])
        items = [j for j in range(len(y)) if y[j, k] > 0 and y[j, k] == y[j].max()]
        items = items or [j for j in range(len(y)) if y[j, k] > 0 and y[j, k] == y[:, k].max()]
        weights = y[items, k] / y[items, k].sum()
        embedded = [embedding(c, theta, apply(x[j : j + 1], shared)) for j in items]
        mean = sum(w * e for w, e in zip(weights, embedded, strict=True))
        apart = real.mean(0) - mean
        total = total + (apart.abs() if c.recipe.objective.distance == "l1" else apart.pow(2)).sum()
    return total


def embedding(c, theta, x):
    return c.network.features(theta, x)[0]


@pytest.mark.parametrize("step, distance", [(0, "l2"), (1, "l2"), (2, "l1")])
def test_loss_and_gradient_equal_explicit_class_means(step, distance):
    """All real images of a class are used, so which are drawn does not matter."""
    c, made, objective = build("objective.batch_real=1000", f"objective.distance={distance}")
    loss = objective.loss(made, step, [0])
    expected = by_hand(c, made, step, lambda k: (c.data.train.y == k).nonzero().flatten().tolist())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    (ours,), (theirs,) = (torch.autograd.grad(value, made.x) for value in (loss, expected))
    assert (ours - theirs).norm() <= 1e-9 * theirs.norm()


def test_learned_labels_weigh_their_images():
    c, made, objective = build("objective.batch_real=1000", "synthetic.labels.mode=learned")
    with torch.no_grad():
        made.y.copy_(torch.rand(made.y.shape, generator=rng.generator(0, "labels")))
    loss = objective.loss(made, 0, [0])
    expected = by_hand(c, made, 0, lambda k: (c.data.train.y == k).nonzero().flatten().tolist())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    ours, theirs = (torch.autograd.grad(value, made.y)[0] for value in (loss, expected))
    assert (ours - theirs).norm() <= 1e-9 * theirs.norm()


def test_each_image_is_embedded_once_for_its_most_likely_class(monkeypatch):
    c, made, objective = build("objective.batch_real=8", "synthetic.labels.mode=learned")
    with torch.no_grad():
        made.y.copy_((5 * made.y).softmax(1))  # some of every class in every label
    sizes = []
    features = type(c.network).features
    monkeypatch.setattr(type(c.network), "features", lambda self, t, x: (sizes.append(len(x)), features(self, t, x))[1])
    objective.loss(made, 0, [0])
    assert sum(sizes) == len(made) + 3 * 8


def test_items_stand_for_their_most_likely_class_ties_for_both_and_no_class_goes_without():
    y = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0], [0.7, 0.1, 0.2, 0.0]])
    items = {k: i.tolist() for k, i in items_of_classes(y).items()}
    assert items == {0: [0, 1, 2], 1: [1], 2: [2]}  # class 2 is nobody's first: the item that holds most of it


def test_a_class_that_learned_labels_left_out_is_left_out():
    c, made, objective = build("objective.batch_real=1000", "synthetic.labels.mode=learned")
    whole = objective.loss(made, 0, [0])
    with torch.no_grad():
        made.y[:, 1] = 0
    loss = objective.loss(made, 0, [0])
    assert 0 < loss < whole and torch.autograd.grad(loss, made.x)[0].isfinite().all()


def test_a_real_batch_has_batch_real_different_images_of_its_class():
    c, made, objective = build("objective.batch_real=4")
    seen = []
    for step in range(20):
        batch = objective._real_batch(1, rng.generator(step, "real"))
        rows = [(c.data.train.x == image).flatten(1).all(1).nonzero().item() for image in batch]
        assert len(set(rows)) == 4 and all(c.data.train.y[r] == 1 for r in rows)
        seen += rows
    assert len(set(seen)) == 15


def test_a_set_equal_to_the_real_one_has_no_loss():
    c, made, objective = build("objective.batch_real=1000", "synthetic.ipc=15")
    assert objective.loss(made, 0, [0]).item() < 1e-20


def test_each_step_has_its_own_network():
    _, made, objective = build()
    assert objective.loss(made, 0, [0]) == objective.loss(made, 0, [0])
    assert objective.loss(made, 0, [0]) != objective.loss(made, 1, [0])
