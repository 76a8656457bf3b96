"""The adversarial objective: each side learns from its own loss alone, moving average, alarm, features by choice."""

import logging

import pytest
import torch
import torch.nn.functional as F
from support import small

from distill import augment, objectives, recipe, rng, synthetic
from distill.errors import RecipeError
from distill.loop import Loop, Watcher
from distill.objectives import adversarial
from distill.synthetic import learned_of

GAN = ("synthetic={}", "synthetic.kind=generator", "synthetic.per_class=4", "outer.lr_img=0.01", "objective.channels=8")


def context(*overrides, **more):
    return small.context("adversarial", *GAN, *overrides, **more)


@pytest.mark.parametrize("strategies", ["[]", '["cutout"]', '["color"]'])
def test_discriminator_and_set_learn_from_their_own_losses_as_plainly_computed(strategies):
    c = context(f"objective.augment.strategies={strategies}", "objective.segments=2", dtype=torch.float64)
    made, built = synthetic.build(c).double(), objectives.build(c)
    own, theirs = learned_of(made), list(built.discriminator.parameters())
    loss = built.loss(made, 3, [0, 1])
    loss.backward()

    d, chosen, layers = built.discriminator, built.features, (0, 1)
    of_set = of_discriminator = 0
    for segment in (0, 1):
        key = (c.seed, "adversarial", 3, segment)
        rows = torch.randperm(45, generator=rng.generator(*key, "real"))[:64]
        order = torch.cat([torch.randperm(12, generator=g) for g in [rng.generator(*key, "items")] for _ in range(6)])
        x, y = made.batch(order[:64], rng.generator(*key, "draw"))
        real_x, real_y = c.data.train.x[rows], F.one_hot(c.data.train.y[rows], 3).double()
        both = augment.augment(torch.cat([x, real_x]), c.recipe.objective.augment, rng.generator(*key, "augment"))
        on_set = d(chosen.maps(both[:64], layers), y)
        on_real = d(chosen.maps(both[64:], layers), real_y)
        of_set -= sum(f.mean() for f in on_set) / 2
        of_discriminator += sum((1 - r).clamp(min=0).mean() for r in on_real) / 2
        of_discriminator += sum((1 + f).clamp(min=0).mean() for f in on_set) / 2
    assert torch.allclose(loss, (of_set + of_discriminator) / 2)
    for group, part in ((own, of_set), (theirs, of_discriminator)):
        slopes = torch.autograd.grad(part / 2, group, retain_graph=True, allow_unused=True)
        for p, slope in zip(group, slopes, strict=True):
            assert torch.allclose(p.grad, torch.zeros_like(p) if slope is None else slope, rtol=1e-7, atol=1e-10)
    assert sum(p.grad.abs().sum() > 0 for p in own) > 15


def test_items_are_spread_evenly():
    drawn = adversarial.items(12, 30, rng.generator(0, "i"))
    assert len(drawn) == 30 and set(drawn.bincount().tolist()) <= {2, 3}
    assert sorted(drawn[:12].tolist()) == list(range(12)) and drawn[:12].tolist() != list(range(12))


def test_images_come_closer_to_the_real_ones_of_their_class():
    settings = ("outer.lr_img=0.05", "objective.lr_disc=0.01", "objective.channels=16", "objective.batch_syn=6")
    c = small.context("adversarial", "synthetic.init=noise", *settings, "objective.batch_real=30")
    loop, train = Loop(c, Watcher()), c.data.train
    real = torch.stack([train.x[train.y == k].mean(0) for k in range(3)]).flatten(1)

    def apart():
        x, _ = small.plain(loop.synthetic)
        return torch.cdist(x.view(3, 2, -1).mean(1), real)

    before = apart()
    for _ in range(80):
        loop.step()
        loop.done += 1
    assert before.argmin(1).tolist() != [0, 1, 2] == apart().argmin(1).tolist()
    assert apart().diagonal().mean() < 0.8 * before.diagonal().mean()


# ---------------------------------------------------------------- the moving average


def test_the_average_is_judged_and_published_and_the_set_itself_learns_on():
    """The average of an independent loop; the decay grows from 1/10 to objective.ema."""
    settings = ("outer.steps=6", "outer.evaluate_every=6", "objective.ema=0.3")
    loop, plain = Loop(context(*settings), Watcher()), Loop(context(*settings[:2], "objective.ema=0"), Watcher())
    average = [p.detach().clone() for p in learned_of(plain.synthetic)]
    for step in range(6):
        plain.step()
        plain.done += 1
        decay = min(0.3, (1 + step) / (10 + step))
        free = learned_of(plain.synthetic)
        average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, free, strict=True)]
    loop.run()
    own = learned_of(loop.synthetic)
    assert all(torch.equal(a, b) for a, b in zip(own, free, strict=True)), "judging leaves the set as it is"
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(loop.average, average, strict=True))
    assert loop.best.step in (0, 6)
    loop.best.score = -1.0
    loop._judge()
    state = dict(zip([name for name, _ in loop.synthetic.named_parameters()], average, strict=True))
    assert all(torch.allclose(loop.best.state[name.removeprefix("net.")], t, atol=1e-7) for name, t in state.items())
    published = loop.published().stored.weights
    assert all(torch.equal(published[name], t) for name, t in loop.best.state.items())


