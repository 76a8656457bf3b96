"""StyleGAN-XL as a set: stages that keep and freeze what the one before learned, starts, budgets, truncation."""

from dataclasses import replace

import pytest
import torch
from support import small

from distill import context as contexts
from distill import load, recipe, rng, synthetic
from distill.checkpoint import Checkpoint
from distill.errors import RecipeError
from distill.loop import Loop, Watcher
from distill.nets import stylegan_xl
from distill.published import write
from distill.recipe import Sampling

XL = (
    "synthetic={}", "synthetic.kind=generator_xl", "synthetic.per_class=1", "synthetic.stem_layers=4",
    "synthetic.stage_layers=3", "synthetic.size.channel_max=3", "outer.lr_img=0.01", "outer.optimizer=adam",
)  # fmt: skip
GROWS = (
    *XL, "dataset.size=16", "synthetic.stem=8", "synthetic.gan.objective.channels=4", "synthetic.gan.outer.steps=2",
    "synthetic.gan.objective.batch_syn=20", "synthetic.gan.objective.batch_real=20", "outer.steps=2",
    "outer.evaluate_every=2", "outer.checkpoint_every=1", "synthetic.gan.outer.evaluate_every=2",
)  # fmt: skip
GAN = ("objective.channels=4", "objective.batch_syn=20", "objective.batch_real=20")


def context(*overrides, objective="distribution"):
    return small.context(objective, *overrides, digits=60)


@pytest.fixture(scope="module")
def stem():
    """The published first stage, 8 px, of a GAN that grows to 16."""
    grows = context(*GROWS, *GAN, "synthetic.start=grown", objective="adversarial")
    first = contexts.prepare(grows.recipe.before)
    assert first.data.shape == (1, 8, 8) and first.recipe.synthetic.start == "random"
    loop = Loop(first, Watcher())
    loop.run()
    loop.best.state = {name: t.clone() for name, t in loop.synthetic.learned_state().items()}  # trained for certain
    return loop.published()


@pytest.fixture
def grows(stem):
    return context(*GROWS, *GAN, "synthetic.start=grown", objective="adversarial").after(stem)


def test_a_stage_keeps_and_freezes_what_the_one_before_learned_and_trains_the_rest(grows, stem):
    whole = Loop(grows, Watcher())
    net, start = whole.synthetic.net, {n: t.clone() for n, t in whole.synthetic.learned_state().items()}
    old = stylegan_xl.loaded(stem.state, stem.stored.settings)
    assert (net.resolution, net.frozen) == (16, 2) and len(net.plan) == 6, "2 of 5 layers stay, 4 are added"
    stays = ("mapping.", "synthesis.input", "synthesis.layers.0.", "synthesis.layers.1.")
    kept = [n for n in start if n.startswith(stays)]
    assert len(kept) > 15 and all(torch.equal(start[n], old.state_dict()[n]) for n in kept)
    g = rng.generator(grows.seed, "synthetic init", 16)
    by_hand = stylegan_xl.grow(old, 16, 3, g, 10**6, 3).state_dict()
    assert all(torch.equal(t, by_hand[n]) for n, t in start.items() if not n.endswith("magnitude_ema"))

    loss = whole.objective.loss(whole.synthetic, 0, [0])
    loss.backward()
    assert all((p.grad is None) == (not p.requires_grad) for p in net.parameters())
    whole.run()
    after = whole.synthetic.learned_state()
    moved = {n for n, t in after.items() if not torch.equal(t, start[n])}
    assert moved and not moved & set(kept)
    assert {n.split(".")[2] for n in moved} == {"2", "3", "4", "5"}


def test_a_stage_that_is_resumed_has_the_same_bytes(grows):
    saved = []

    class Keep(Watcher):
        def save(self, checkpoint):
            saved.append(checkpoint.encode())

    whole, resumed = Loop(grows, Keep()), Loop(grows, Watcher())
    whole.run()
    resumed.resume(Checkpoint.decode(saved[0], "the first"))
    assert resumed.done == 1
    resumed.run()
    assert resumed.checkpoint().encode() == whole.checkpoint().encode() == saved[-1]


def test_new_layers_get_inputs_of_unit_size_and_old_ones_are_as_they_were(grows, stem):
    net, z = synthetic.build(grows).net, torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    sizes = []

    def measure(layer, given):
        sizes.append(given[0].square().mean() / layer.magnitude_ema)

    for layer in net.synthesis.layers:
        layer.register_forward_pre_hook(measure)
    with torch.no_grad():
        net(z, torch.arange(200) % 10)
    assert all(0.5 < size < 2 for size in sizes[2:])
    old = stylegan_xl.loaded(stem.state, stem.stored.settings).synthesis.layers
    assert [layer.magnitude_ema for layer in net.synthesis.layers[:2]] == [layer.magnitude_ema for layer in old[:2]]


