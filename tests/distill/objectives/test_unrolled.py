"""Unrolled training against plain backpropagation in float64: loss, gradient, random length, clipping, pool."""

import pytest
import torch
import torch.nn.functional as F
from support import small
from support.plain_unroll import PlainUnroll
from torch import nn

from distill import objectives, rng, synthetic
from distill.engine.batches import Batches
from distill.engine.inner import SGD, Adam
from distill.objectives import unrolled

PLAIN = ("objective.augment.strategies=[]", "objective.batch_real=1000")


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(*overrides):
    c = small.context("unrolled", *overrides, dtype=torch.float64)
    return c, synthetic.build(c), objectives.build(c)


def trained(c, made, objective, start, step, before):
    """Parameters after plain training; the graph of the window is kept."""
    o = c.recipe.objective
    rule = Adam() if o.inner == "adam" else SGD(o.momentum)
    batches = Batches(made, o.batch_syn, o.augment, c.seed, ("student", step, 0))
    return PlainUnroll(c.network, rule)(start, objective.lr, batches, before + o.window, window=o.window)


@pytest.mark.parametrize("inner", ["inner=adam", "inner=sgd", "momentum=0.9"])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_loss_is_the_cross_entropy_of_the_trained_network_on_real_images(inner, step):
    """With batch_real above the data, the real batch is all of it."""
    sgd = ["objective.inner=sgd"] * (inner != "inner=adam")
    c, made, objective = build(*PLAIN, *sgd, f"objective.{inner}", "network.norm=none")
    loss = objective.loss(made, step, [0])
    start = c.network.init(rng.generator(c.seed, "student", step, 0))
    theta = trained(c, made, objective, start, step, objective.before_window(step, 0))
    expected = F.cross_entropy(c.network(theta, c.data.train.x), c.data.train.y)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (ours,), (theirs,) = (torch.autograd.grad(value, made.x) for value in (loss, expected))
    assert (ours - theirs).norm() <= 1e-10 * theirs.norm()


def test_chunks_of_the_real_batch_change_neither_loss_nor_gradient(monkeypatch):
    results = []
    for chunk in (1000, 7):
        monkeypatch.setattr(unrolled, "CHUNK", chunk)
        _, made, objective = build("objective.augment.strategies=[]", "objective.batch_real=40")
        loss = objective.loss(made, 0, [0])
        results.append((loss, *torch.autograd.grad(loss, made.x)))
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm()


def test_real_images_are_augmented():
    values = []
    for strategies in ("[]", '["cutout"]'):
        c, _, objective = build(f"objective.augment.strategies={strategies}")
        theta = c.network.init(rng.generator(0, "theta"))
        values.append(objective._real_loss(theta, rng.generator(0, "real")).item())
    assert values[0] != values[1]


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("automatic", [False, True])
def test_compiled_passes_of_real_images_have_one_size_and_the_eager_loss_and_gradient(monkeypatch, norm, automatic):
    """40 images in passes of 16 and 16 and 8, each cut into chunks of 6 and filled up, with the same augmentation."""
    compiled, sizes, results = [], [], []

    def compile_nothing(function, **options):
        compiled.append(function.__name__)
        return lambda *inputs: (
            sizes.append(len(inputs[1])) if function.__name__ == "_real_pass" else None,
            function(*inputs),
        )[1]

    monkeypatch.setattr(torch, "compile", compile_nothing)
    monkeypatch.setattr(unrolled, "CHUNK", 16)
    monkeypatch.setitem(unrolled.COMPILED_CHUNK, "cpu", 7)
    window = ["objective.unroll=5", "objective.window=3", "objective.window_change=1"] if automatic else []
    for choice in ("off", "on"):
        settings = [f"network.norm={norm}", "objective.batch_real=40", f"objective.automatic={automatic}", *window]
        _, made, objective = build(*settings, f"objective.engine.compile={choice}")
        loss = objective.loss(made, 0, [0])
        results.append((loss, *torch.autograd.grad(loss, made.x), *objective.per_worker()))
        assert ("_real_pass" in compiled) == (choice == "on")
    assert sizes == ([6] * 8 if norm == "instance" else [16, 16, 8])
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm() and b.norm() > 0


