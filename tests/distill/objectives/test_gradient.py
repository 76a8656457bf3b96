"""Gradient matching against plain autograd in float64, finite differences, and hand counts of its loops."""

import pytest
import torch
import torch.nn.functional as F
from support import small

from distill import objectives, recipe, rng, synthetic
from distill.augment import apply, draw
from distill.cost.memory import PeakMemory
from distill.engine.inner import InnerStep
from distill.errors import RecipeError
from distill.nets.functional import Layout
from distill.objectives.gradient import Matching, cosine_distance

ALL = ("objective.batch_real=1000",)
PLAIN = (*ALL, "objective.augment.strategies=[]")


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(*overrides):
    c = small.context("gradient", *overrides, dtype=torch.float64)
    return c, synthetic.build(c), objectives.build(c)


# ---------------------------------------------------------------- the loss, by hand


def by_hand(c, made, theta, step):
    """The whole graph of all classes at once, gradients with create_graph, one output channel after the other."""
    o, total = c.recipe.objective, 0.0
    for k in range(c.classes):
        shared = draw(o.augment, 1, rng.generator(c.seed, "gradient", step, 0, "augment", k))
        real = c.data.train.x[c.data.train.y == k]
        items = [j for j in range(len(made)) if made.y[j].argmax() == k]
        targets = gradients(c, theta, apply(real, shared), F.one_hot(torch.full((len(real),), k), c.classes))
        ours = gradients(c, theta, apply(made.x[items], shared), made.y[items])
        for (name, shape), a, b in zip(c.network.layout.entries, ours, targets, strict=True):
            b = b.detach()
            if o.distance == "l2":
                total = total + (a - b).pow(2).sum()
            elif name.endswith("weight") and len(shape) > 1:
                total = total + sum(1 - F.cosine_similarity(a[i].flatten(), b[i].flatten(), 0) for i in range(shape[0]))
    return total


def gradients(c, theta, x, y):
    parts = [p.detach().clone().requires_grad_() for p in c.network.layout.unflatten(theta).values()]
    logits = c.network(torch.cat([p.flatten() for p in parts]), x)
    loss = -(y * logits.log_softmax(1)).sum() / len(x)
    return torch.autograd.grad(loss, parts, create_graph=True)


