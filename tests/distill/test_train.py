"""Training experts: rates, sharpness-aware steps, averages against hand-worked values; going on to the same bits."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support import small
from torch.func import functional_call

from distill import recipe, rng, train
from distill.errors import DeviceError, RecipeError
from distill.recipe import Experts


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def context(*overrides):
    """45 random images, so 3 steps of 20 per epoch."""
    settings = ["experts.batch=20", "experts.lr=0.1", 'experts.augment.strategies=["flip"]', *overrides]
    return small.context("trajectory", *settings)


def asking_for(**experts):
    """The same with other settings of the experts, none of which are there."""
    c = context()
    return replace(c, recipe=c.recipe.model_copy(update={"experts": c.recipe.experts.model_copy(update=experts)}))


def snapshots(c, experts=(0,)):
    """Every epoch's (s, p), from epoch 0."""
    step = train.expert_step(c)
    fresh = train.begin(c, step, experts)
    return [fresh.theta, *(t.theta for t in train.epochs(c, step, fresh))]


# ---------------------------------------------------------------- the rate


def test_rates_of_the_schedules():
    def rates(decay, epochs=4):
        o = Experts(lr=0.8, lr_decay=decay, epochs=epochs)
        return [train.rate(o, epoch) for epoch in range(1, epochs + 1)]

    assert rates("none") == [0.8] * 4
    assert rates("step") == pytest.approx([0.8, 0.8, 0.08, 0.08])
    assert rates("step", 3) == pytest.approx([0.8, 0.08, 0.08])
    assert rates("cosine") == pytest.approx([0.8, 0.4 + 0.4 / math.sqrt(2), 0.4, 0.4 - 0.4 / math.sqrt(2)])


def test_a_decayed_rate_is_that_of_the_epoch():
    """At a tenth of the rate, the first step of an epoch is a tenth of the way."""
    whole, decayed = (context(f"experts.lr_decay={kind}", "experts.batch=45") for kind in ("none", "step"))
    step = train.expert_step(whole)
    start = replace(train.begin(whole, step, (0,)), epoch=5)
    ends = [next(train.epochs(c, step, start)).theta - start.theta for c in (whole, decayed)]
    assert torch.allclose(ends[1], ends[0] / 10, atol=1e-7) and ends[0].abs().max() > 1e-3


# ---------------------------------------------------------------- plain training, against torch.optim


def test_an_expert_is_what_torch_optim_makes_of_the_same_batches():
    c = context("experts.epochs=2", "objective.max_start_epoch=1", "objective.expert_epochs=1", "experts.momentum=0.9",
                "experts.weight_decay=0.01", "experts.augment.strategies=[]")  # fmt: skip
    theta = snapshots(c)[0][0].clone().requires_grad_()
    optimizer = torch.optim.SGD([theta], 0.1, momentum=0.9, weight_decay=0.01)
    for epoch in (1, 2):
        order = torch.randperm(45, generator=rng.generator(0, "expert", 0, epoch, "order"))
        for rows in order.split(20):
            optimizer.zero_grad()
            logits = functional_call(c.network.module, c.network.layout.unflatten(theta), (c.data.train.x[rows],))
            F.cross_entropy(logits, c.data.train.y[rows]).backward()
            optimizer.step()
    assert torch.allclose(snapshots(c)[-1][0], theta, atol=1e-5)


# ---------------------------------------------------------------- flat trajectories


def test_a_sharpness_aware_step_takes_its_gradient_uphill():
    """SAM, equations 2 and 3, with autograd: climb rho along the unit gradient, use the gradient found there."""
    c, rho, lr = context("experts.sam_rho=0.5"), 0.5, 0.1
    step = train.expert_step(c)
    theta, x = c.network.init(rng.generator(0, "theta")), c.data.train.x
    y = F.one_hot(c.data.train.y, 3).float()

    def gradient(at):
        at = at.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(c.network(at, x), y), at)[0]

    g = gradient(theta)
    expected = theta - lr * gradient(theta + rho * g / g.norm())
    (after,) = step.forward((theta,), x, y, torch.tensor(lr), 0)
    assert torch.allclose(after, expected, atol=1e-6)
    assert (after - (theta - lr * g)).abs().max() > 1e-4, "plain SGD would do the same"


def test_snapshots_are_the_moving_average_over_steps():
    """One step per epoch: a_1 = 0.75 a_0 + 0.25 theta_1, and so on; the training itself is not touched."""
    plain, averaged = (snapshots(context("experts.batch=45", f"experts.ema={d}")) for d in (0, 0.75))
    expected = plain[0]
    for theta, found in zip(plain[1:], averaged[1:], strict=True):
        expected = 0.75 * expected + 0.25 * theta
        assert torch.allclose(found, expected, atol=1e-6)