def test_adam_has_the_rates_of_the_objective_for_both_sides():
    (adam,) = Loop(context("objective.betas=[0.5,0.9]", "objective.lr_disc=0.03"), Watcher()).optimizers.values()
    assert [(g["lr"], g["betas"]) for g in adam.param_groups] == [(0.01, (0.5, 0.9)), (0.03, (0.5, 0.9))]
    other = Loop(small.context("distribution", "outer.optimizer=adam"), Watcher()).optimizers["adam"]
    assert other.param_groups[0]["betas"] == (0.9, 0.999)


# ---------------------------------------------------------------- the alarm


def test_distances_within_classes_by_hand():
    x = torch.tensor([0.0, 3.0, 7.0, 1.0, 1.0, 9.0]).view(6, 1, 1, 1)
    apart = adversarial.distance_within_class(x, torch.tensor([0, 0, 0, 2, 2, 1]))
    assert apart == {0: torch.tensor((3 + 7 + 4) / 3), 2: torch.tensor(0.0)}


def test_images_that_are_all_alike_raise_the_alarm_once(monkeypatch, caplog):
    monkeypatch.setattr(adversarial, "FIRST", 2)
    monkeypatch.setattr(adversarial, "SMOOTH", 0.5)
    loop = Loop(small.context("adversarial", "synthetic.ipc=3", "outer.lr_img=1e-6", "objective.channels=4"), Watcher())
    shares = []
    with torch.no_grad():  # two images of each class are the same, the third is elsewhere
        x = loop.synthetic.x.view(3, 3, 3, 8, 8)
        x[:, 1], x[:, 2] = x[:, 0], x[:, 0] + 1e-4
    with caplog.at_level(logging.WARNING, "stillhouse"):
        for _ in range(8):
            shares.append(loop.step()["distance_within_class"])
            loop.done += 1
    assert shares[0] == pytest.approx(0.5, abs=1e-3) and shares[5] == pytest.approx(1 / 64, abs=1e-3)
    (said,) = [r.getMessage() for r in caplog.records if "mode collapse" in r.getMessage()]
    assert "at step 3: images of a class are 0.25 times as far apart" in said and "objective.collapse" in said


def test_sets_like_real_images_raise_none(monkeypatch, caplog):
    monkeypatch.setattr(adversarial, "FIRST", 0)
    monkeypatch.setattr(adversarial, "SMOOTH", 0.0)
    c = small.context("adversarial", "synthetic.ipc=10", "synthetic.init=real", "outer.lr_img=1e-6")
    loop = Loop(c, Watcher())
    with caplog.at_level(logging.WARNING, "stillhouse"):
        shares = []
        for _ in range(3):
            shares.append(loop.step()["distance_within_class"])
            loop.done += 1
    assert all(0.9 < share < 1.1 for share in shares) and not caplog.records


def test_one_image_per_class_has_no_distance():
    loop = Loop(small.context("adversarial", "synthetic.ipc=1", "objective.batch_syn=3"), Watcher())
    assert loop.step()["distance_within_class"] == 1


# ---------------------------------------------------------------- settings


def test_features_may_be_an_expert_which_alone_is_trained():
    c = context("objective.features=experts")
    built, made = objectives.build(c), synthetic.build(c)
    assert not c.experts.asked, "an estimate needs no expert"
    built.loss(made, 0, [0])
    assert c.experts.asked == [(0, c.experts.epochs[-1])]
    assert (c.recipe.expert_use, c.recipe.experts_needed) == ("required", 1)
    assert context().recipe.experts_needed == 0
    assert context("objective.features=experts", "experts.together=2").recipe.experts_needed == 2


def test_weights_by_path_count_by_content(tmp_path):
    path, twin = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    path.write_bytes(b"weights")
    twin.write_bytes(b"weights")
    gan = "objective.kind=adversarial"
    named = [recipe.load("digits", [gan, f"objective.features=file:{p}"]) for p in (path, twin)]
    ids = [r.run_id("data") for r in named]
    assert ids[0] == ids[1]
    twin.write_bytes(b"others")
    assert named[1].run_id("data") != ids[0]
    assert recipe.portable(named[0].model_dump(mode="json"))["objective"]["features"] == "file:a.safetensors"
    assert named[0].objective.absolute() == named[0].objective


@pytest.mark.parametrize(
    "settings, message",
    [
        (["objective.layers=[1,0]"], "ascending order"),
        (["objective.layers=[0,4]"], "this network has 1 blocks"),
        (["objective.features=inception"], "use random, experts or file:PATH"),
        (["network.norm=batch"], "network.norm=instance"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        objectives.build(context(*settings))


def test_the_loss_of_a_gan_need_not_fall():
    from distill.verdict import verdict

    r = recipe.load("digits", ["objective.kind=adversarial"])
    assert (r.outer.optimizer, r.outer.lr_img, r.objective.method) == ("adam", 0.002, "gan")
    assert verdict(r, [1.0] * 50, 50, 0.5, 10) == []
