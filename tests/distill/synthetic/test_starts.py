"""What pixels, generators and codes start from: published sets, generators, also in pickles; other preprocessing."""

import shutil
from dataclasses import replace

import pytest
import torch
from support import small
from support.nvidia_pickles import snapshot, stylegan2, stylegan3

from distill import recipe, rng, synthetic
from distill.checkpoint import Checkpoint
from distill.data.preprocess import Preprocess, Standardize, Whitening
from distill.errors import DataError, RecipeError
from distill.generators import load_generator
from distill.loop import Loop, Watcher
from distill.nets import stylegan2 as sg2
from distill.nets.stylegan_xl import StyleGANXL, plan
from distill.published import Published, Sampler, write
from distill.synthetic import learned_of
from distill.synthetic.starts import drawn_for, seen_here

SPACES = ("z", "w", "feature")
MEAN, STD = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.25, 0.3])[:, None, None]


def ada(classes: int = 3) -> sg2.Generator:
    net = sg2.Generator(sg2.Size(8, 3, classes, 6, 4, 2, 64, 8, clamp=256.0)).initialise(rng.generator(0, "ada"))
    for name, t in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith(("noise_strength", "noise_const")):
            t.data += 0.3 * torch.rand(t.shape, generator=rng.generator(1, name))
    return net


def xl(classes: int = 3) -> StyleGANXL:
    return StyleGANXL(
        plan(8, 3, 32, 3), classes, 6, 4, 2, 5 if classes else 0, bool(classes), generator=rng.generator(0, "xl")
    )


PICKLES = {
    "StyleGAN2-ADA": (ada, stylegan2, "generator"),
    "unconditional StyleGAN2-ADA": (lambda: ada(0), stylegan2, "generator"),
    "StyleGAN3-T": (lambda: xl(0), stylegan3, "generator_xl"),
    "StyleGAN-XL": (xl, stylegan3, "generator_xl"),
}


def context(kind: str, path, *overrides, preprocess: Preprocess | None = None, shape=(3, 8, 8)):
    start = ("synthetic={}", f"synthetic.kind={kind}", f"synthetic.start=file:{path}", *overrides)
    c = small.context("distribution", *start)
    data = small.random_data(shape=shape)
    return replace(c, data=replace(data, preprocess=preprocess or Standardize(MEAN, STD)))


@pytest.fixture
def pickled(tmp_path):
    def write_it(name: str):
        make, theirs, kind = PICKLES[name]
        (tmp_path / "g.pkl").write_bytes(snapshot(theirs(make().requires_grad_(False)), tmp_path / "canary"))
        return tmp_path / "g.pkl", kind

    yield write_it
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", PICKLES)
def test_codes_of_a_generator_in_a_pickle_render_its_images_as_the_networks_see_them(name, space, pickled):
    path, _ = pickled(name)
    c = context("latents", path, "synthetic.ipc=2", f"synthetic.space={space}")
    made = synthetic.build(c)
    generator = load_generator(path)
    z, labels = made.frozen.latents(6, rng.generator(3, "codes")), torch.arange(6) // 2
    pixels = (generator(z, labels if generator.classes else None) + 1) / 2
    assert torch.allclose(made.images(torch.arange(6), None), (pixels - MEAN) / STD, atol=1e-4)
    codes = {"z": {"z"}, "w": {"w"}}.get(space) or {"x", "w"} | ({"image"} if "GAN2" in name else set())
    assert made.budget().floats.keys() == codes and made.budget().total == sum(p.numel() for p in learned_of(made))
    assert not any(p.requires_grad for p in made.net.parameters())
    assert made.budget().shared["frozen generator"] == sum(p.numel() for p in generator.parameters())


