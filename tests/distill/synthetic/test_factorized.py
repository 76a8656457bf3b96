"""Bases and hallucinators: images against plain modules, gradients in float64, pairs, budget, files, the critic."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from support import small
from support.small import plain
from torch import nn

from distill import load, recipe, synthetic
from distill.checkpoint import Checkpoint
from distill.errors import DataError, RecipeError
from distill.loop import Loop, Watcher
from distill.nets.hallucinator import WEIGHTS, draw, hallucinate
from distill.published import FILE, write
from distill.recipe import Outer, Sampling

KIND = ["synthetic={}", "synthetic.kind=factorized", "synthetic.hallucinators=3"]


def context(*overrides: str, objective: str = "distribution", **more):
    return small.context(objective, *KIND, *overrides, **more)


def built(*overrides: str, **more):
    return synthetic.build(context(*overrides, **more))


def scrambled(made):
    """The same set with random weights everywhere, so that no term is trivial."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in made.hallucinators.values():
            p.copy_(torch.randn(p.shape, generator=g))
    return made


def by_modules(made, base: int, which: int) -> torch.Tensor:
    """The image of a pair by torch's own layers, one at a time."""
    own = {name: made.hallucinators[name][which] for name in WEIGHTS}
    (m, c, *_), out = own["encoder"].shape, own["decoder"].shape[1]
    encoder, decoder = nn.Conv2d(c, m, 3), nn.ConvTranspose2d(m, out, 3)
    with torch.no_grad():
        encoder.weight.copy_(own["encoder"]), encoder.bias.copy_(own["encoder_bias"])
        decoder.weight.copy_(own["decoder"]), decoder.bias.copy_(own["decoder_bias"])
        x = made.bases[base : base + 1]
        if x.shape[2:] != made.image:
            x = nn.Upsample(made.image, mode="bilinear")(x)
        return decoder(own["scale"] * encoder(x) + own["shift"])[0]


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(
    "settings",
    [[], ["synthetic.channels=1", "synthetic.features=4"], ["synthetic.height=4", "synthetic.width=6"]],
    ids=str,
)
def test_each_pair_gives_the_image_that_plain_modules_give(settings):
    made = scrambled(built("synthetic.ipc=2", "synthetic.pairs=0", *settings))
    assert len(made) == 3 * 2 * 3
    index = torch.randperm(18, generator=torch.Generator().manual_seed(0))
    x = made.images(index, torch.Generator())
    for i, image in zip(index.tolist(), x, strict=True):
        assert torch.allclose(image, by_modules(made, i // 3, i % 3), atol=1e-4), i
    assert torch.equal(made.labels(index).argmax(1), index // 6)


def test_a_step_pairs_each_base_with_random_hallucinators_and_in_time_with_all():
    made = scrambled(built("synthetic.ipc=2", "synthetic.pairs=2"))
    everything = torch.stack([torch.stack([by_modules(made, b, k) for k in range(3)]) for b in range(6)])
    seen = set()
    for seed in range(20):
        x = made.images(torch.arange(12), torch.Generator().manual_seed(seed))
        apart = (x.view(6, 2, 1, -1) - everything.view(6, 1, 3, -1)).abs().amax(3)  # (bases, pairs, hallucinators)
        assert apart.amin(2).max() < 1e-4, "each is a pair of its base"
        which = apart.argmin(2)
        assert (which[:, 0] != which[:, 1]).all(), "two items of a base meet different ones"
        seen |= {(b, k) for b in range(6) for k in which[b].tolist()}
        assert len({tuple(w) for w in which.tolist()}) > 1, "bases draw for themselves"
    assert len(seen) == 18


def test_some_items_are_drawn_as_they_are_among_all():
    made = scrambled(built("synthetic.ipc=2"))
    x = made.images(torch.arange(6), torch.Generator().manual_seed(3))
    some = torch.tensor([5, 0, 3])
    assert torch.allclose(made.images(some, torch.Generator().manual_seed(3)), x[some], atol=1e-5)


def test_a_judged_network_sees_all_pairs_or_a_choice_of_them():
    made = scrambled(built("synthetic.ipc=2"))
    whole = made.sampled(Sampling(), torch.Generator())
    assert len(whole) == 18 and whole.labels(torch.arange(18)).argmax(1).tolist() == [
        k for k in range(3) for _ in "123456"
    ]
    for i, image in enumerate(whole.x):
        assert torch.allclose(image, by_modules(made, i // 3, i % 3), atol=1e-4)
    assert torch.equal(made.stored().images(), whole.x), "what is judged is what is published"
    some = made.sampled(Sampling(per_class=4), torch.Generator().manual_seed(0))
    same = (some.x[:, None] - whole.x[None]).abs().flatten(2).amax(2) < 1e-4
    assert len(some) == 12 and (same.sum(1) == 1).all() and same.sum(0).max() == 1, "four different pairs of each class"


def test_more_images_than_pairs_are_all_of_them_and_a_choice():
    made = scrambled(built("synthetic.ipc=1"))
    stored = made.stored()
    labels = torch.tensor([2] * 7 + [0])
    x = draw(stored.weights, stored.settings, labels, torch.Generator().manual_seed(0), 1.0)
    assert torch.equal(x[:3], x[3:6]) and torch.allclose(x[1], by_modules(made, 2, 1), atol=1e-4)
    assert min((x[6] - x[k]).abs().max() for k in range(3)) < 1e-5
    assert min((x[7] - by_modules(made, 0, k)).abs().max() for k in range(3)) < 1e-4


@pytest.mark.parametrize("name", ["bases", *WEIGHTS])
def test_gradients_are_those_of_finite_differences(name):
    g = torch.Generator().manual_seed(1)
    shapes = {"bases": (3, 2, 4, 5), "encoder": (2, 3, 2, 3, 3), "encoder_bias": (2, 3), "scale": (2, 3, 3, 4),
              "shift": (2, 3, 3, 4), "decoder": (2, 3, 1, 3, 3), "decoder_bias": (2, 1)}  # fmt: skip
    values = {k: torch.randn(*s, generator=g, dtype=torch.float64).requires_grad_() for k, s in shapes.items()}
    toward = torch.randn(4, 1, 5, 6, generator=g, dtype=torch.float64)

    def loss(changed):
        v = values | {name: changed}
        x = v["bases"].index_select(0, torch.tensor([2, 0, 2, 1]))
        return (hallucinate(v, x, torch.tensor([1, 0, 1, 1]), (5, 6)) * toward).pow(2).sum()

    assert torch.autograd.gradcheck(loss, values[name], eps=1e-6, atol=1e-5)


def test_hallucinators_start_as_pytorch_would_or_nearly_as_the_identity():
    random = built("synthetic.hallucinators=200", "synthetic.start=random")
    encoder, decoder = random.hallucinators["encoder"], random.hallucinators["decoder"]
    for weight in (encoder, decoder):  # uniform within 1 / sqrt(9 * 3), whose deviation is that over sqrt(3)
        assert weight.abs().max() <= 27**-0.5 and weight.std().item() == pytest.approx(81**-0.5, rel=0.02)
    assert (random.hallucinators["scale"] == 1).all() and (random.hallucinators["shift"] == 0).all()
    near = built("synthetic.pairs=0", "synthetic.init=noise")
    x = near.images(torch.arange(9), torch.Generator()).view(3, 3, 3, 8, 8)
    inside = (x - near.bases[:, None])[..., 1:-1, 1:-1]
    assert 0 < inside.square().mean() < 0.1 * near.bases.square().mean()
    assert x.std(1).mean() > 0.01, "they differ"


def test_bases_start_as_real_images_of_the_wanted_size_and_channels():
    c = context("synthetic.ipc=2", "synthetic.channels=1", "synthetic.height=4", "synthetic.width=4")
    made, small_ones = synthetic.build(c), F.avg_pool2d(c.data.train.x, 2).mean(1, keepdim=True)
    for i, base in enumerate(made.bases):
        found = (small_ones - base).abs().flatten(1).amax(1) < 1e-5
        assert found.any() and (c.data.train.y[found] == i // 2).all()


# ---------------------------------------------------------------- budget and settings


def test_the_budget_by_hand():
    """HaBa's hallucinator for 32 px: 84 + 2700 + 2700 + 84 = 5,568 floats (REFERENCE of the paper's code)."""
    c = context("synthetic.hallucinators=5", "synthetic.ipc=10")
    budget = synthetic.build(c).budget()
    assert budget.floats == {"bases": 3 * 10 * 3 * 8 * 8, "hallucinators": 5 * (84 + 2 * 3 * 6 * 6 + 84)}
    assert budget.total == sum(budget.floats.values()) and budget.bytes == 4 * budget.total
    small_ones = built(
        "synthetic.channels=1", "synthetic.features=2", "synthetic.height=4", "synthetic.width=3"
    ).budget()
    assert small_ones.floats == {"bases": 3 * 12, "hallucinators": 3 * (2 * 9 + 2 + 2 * 2 * 36 + 2 * 3 * 9 + 3)}


def test_hallucinators_have_a_rate_and_an_optimiser_of_their_own():
    made = built("synthetic.lr_hallucinator=0.5", "synthetic.optimizer=sgd")
    (bases, lr), (others, own) = (
        ([id(p) for p in g.params], (g.lr, g.optimizer)) for g in made.parameter_groups(Outer())
    )
    assert bases == [id(made.bases)] and lr == (100.0, "")
    assert set(others) == {id(p) for p in made.hallucinators.values()} and own == (0.5, "sgd")
    assert [(g.lr, g.optimizer) for g in built().parameter_groups(Outer(lr_img=3))] == [(3, ""), (0.01, "adam")]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("synthetic.pairs=4", "there are only hallucinators = 3"),
        ("synthetic.height=4", "height and width"),
        ("synthetic.critic_lr=0.1", "contrast"),
        ("synthetic.hallucinators=1 synthetic.contrast=1", "hallucinators = 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(override, says):
    with pytest.raises(RecipeError, match=says):
        recipe.override({"name": "x", "dataset": {"kind": "digits"}}, [*KIND, *override.split()], "x")


def test_bases_larger_than_an_image_and_too_few_real_images_are_refused():
    with pytest.raises(RecipeError, match="bases of 9x8 are larger than images of 8x8"):
        built("synthetic.height=8", "synthetic.width=9")
    with pytest.raises(DataError, match="99"):
        built("synthetic.ipc=99")


# ---------------------------------------------------------------- contrast and the critic


def test_contrast_is_how_alike_two_images_of_a_base_are():
    made = built("synthetic.contrast=0.5")
    with torch.no_grad():  # all hallucinators the same: as alike as can be
        for p in made.hallucinators.values():
            p.copy_(p[:1].expand_as(p))
    alike = made.penalty(0, torch.Generator().manual_seed(0))
    assert alike.item() == pytest.approx(0.5, abs=1e-4)
    apart = scrambled(made).penalty(0, torch.Generator().manual_seed(0))
    assert 0 < apart < 0.48
    apart.backward()
    assert made.bases.grad.abs().sum() > 0 and made.hallucinators["scale"].grad.abs().sum() > 0
    assert built().penalty(0, torch.Generator()) == 0.0, "off by default, as in the thesis"


def test_the_contrast_learns_hallucinators_that_differ():
    def variety(strength):
        made = built(f"synthetic.contrast={strength}")
        optimizer = torch.optim.Adam(made.parameters(), 0.02)
        for step in range(15):
            optimizer.zero_grad()
            loss = made.penalty(step, torch.Generator().manual_seed(step)) + 0 * made.bases.sum()
            loss.backward()
            optimizer.step()
        return made.measures(None)["variety"]

    assert variety(1.0) > 1.5 * variety(0.0)


def test_the_set_learns_against_the_critic_and_the_critic_for_itself():
    made = scrambled(built("synthetic.contrast=0.1", "synthetic.critic_lr=0.01"))
    g = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    made.penalty(0, g()).backward()
    of_set, of_critic = made.bases.grad.clone(), made.critic.grad.clone()
    two = torch.rand(3, 3, generator=g()).argsort(1)[:, :2]
    x = made.pair(torch.arange(3).repeat(2), two.T.flatten())
    one, other = made.network.features(made.critic, x).chunk(2)
    alike = 0.1 * (1 + F.cosine_similarity(one, other)).mean() / 2
    expected = torch.autograd.grad(alike, made.bases, retain_graph=True)[0]
    assert torch.allclose(of_set, expected, atol=1e-6), "the set does not learn to please the critic"
    logits = made.network(made.critic, x.detach())
    same = F.normalize(one.detach()) @ F.normalize(other.detach()).T
    assert same.shape == (3, 3)
    one, other = made.network.features(made.critic, x.detach()).chunk(2)
    own = F.cross_entropy(logits, torch.arange(3).repeat(2))
    own = own + 0.1 * F.cross_entropy(F.normalize(one) @ F.normalize(other).T / 0.07, torch.arange(3))
    assert torch.allclose(of_critic, torch.autograd.grad(own, made.critic)[0], atol=1e-5)
    groups = made.parameter_groups(Outer())
    assert groups[2].params[0] is made.critic and (groups[2].lr, groups[2].optimizer) == (0.01, "adam")
    assert "critic" in made.learned_state() and "critic" not in made.published_state()
    assert made.budget().total == built().budget().total, "it is only for learning"


def test_a_run_with_a_critic_is_published_without_it(tmp_path):
    c = context("synthetic.contrast=0.1", "synthetic.critic_lr=0.01", "outer.steps=2", "outer.evaluate_every=1")
    loop = Loop(c, Watcher())
    loop.run()
    write(loop.published(), tmp_path)
    train = load(tmp_path)
    assert not any("critic" in name for name in train.state)
    assert torch.equal(plain(synthetic.restore(c, train.state))[0], train.images)


# ---------------------------------------------------------------- published and resumed


@pytest.mark.parametrize("extra", [[], ["synthetic.contrast=0.1", "synthetic.critic_lr=0.01"]], ids=str)
def test_a_run_that_resumes_gives_the_same_bytes(extra):
    def loop():
        settings = ["outer.steps=4", "outer.checkpoint_every=2", "outer.lr_img=0.1"]
        return Loop(context(*settings, *extra, objective="trajectory"), Watcher())

    whole, saved = loop(), []
    whole.watcher.save = lambda checkpoint: saved.append(checkpoint.encode())
    whole.run()
    half = loop()
    half.resume(Checkpoint.decode(saved[0], "half"))
    half.run()
    assert half.checkpoint().encode() == whole.checkpoint().encode() == saved[-1] != saved[0]


def test_a_published_set_holds_its_budget_and_draws_its_images_without_this_project(tmp_path):
    loop = Loop(context("synthetic.ipc=4", "outer.lr_img=0.1"), Watcher())
    loop.run()
    published = loop.published()
    write(published, tmp_path)
    train = load(tmp_path)
    assert torch.equal(train.images, published.images) and len(train) == 3 * 4 * 3
    stored = sum(t.nbytes for name, t in train.stored.tensors().items())
    assert stored == loop.synthetic.budget().bytes
    alone = (
        "import sys, json, torch; sys.path.insert(0, sys.argv[1]); import sampler\n"
        "from safetensors import safe_open\n"
        "with safe_open(sys.argv[1] + '/synthetic.safetensors', 'pt') as f:\n"
        "    about = json.loads(f.metadata()['stillhouse'])['sampler']\n"
        "    weights = {k.removeprefix('sampler.'): f.get_tensor(k) for k in f.keys() if k.startswith('sampler.')}\n"
        "labels = torch.arange(about['classes']).repeat_interleave(about['per_class'])\n"
        "x = sampler.draw(weights, about['settings'], labels, torch.Generator().manual_seed(0), 1.0)\n"
        "assert 'distill' not in sys.modules\n"
        "torch.save(x, sys.argv[1] + '/x.pt')\n"
    )
    environment = {"PATH": "/usr/bin", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", alone, str(tmp_path)], check=True, env=environment, cwd=tmp_path)
    assert torch.equal(torch.load(tmp_path / "x.pt", weights_only=True), train.images)
    assert (tmp_path / FILE).stat().st_size < 4 * (loop.synthetic.budget().total + train.images.numel()) + 20000