# ---------------------------------------------------------------- length


def test_random_length_covers_its_range_and_no_more():
    _, _, objective = build("objective.unroll=6", "objective.window=2")
    assert {objective.before_window(step, 0) for step in range(100)} == {0, 1, 2, 3, 4}
    assert [objective.before_window(step, 0) for step in range(9)] != [objective.before_window(s, 1) for s in range(9)]


def test_truncation_and_whole_unrolling_have_one_length():
    assert {build("objective.random=false")[2].before_window(step, 0) for step in range(20)} == {3}
    assert {build("objective.window=5")[2].before_window(step, 0) for step in range(20)} == {0}


def test_a_draw_of_the_length_is_shared_by_so_many_steps():
    _, _, objective = build("objective.unroll=1000", "objective.redraw_every=4")
    lengths = [objective.before_window(step, 0) for step in range(12)]
    assert lengths[:4] == lengths[:1] * 4 and lengths[4:8] == lengths[4:5] * 4 and len(set(lengths)) == 3


# ---------------------------------------------------------------- clipping


def clipped(objective, *norms):
    """Norms of the gradient after clipping, when it arrives with these norms, spread over two parameters."""
    parameters, after = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))], []
    for norm in norms:
        parameters[0].grad = torch.tensor([0.6, 0.0]) * norm
        parameters[1].grad = torch.tensor([0.0, 0.0, -0.8]) * norm
        objective.after_backward(parameters)
        after.append(torch.cat([p.grad for p in parameters[:2]]).norm().item())
    return after


def test_gradient_is_clipped_at_a_multiple_of_its_running_norm():
    """Means with decay 0.9: 1, then 0.9 + 1 = 1.9, then 1.71 + 0.1 = 1.81; a multiple of 2 clips only the 10."""
    _, _, objective = build("objective.clip=2", "objective.clip_decay=0.9")
    assert clipped(objective, 1.0, 10.0, 1.0) == pytest.approx([1.0, 3.8, 1.0])
    assert objective.norm_mean.item() == pytest.approx(1.81)
    assert objective.metrics() == {"gradient_norm": pytest.approx(1.0)}


def test_clip_zero_never_clips():
    assert clipped(build("objective.clip=0")[2], 1.0, 1000.0) == pytest.approx([1.0, 1000.0])


def test_running_norm_is_in_the_checkpoint():
    one, two = build()[2], build()[2]
    clipped(one, 1.0, 3.0)
    two.load_state_dict(one.state_dict())
    assert clipped(two, 50.0) == clipped(one, 50.0)


# ---------------------------------------------------------------- pool


def test_a_pooled_network_is_trained_on_until_it_is_too_old():
    """Window 2 of at most 5 steps: trained at ages 0 and 2, replaced at 4, for 4 + 2 > 5."""
    c, made, objective = build("objective.pool=1", *PLAIN)
    fresh = objective.pool[0].clone()
    for step, (age, after) in enumerate([(0, 2), (2, 0), (0, 2)]):
        start = objective.pool[0].clone()
        assert objective.pool_age.tolist() == [age]
        loss = objective.loss(made, step, [0])
        end = trained(c, made, objective, start, step, 0).detach()
        assert loss.item() == pytest.approx(F.cross_entropy(c.network(end, c.data.train.x), c.data.train.y).item())
        assert objective.pool_age.tolist() == [after]
        kept = torch.allclose(objective.pool[0], end, rtol=1e-9, atol=1e-12)
        assert kept == (after > 0)
        assert not torch.equal(objective.pool[0], fresh)


def test_pool_is_in_the_checkpoint():
    _, made, one = build("objective.pool=2")
    two = build("objective.pool=2")[2]
    one.loss(made, 0, [0])
    assert not torch.equal(one.pool, two.pool)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.pool, two.pool) and one.loss(made, 1, [0]) == two.loss(made, 1, [0])


def test_networks_of_the_pool_differ_and_all_are_used():
    _, made, objective = build("objective.pool=3")
    assert len({tuple(row.tolist()) for row in objective.pool}) == 3
    start = objective.pool.clone()
    for step in range(15):
        objective.loss(made, step, [0])
    assert (objective.pool != start).any(1).all()