@pytest.mark.parametrize("name", ["unconditional StyleGAN2-ADA", "StyleGAN-XL"])
def test_codes_of_a_generator_in_a_pickle_are_inverted_distilled_and_resumed_to_the_bit(name, pickled):
    path, _ = pickled(name)
    settings = ("synthetic.init=real", "synthetic.invert_steps=5", "synthetic.diversity=0.1", "outer.steps=4",
                "outer.lr_img=0.1", "outer.checkpoint_every=2")  # fmt: skip
    whole, halves = Loop(context("latents", path, *settings), Watcher()), []

    class Halves(Watcher):
        def save(self, checkpoint):
            halves.append(checkpoint.encode())

    loop = Loop(context("latents", path, *settings), Halves())
    whole.run(), loop.run()
    again = Loop(context("latents", path, *settings), Watcher())
    again.resume(Checkpoint.decode(halves[0], "a half"))
    again.run()
    before = synthetic.build(context("latents", path, *settings)).learned_state()
    for code, value in whole.synthetic.learned_state().items():
        assert torch.equal(value, again.synthetic.learned_state()[code]) and not torch.equal(value, before[code])


@pytest.mark.parametrize("name", ["StyleGAN2-ADA", "StyleGAN-XL"])
def test_a_generator_starts_from_a_pickle_and_is_published_with_the_preprocessing_of_the_recipe(name, pickled):
    path, kind = pickled(name)
    c = context(kind, path, "outer.steps=1", "outer.lr_img=0.01")
    loop = Loop(c, Watcher())
    theirs = load_generator(path).sampler()
    labels, g = torch.tensor([0, 1, 2, 2]), torch.Generator()
    pixels = theirs.fresh(labels, g.manual_seed(5))
    drawn = loop.synthetic.stored().fresh(labels, g.manual_seed(5))
    assert torch.allclose(drawn, (pixels - MEAN) / STD, atol=1e-4)
    loop.run()
    assert (
        loop.published().preprocess is c.data.preprocess
        and loop.published().stored.settings["clamp" if kind == "generator" else "z_dim"]
    )


def test_a_generator_of_other_statistics_is_scaled_and_whitening_is_refused_with_the_fix(pickled):
    path, kind = pickled("StyleGAN2-ADA")
    whitening = Whitening(torch.zeros(192), torch.eye(192))
    with pytest.raises(RecipeError, match="'none', those of the recipe 'zca'.*set dataset.preprocess=standardize"):
        synthetic.check(context(kind, path, preprocess=whitening))
    synthetic.check(context("latents", path, preprocess=whitening))
    stored = load_generator(path).sampler()
    other = Published(stored, tuple("abc"), Standardize(MEAN / 2, STD * 3), None, {}, 0, {})
    moved = drawn_for(other, context(kind, path))
    x, y = (s.fresh(torch.tensor([0, 1]), torch.Generator().manual_seed(1)) for s in (stored, moved))
    assert torch.allclose(y, (x * STD * 3 + MEAN / 2 - MEAN) / STD, atol=1e-4)
    same = Published(stored, tuple("abc"), Standardize(MEAN.clone(), STD.clone()), None, {}, 0, {})
    assert drawn_for(same, context(kind, path)) is stored
    assert torch.allclose(seen_here(x, other.preprocess, same.preprocess), y, atol=1e-4)
    assert seen_here(x, None, other.preprocess) is x and torch.equal(
        seen_here(x, Preprocess(), same.preprocess), (x - MEAN) / STD
    )


def test_pickles_that_do_not_fit_are_refused_with_the_fix(pickled):
    path, kind = pickled("StyleGAN-XL")
    with pytest.raises(RecipeError, match=r"images \(3, 8, 8\), but the data have 3 and \(3, 16, 16\).*dataset.size=8"):
        synthetic.check(context(kind, path, shape=(3, 16, 16)))
    with pytest.raises(RecipeError, match="drawn by distill.nets.stylegan_xl; give a set of distill.nets.stylegan2"):
        synthetic.check(context("generator", path))
    with pytest.raises(RecipeError, match="feature = 4: this generator has layers 1 to 3 to continue at"):
        synthetic.check(context("latents", path, "synthetic.space=feature", "synthetic.feature=4"))
    path, kind = pickled("unconditional StyleGAN2-ADA")
    with pytest.raises(RecipeError, match="a set of 1 classes"):
        synthetic.check(context(kind, path))
    with pytest.raises(RecipeError, match="set dataset.size=8"):
        synthetic.check(context("latents", path, shape=(3, 16, 16)))