# ---------------------------------------------------------------- what an expert depends on


FLAT = ["experts.momentum=0.9", "experts.sam_rho=0.05", "experts.ema=0.9", "experts.lr_decay=cosine"]


@pytest.mark.parametrize("experts", [(1,), (0, 1)])
def test_going_on_from_any_epoch_gives_the_same_bits(experts):
    c = context(*FLAT, "experts.together=2")
    step = train.expert_step(c)
    whole = list(train.epochs(c, step, train.begin(c, step, experts)))
    for at in (1, 4):
        rest = list(train.epochs(c, train.expert_step(c), whole[at - 1]))
        assert [t.epoch for t in rest] == list(range(at + 1, 7))
        assert all(torch.equal(a.theta, b.theta) for a, b in zip(rest, whole[at:], strict=True))


def test_experts_trained_together_are_those_trained_alone():
    """To rounding, and to the bit whoever the neighbour is."""
    c = context("experts.count=4", "experts.together=2")
    alone, pair, other = (snapshots(c, group)[-1] for group in ((1,), (1, 0), (1, 3)))
    assert torch.allclose(pair[0], alone[0], atol=1e-5)
    assert torch.equal(pair[0], other[0]) and not torch.equal(pair[1], other[1])


def test_neither_count_nor_workers_decide_what_an_expert_is():
    few, many = asking_for(count=2, workers=2), asking_for(count=1_000_000, workers=1)
    assert train.choose(few) == train.choose(many)
    assert few.recipe.experts_id("data") == many.recipe.experts_id("data")
    for setting in ("together=2", "bf16=on", "compile=on", "ema=0.5", "sam_rho=0.1", "lr_decay=step", "save_every=2"):
        assert context(f"experts.{setting}").recipe.experts_id("data") != few.recipe.experts_id("data"), setting
    for setting in ("state_every=3", "gpus_per_worker=0.5"):
        assert context(f"experts.{setting}").recipe.experts_id("data") == few.recipe.experts_id("data"), setting


# ---------------------------------------------------------------- what auto means


@pytest.mark.parametrize("bf16", ["auto", "off"])
def test_auto_compiles_long_training_and_takes_bf16_where_it_is_multiplied_in_hardware(monkeypatch, bf16):
    c = asking_for(epochs=100_000, bf16=bf16)
    for hardware in (True, False):
        monkeypatch.setattr(train, "multiplies_bf16", lambda device, yes=hardware: yes)
        assert train.choose(c) == train.Choices(compiled=True, bf16=hardware and bf16 == "auto")
    assert train.choose(context()) == train.Choices(compiled=False, bf16=False)


def test_choices_decide_the_step_and_not_the_engine_of_the_objective():
    c = context("objective.engine.bf16=true")
    assert not train.expert_step(c).network.bf16
    assert train.expert_step(c, train.Choices(compiled=False, bf16=True)).network.bf16


def test_a_compiled_step_without_a_compiler_names_the_fix(monkeypatch):
    monkeypatch.setattr(train, "has_compiler", lambda device: False)
    with pytest.raises(DeviceError, match="install one, or train another set with experts.compile=off"):
        train.expert_step(context(), train.Choices(compiled=True, bf16=False))


# ---------------------------------------------------------------- which epochs are kept


def test_saved_epochs_hold_the_first_the_last_and_every_so_many():
    assert Experts(epochs=5, save_every=2).saved_epochs == [0, 2, 4, 5]
    assert Experts(epochs=4, save_every=2).saved_epochs == [0, 2, 4]
    assert Experts(epochs=3, save_every=9).saved_epochs == [0, 3]


@pytest.mark.parametrize(
    "overrides", [["objective.expert_epochs=3"], ["objective.min_start_epoch=1", "objective.max_start_epoch=2"]]
)
def test_epochs_that_are_matched_must_be_saved(overrides):
    with pytest.raises(RecipeError, match="make objective.expert_epochs a multiple of experts.save_every"):
        context("experts.save_every=2", *overrides)
    context(*overrides)


def test_segments_start_where_a_snapshot_is_kept():
    from distill.objectives import build

    c = context("experts.save_every=2", "objective.max_start_epoch=4")
    c = replace(c, experts=small.MemoryExperts(c.network, 2, 6))
    c.experts.epochs = c.recipe.experts.saved_epochs
    draws = [build(c)._segment(step, 0) for step in range(40)]
    assert {start for _, start, _ in draws} == {0, 2} and {end for *_, end in draws} == {2, 4}


def test_groups_must_be_whole():
    with pytest.raises(RecipeError, match="experts.count = 3 must be a multiple of experts.together = 2"):
        recipe.override(small.BASE, ["experts.count=3", "experts.together=2"], "small")