def test_a_stage_is_published_loaded_and_distilled_from(grows, tmp_path):
    loop = Loop(grows, Watcher())
    loop.run()
    write(loop.published(), tmp_path)
    train = load(tmp_path)
    assert torch.equal(train.images, loop.synthetic.stored().images()) and train.images.shape == (10, 1, 16, 16)
    assert "track" in (tmp_path / "sampler.py").read_text()
    staged = replace(context(*GROWS, "synthetic.start=gan"), before=loop.published())
    named = context(*XL, "dataset.size=16", f"synthetic.start=file:{tmp_path}")
    for c in (staged, named):
        made = synthetic.build(c)
        x = made.stored().images()
        assert torch.equal(x, train.images) and all(p.requires_grad for p in made.net.parameters())


def test_stages_are_runs_before_runs():
    r = context(*GROWS, "synthetic.start=gan", "dataset.size=32").recipe
    chain = [r]
    while chain[-1].before:
        chain.append(chain[-1].before)
    assert [c.dataset.size for c in chain] == [32, 32, 16, 8]
    assert [c.synthetic.start for c in chain] == ["gan", "grown", "grown", "random"]
    assert [c.objective.kind for c in chain] == ["distribution", "adversarial", "adversarial", "adversarial"]
    longer = recipe.override(r.model_dump(mode="json"), ["synthetic.gan.outer.steps=9"], "longer")
    assert longer.before.lineage("d") != r.before.lineage("d"), "a longer last stage starts from another stem"
    alone = recipe.override(r.model_dump(mode="json"), ["synthetic.stem=0"], "alone").before
    assert alone.synthetic.start == "random" and alone.dataset.size == 32 and alone.before is None


@pytest.mark.parametrize(
    "settings, message",
    [
        (["synthetic.stem=0"], "synthetic.stem = 0, dataset.size = 16: for stages, set stem to 8, 16"),
        (["synthetic.stem=4"], "set stem to 8, 16"),
        (["dataset.size=8"], "dataset.size to 2, 4, 8, ... times"),
        (["dataset.size=24"], "dataset.size = 24"),
        (["dataset.size=0"], "dataset.size = 0"),
        (["synthetic.size.channel_max=0"], "set synthetic.size.channel_max"),
        (["synthetic.start=grow"], "use random, gan, grown or file:PATH"),
    ],
)
def test_stages_that_cannot_be_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        context(*GROWS, "synthetic.start=grown", *settings)


def test_a_stage_without_the_one_before_and_a_generator_of_another_kind_are_refused(tmp_path):
    with pytest.raises(RecipeError, match='start = "grown": the GAN is not trained yet'):
        synthetic.build(context(*GROWS, "synthetic.start=grown"))
    other = Loop(context("synthetic={}", "synthetic.kind=generator", "outer.steps=1", "outer.lr_img=0.01"), Watcher())
    other.run()
    write(other.published(), tmp_path)
    with pytest.raises(RecipeError, match="drawn by distill.nets.stylegan2; give a set of distill.nets.stylegan_xl"):
        synthetic.build(context(*XL, f"synthetic.start=file:{tmp_path}"))


def test_the_budget_is_all_that_is_stored_and_the_size_follows_from_it():
    made = synthetic.build(context(*XL, "synthetic.size={}", "synthetic.ipc=4"))
    counted = sum(t.numel() for t in made.stored().weights.values())
    assert made.budget().floats == {"weights": counted} and 0.9 * 2560 < counted <= 2560
    with pytest.raises(RecipeError, match=r"the smallest StyleGAN-XL of these layers has \d+: raise synthetic.ipc"):
        synthetic.check(context(*XL, "synthetic.size={}", "synthetic.ipc=0.1"))


@pytest.mark.parametrize("per_class", [0, 6])
def test_truncation_brings_images_closer_to_the_mean_of_their_class(per_class):
    made = synthetic.build(context(*XL, "synthetic.per_class=6"))

    def spread(truncation):
        own = made.sampled(Sampling(per_class=per_class, truncation=truncation), rng.generator(0, "s"))
        x = own.images(torch.arange(60), rng.generator(0, "t")).view(10, 6, -1)
        return x.std(1).mean().item(), x.mean(1)

    (none, centre), (half, _), (whole, _) = spread(0.0), spread(0.5), spread(1.0)
    assert none < 1e-5 < half < whole and made.truncation == 1.0
    own = made.net.mapping
    z = torch.randn(1000, own.z_dim, generator=torch.Generator().manual_seed(0))
    w = torch.stack([own(z, torch.full((1000,), k)).mean(0) for k in range(10)])
    assert torch.allclose(centre, made.net.synthesis(w).flatten(1), atol=1e-4)