@pytest.mark.parametrize("space", SPACES)
def test_codes_of_a_stylegan_xl_that_stillhouse_published(space, tmp_path):
    xl_ = ("synthetic={}", "synthetic.kind=generator_xl", "synthetic.size.channel_max=4", "synthetic.stem_layers=3")
    loop = Loop(small.context("distribution", *xl_, "outer.steps=1", "outer.lr_img=0.01"), Watcher())
    loop.run()
    write(loop.published(), tmp_path)
    here = Preprocess()
    c = context(
        "latents", tmp_path, "synthetic.ipc=2", f"synthetic.space={space}", "synthetic.feature=0", preprocess=here
    )
    made = synthetic.build(c)
    z, labels = made.frozen.latents(6, rng.generator(3, "codes")), torch.arange(6) // 2
    assert torch.allclose(made.images(torch.arange(6), None), loop.synthetic.rendered(z, labels), atol=1e-4)
    where = {"feature": "feature maps before layer 2 of 4"}.get(space, space)
    assert made.describe() == f"6 codes ({where}) of a frozen StyleGAN-XL"
    own = [made.images(torch.arange(6), None)]
    with torch.no_grad():
        made.codes["x" if space == "feature" else space] += 0.1
    assert not torch.allclose(own[0], made.images(torch.arange(6), None), atol=1e-3)


def test_codes_of_a_gan_that_is_trained_first(tmp_path):
    staged = ("synthetic={}", "synthetic.kind=latents", "synthetic.start=gan", "synthetic.size.floats=1500",
              "synthetic.gan.objective.channels=4", "synthetic.gan.outer.steps=2", "outer.steps=1",
              "outer.lr_img=0.1")  # fmt: skip
    c = small.context("distribution", *staged)
    before = c.recipe.before
    assert (before.synthetic.kind, before.objective.kind, before.outer.steps) == ("generator", "adversarial", 2)
    with pytest.raises(RecipeError, match="the GAN is not trained yet"):
        synthetic.build(c)
    synthetic.check(c)
    gan = Loop(replace(c, recipe=before), Watcher())
    gan.run()
    trained = gan.published()
    assert isinstance(trained.stored, Sampler)
    weights = {name: t + 0.1 for name, t in trained.stored.weights.items()}  # two steps may be no better than none
    c_after = c.after(replace(trained, stored=replace(trained.stored, weights=weights)))
    made = synthetic.build(c_after)
    assert all(torch.equal(weights[name], p) for name, p in made.net.named_parameters())
    loop = Loop(c_after, Watcher())
    loop.run()
    published = loop.published()
    assert published.images.shape == (3, 3, 8, 8)
    again = synthetic.restore(c, published.state)
    assert torch.equal(again.stored().images(), published.images), "judged again where the GAN is not at hand"
    assert "gan" not in small.context("distribution", *staged[:2]).recipe.synthetic.decisive()


def pixels(folder, preprocess: Preprocess, *overrides):
    """A context for pixels that start from the set in `folder`."""
    c = small.context("distribution", f"synthetic.init=file:{folder}", *overrides)
    return replace(c, data=replace(c.data, preprocess=preprocess))


def set_of(folder, y: list[int], preprocess: Preprocess):
    """A set of random images of these classes with soft labels, in a folder; its images."""
    x = torch.randn(len(y), 3, 8, 8, generator=rng.generator(0, "set"))
    soft = torch.nn.functional.one_hot(torch.tensor(y), 3) * 0.4 + 0.2
    write(small.published(x, soft, torch.rand(x.shape), "abc", None, {}, 0, {}, preprocess=preprocess), folder)
    return x


