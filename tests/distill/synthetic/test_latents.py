"""Codes of a frozen generator: what is learned, what counts, inversion, diversity, middle features."""

import pytest
import torch
from support import small

from distill import rng, synthetic
from distill.errors import RecipeError
from distill.loop import Loop, Watcher
from distill.published import write
from distill.synthetic import learned_of

LATENTS = ("synthetic={}", "synthetic.kind=latents", "synthetic.ipc=2", "synthetic.size.floats=1500")
SPACES = ("z", "w", "feature")


def context(*overrides, objective="distribution"):
    return small.context(objective, *LATENTS, *overrides)


@pytest.mark.parametrize("space", SPACES)
def test_only_codes_are_learned_stored_and_counted_the_generator_counts_apart(space):
    loop = Loop(context(f"synthetic.space={space}", "outer.steps=2", "outer.lr_img=0.1"), Watcher())
    before = {n: t.clone() for n, t in loop.synthetic.net.state_dict().items()}
    loop.run()
    made, size = loop.synthetic, loop.synthetic.net.size
    assert all(torch.equal(before[n], t) for n, t in made.net.state_dict().items())
    maps = size.maps(4)
    floats = {
        "z": {"z": 6 * size.z}, "w": {"w": 6 * size.w},
        "feature": {"x": 6 * maps * 16, "image": 6 * 3 * 16, "w": 6 * size.w},
    }[space]  # fmt: skip
    assert made.budget().floats == floats and made.budget().shared == {"frozen generator": size.floats()}
    assert made.budget().total == sum(floats.values()) == sum(p.numel() for p in learned_of(made))
    synthetic_part = {n for n in loop.checkpoint().tensors if n.startswith(("synthetic.", "best."))}
    assert synthetic_part == {f"{part}.{name}" for part in ("synthetic", "best") for name in floats}


def test_every_space_starts_from_the_same_images_which_the_generator_draws():
    images = []
    for space in SPACES:
        made = synthetic.build(context(f"synthetic.space={space}"))
        images.append(made.images(torch.arange(6), torch.Generator()))
        assert made.labels(torch.arange(6)).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    z = made.net.latents(6, rng.generator(3, "codes"))
    expected = made.net(z, torch.arange(6) // 2)
    assert all(torch.allclose(x, expected, atol=1e-5) for x in images)


@pytest.mark.parametrize("space", SPACES)
def test_inversion_moves_codes_towards_real_images(space):
    invert = ("synthetic.init=real", "synthetic.invert_lr=0.02", f"synthetic.space={space}")
    near = [
        (m.images(torch.arange(6), torch.Generator()) - m.inverted).square().mean().item()
        for m in (synthetic.build(context(*invert, f"synthetic.invert_steps={n}")) for n in (1, 60))
    ]
    assert near[1] < (0.5 if space == "feature" else 0.95) * near[0]
    made = synthetic.build(context(*invert))
    real = context().data.train
    assert all((real.x[real.y == i // 2] == x).flatten(1).all(1).any() for i, x in enumerate(made.inverted))


def test_the_diversity_penalty_is_the_distance_of_features_from_those_of_the_inverted_images():
    c = context("synthetic.init=real", "synthetic.invert_steps=2", "synthetic.diversity=3")
    made = synthetic.build(c)
    theta = c.network.init(rng.generator(9, "p"))
    own, real = (c.network.features(theta, x) for x in (made.images(torch.arange(6), None), made.inverted))
    penalty = made.penalty(0, rng.generator(9, "p"))
    assert penalty.item() == pytest.approx(3 * (own - real).square().mean().item(), rel=1e-5)
    penalty.backward()
    assert made.codes["w"].grad.abs().sum() > 0
    assert synthetic.build(context()).penalty(0, rng.generator(9, "p")) == 0
    with pytest.raises(RecipeError, match='set init = "real"'):
        context("synthetic.diversity=1")


def test_codes_of_a_published_generator_and_files_that_are_none(tmp_path):
    generator = ("synthetic={}", "synthetic.kind=generator", "outer.steps=1", "outer.lr_img=0.01")
    loop = Loop(small.context("distribution", *generator), Watcher())
    loop.run()
    write(loop.published(), tmp_path / "generator")
    made = synthetic.build(context(f"synthetic.start=file:{tmp_path}/generator"))
    weights = loop.synthetic.learned_state()
    assert all(torch.equal(weights[n], p) for n, p in made.net.named_parameters())
    assert not any(p.requires_grad for p in made.net.parameters())

    pixels = Loop(small.context("distribution", "outer.steps=1"), Watcher())
    pixels.run()
    write(pixels.published(), tmp_path / "pixels")
    with pytest.raises(RecipeError, match="it stores images, not a generator"):
        synthetic.check(context(f"synthetic.start=file:{tmp_path}/pixels"))


def test_a_block_that_the_generator_does_not_have_is_refused():
    with pytest.raises(RecipeError, match="feature = 16: this generator continues at 8"):
        synthetic.check(context("synthetic.space=feature", "synthetic.feature=16"))
    with pytest.raises(RecipeError, match='for space = "feature"'):
        context("synthetic.feature=8")