@pytest.mark.parametrize("settings", [[], ["objective.distance=l2"], ["synthetic.labels.mode=learned"]])
@pytest.mark.parametrize("step", [0, 3])
def test_loss_and_gradient_equal_plain_autograd(settings, step):
    """All real images of a class are used, so which are drawn does not matter; step 3 draws another augmentation."""
    c, made, objective = build(*ALL, "objective.outer_loop=1", *settings)
    learned = [made.x, *[made.y] * made.y.requires_grad]
    if made.y.requires_grad:
        with torch.no_grad():
            made.y.mul_(0.9).add_(0.1 * torch.rand(made.y.shape, generator=rng.generator(0, "labels")))
    loss = objective.loss(made, step, [0])
    theta = c.network.init(rng.generator(c.seed, "gradient network", step, 0))
    expected = by_hand(c, made, theta, step)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    for ours, theirs in zip(*(torch.autograd.grad(value, learned) for value in (loss, expected)), strict=True):
        assert theirs.norm() > 0 and (ours - theirs).norm() <= 1e-9 * theirs.norm()


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_gradient_equals_finite_differences(distance):
    _, made, objective = build(*ALL, f"objective.distance={distance}", "network.norm=none")
    objective.loss(made, 0, [0]).backward()
    direction = torch.randn(made.x.shape, generator=rng.generator(1, "direction"))
    ends = []
    for move in (1e-5, -1e-5):
        with torch.no_grad():
            made.x.add_(move * direction)
            ends.append(objective.loss(made, 0, [0]).item())
            made.x.sub_(move * direction)
    assert (made.x.grad * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_grouping_is_by_output_channel_and_leaves_biases_and_norms_out():
    layout = Layout((("conv", (2, 1, 1, 2)), ("bias", (2,)), ("linear", (1, 2))))
    a = torch.tensor([1.0, 0.0, 0.0, 2.0, 5.0, 5.0, 1.0, 1.0])
    b = torch.tensor([3.0, 0.0, 1.0, 0.0, -5.0, 5.0, -1.0, -1.0])
    assert cosine_distance(a, b, layout).item() == pytest.approx(0 + 1 + 2)


def test_size_does_not_matter_and_a_zero_gradient_has_no_direction():
    """The published constant of 1e-6 would make the distance of two equal small gradients one."""
    layout, b = Layout((("linear", (2, 2)),)), torch.tensor([1e-6, 0.0, 3.0, 4.0])
    a = torch.tensor([1e-6, 1e-6, 0.0, 0.0], requires_grad=True)
    distance = cosine_distance(a, b, layout)
    assert distance.item() == pytest.approx(1 - 0.5**0.5 + 1)
    (slope,) = torch.autograd.grad(distance, a)
    assert slope.isfinite().all() and slope[:2].norm() > 0 and slope[2:].tolist() == [0.0, 0.0]
    small_values = cosine_distance(torch.full((4,), 1e-15), torch.full((4,), 1e-15), layout)
    assert abs(small_values.item()) < 1e-6


def test_a_set_equal_to_the_real_one_has_no_loss_under_any_augmentation():
    _, made, objective = build(*ALL, "synthetic.ipc=15", "objective.outer_loop=1")
    assert all(abs(objective.loss(made, step, [0]).item()) < 1e-8 for step in range(6))


def test_the_real_gradient_is_a_constant(monkeypatch):
    """No graph leads from the loss to a real image."""
    c, made, objective = build(*PLAIN)
    c.data.train.x.requires_grad_()
    try:
        loss = objective.loss(made, 0, [0])
        with pytest.raises(RuntimeError, match="not have been used"):
            torch.autograd.grad(loss, c.data.train.x)
    finally:
        c.data.train.x.requires_grad_(False)


def test_a_real_batch_has_batch_real_images_of_its_class_and_other_ones_each_step():
    c, _, objective = build("objective.batch_real=4", "objective.augment.strategies=[]")
    seen = []
    for step in range(12):
        x, y = objective._real_batch(1, ("gradient", step, 0))
        assert y.argmax(1).tolist() == [1] * 4
        seen += [(c.data.train.x == image).flatten(1).all(1).nonzero().item() for image in x]
    assert len(set(seen)) == 15 and all(c.data.train.y[r] == 1 for r in seen)


# ---------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_classes():
    peaks = []
    for classes in (3, 12):
        c = small.context("gradient", *PLAIN, "network.width=16")
        data = small.random_data(classes, n=classes * 15, dtype=torch.float64)
        c = type(c)(c.recipe, data, small.nets.build(c.recipe.network, data.shape, classes, False), c.device)
        made, objective = synthetic.build(c), objectives.build(c)
        with PeakMemory() as memory:
            objective.loss(made, 0, [0]).backward()
        peaks.append(memory.peak)
    assert peaks[1] < 1.4 * peaks[0]  # the last layer and the set have four times as many classes


# ---------------------------------------------------------------- loops


@pytest.mark.parametrize("ipc, loops", [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (50, (50, 10))])
def test_loops_are_the_published_ones(ipc, loops):
    assert recipe.Gradient().loops(ipc) == loops


def test_loops_between_and_beyond_the_published_ones_and_by_hand():
    assert recipe.Gradient().loops(0.3) == (1, 1) and recipe.Gradient().loops(200) == (50, 10)
    assert recipe.Gradient().loops(15) == (15, round(37.5)) and recipe.Gradient().loops(5.5) == (
        round(5.5),
        round(25.5),
    )
    assert recipe.Gradient(outer_loop=3).loops(10) == (3, 50)
    assert recipe.Gradient(outer_loop=3, inner_loop=2).loops(10) == (3, 2)


def test_a_network_trains_on_the_updated_set_until_a_fresh_one_replaces_it():
    """Two passes of two batches (4 and 2 of 6 images) of plain SGD after each match but the last of three."""
    c, made, objective = build(*PLAIN, "objective.outer_loop=3", "objective.inner_loop=2", "objective.batch_train=4")
    theta = c.network.init(rng.generator(c.seed, "gradient network", 0, 0))
    for step in range(3):
        loss = objective.loss(made, step, [0])
        assert loss.item() == pytest.approx(by_hand(c, made, theta, step).item(), rel=1e-9)
        with torch.no_grad():
            made.x.add_(0.3)
        objective.after_step(made, step)
        for sweep in range(2):
            order = torch.randperm(6, generator=rng.generator(c.seed, "train", step, 0, "order", sweep))
            for rows in order.split(4):
                g = gradients(c, theta, made.x[rows], made.y[rows])
                theta = theta - 0.01 * torch.cat([p.flatten() for p in g]).detach()
        if step < 2:
            assert torch.allclose(objective.theta[0], theta, rtol=1e-9, atol=1e-12)
    assert not objective.theta.any()
    fresh = c.network.init(rng.generator(c.seed, "gradient network", 1, 0))
    loss = objective.loss(made, 3, [0])
    assert loss.item() == pytest.approx(by_hand(c, made, fresh, 3).item(), rel=1e-9)


def test_work_says_how_often_the_network_trains(monkeypatch):
    c, made, objective = build("objective.outer_loop=3", "objective.inner_loop=2", "objective.batch_train=4")
    steps, forward = [], InnerStep.forward
    monkeypatch.setattr(
        InnerStep, "forward", lambda self, state, x, *a: (steps.append(len(x)), forward(self, state, x, *a))[1]
    )
    for step in range(3):
        objective.loss(made, step, [0])
        objective.after_step(made, step)
    work = objective.work(made)
    assert sorted(set(steps)) == [2, 4] and len(steps) == 8 and work.inner.plain == pytest.approx(8 / 3)
    assert (work.inner.images, work.inner.differentiated) == (4, 0)
    assert [(p.images, p.chunk, p.second_order) for p in work.passes] == [(24, 8, False), (6, 2, True)]
    assert build("objective.outer_loop=1")[2].work(made).inner is None


def test_training_networks_gives_every_image_its_own_augmentation(monkeypatch):
    from distill.objectives import gradient

    seen = []
    real = gradient.Batches
    monkeypatch.setattr(
        gradient, "Batches", lambda s, size, augment, *a: (seen.append(augment), real(s, size, augment, *a))[1]
    )
    _, made, objective = build("objective.outer_loop=2")
    objective.loss(made, 0, [0])
    objective.after_step(made, 0)
    assert seen[0].per_sample and seen[0].strategies == recipe.DSA and not seen[0].align_corners


def test_segments_are_averaged():
    """Segment 0 is the network of a run with one segment, and counts a third."""
    _, made, objective = build("objective.segments=3")
    each = [objective.loss(made, 0, [s]).item() for s in range(3)]
    assert len(set(each)) == 3 and objective.loss(made, 0, range(3)).item() == pytest.approx(sum(each))
    assert each[0] == pytest.approx(build()[2].loss(made, 0, [0]).item() / 3)


# ---------------------------------------------------------------- compiled


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_traced_matching_has_the_same_bits(distance):
    c = small.context("gradient", dtype=torch.float64)
    theta, y = c.network.init(rng.generator(0, "theta")), F.one_hot(c.data.train.y, 3).double()
    results = []
    for traced in (False, True):
        matching = Matching(c.network, distance, traced=traced)
        for n in (4, 3, 4):  # the second time is a replay
            real = matching.gradient(theta, c.data.train.x[-n:], y[-n:])
            (to_x, to_y), value = matching.distance(theta, c.data.train.x[:n], y[:n], real)
            results.append((real, to_x, to_y, value))
    assert all(
        torch.equal(a, b) for e, t in zip(results[:3], results[3:], strict=True) for a, b in zip(e, t, strict=True)
    )


@pytest.mark.slow
def test_compiled_matching_equals_eager():
    torch.set_default_dtype(torch.float32)
    c = small.context("gradient", "network.width=8")
    theta = c.network.init(rng.generator(0, "theta"))
    x, y = c.data.train.x[:4], F.one_hot(c.data.train.y[:4], 3).float()
    results = []
    for compiled in (False, True):
        matching = Matching(c.network, "cosine", compiled)
        real = matching.gradient(theta, c.data.train.x[4:12], F.one_hot(c.data.train.y[4:12], 3).float())
        (to_x, to_y), distance = matching.distance(theta, x, y, real)
        results.append((real, distance, to_x, to_y))
        assert matching.distance(theta, x[:3], y[:3], real)[1].isfinite()  # another size runs eagerly
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def test_an_unknown_distance_is_refused():
    with pytest.raises(RecipeError, match="distance"):
        small.context("gradient", "objective.distance=l3")


def test_each_class_draws_other_real_images():
    """Were the class not in the key, classes of one size would always be matched by images of the same places."""
    c = small.context("gradient", "objective.batch_real=6", "objective.augment.strategies=[]")
    objective, train, places = objectives.build(c), c.data.train, []
    for k in range(c.classes):
        x, y = objective._real_batch(k, ("gradient", 0, 0))
        own = train.x[train.y == k]
        places.append([int((own == image).flatten(1).all(1).nonzero()) for image in x])
        assert len(set(places[-1])) == 6 and (y.argmax(1) == k).all()
    assert places[0] != places[1] != places[2]