def test_pixels_start_from_the_images_of_a_published_set_in_the_order_of_classes(tmp_path):
    x = set_of(tmp_path, [2, 0, 1, 0, 2, 1, 1], theirs := Standardize(MEAN, STD))
    made = synthetic.build(pixels(tmp_path, Standardize(MEAN.clone(), STD.clone())))
    assert torch.equal(made.x, x[[1, 3, 2, 5, 0, 4]]) and made.y.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    assert made.y.max() == 1, "labels are the recipe's, not the set's"
    other = synthetic.build(pixels(tmp_path, ours := Standardize(MEAN / 2, STD * 2)))
    assert torch.allclose(ours.inverse(other.x), theirs.inverse(made.x), atol=1e-5)
    assert torch.equal(synthetic.build(pixels(tmp_path, theirs, "synthetic.ipc=1")).x, x[[1, 2, 0]])


def test_pixels_of_many_parts_start_from_as_many_images(tmp_path):
    x = set_of(tmp_path, [0, 1, 2] * 4, theirs := Standardize(MEAN, STD))
    made = synthetic.build(pixels(tmp_path, theirs, "synthetic.ipc=1", "synthetic.factor=2"))
    a, b, c, d = torch.nn.functional.avg_pool2d(x[[0, 3, 6, 9]], 2)
    assert torch.allclose(made.x[0], torch.cat([torch.cat([a, b], 2), torch.cat([c, d], 2)], 1), atol=1e-6)
    with pytest.raises(
        RecipeError, match="class 'class 0' 8 images are needed, but the set has 4: set synthetic.ipc=1"
    ):
        synthetic.check(pixels(tmp_path, theirs, "synthetic.factor=2"))


def test_a_set_that_does_not_fit_pixels_is_refused_with_the_fix(tmp_path):
    set_of(tmp_path / "few", [0, 0, 1, 2, 2], here := Standardize(MEAN, STD))
    with pytest.raises(
        RecipeError, match="of class 'class 1' 2 images are needed, but the set has 1: set synthetic.ipc=1"
    ):
        synthetic.check(pixels(tmp_path / "few", here))
    set_of(tmp_path / "none", [0, 0, 2], here)
    with pytest.raises(RecipeError, match="'class 1' 2 images are needed, but the set has 0: give a larger set"):
        synthetic.check(pixels(tmp_path / "none", here))
    c = pixels(tmp_path / "few", here)
    larger = replace(c, data=replace(small.random_data(shape=(3, 16, 16)), preprocess=here))
    with pytest.raises(RecipeError, match="synthetic.init: a set of 3 classes and images.*dataset.size=8"):
        synthetic.check(larger)
    with pytest.raises(DataError, match="away"):
        synthetic.check(pixels(tmp_path / "away", here))


def test_the_run_of_pixels_is_named_by_what_the_set_holds_not_by_where_it_is(tmp_path):
    set_of(tmp_path / "a", [0, 1, 2] * 2, here := Standardize(MEAN, STD))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = (pixels(tmp_path / name, here).recipe.synthetic for name in "ab")
    assert a.decisive() == b.decisive() and str(tmp_path) not in str(a.decisive())
    set_of(tmp_path / "b", [0, 1, 2] * 3, here)
    assert a.decisive() != b.decisive()
    assert a.expert_use == "none" and recipe.Pixels(init="herding").expert_use == "preferred"


def test_pixels_are_judged_again_where_the_set_they_started_from_is_not_at_hand(tmp_path):
    set_of(tmp_path / "a", [0, 1, 2] * 2, here := Standardize(MEAN, STD))
    c = pixels(tmp_path / "a", here)
    made = synthetic.build(c)
    shutil.rmtree(tmp_path / "a")
    assert torch.equal(synthetic.restore(c, made.learned_state()).x, made.x)


def test_pixels_start_from_what_a_generator_draws(pickled):
    path, _ = pickled("StyleGAN2-ADA")
    drawn = load_generator(path).published()
    made = synthetic.build(pixels(path, Standardize(MEAN, STD)))
    rows = [row for c in range(3) for row in (drawn.labels.argmax(1) == c).nonzero().flatten().tolist()[:2]]
    assert torch.allclose(made.x, (drawn.images[rows] - MEAN) / STD, atol=1e-4)
