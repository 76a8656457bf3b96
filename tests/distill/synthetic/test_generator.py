"""Learned generators: fresh balanced images, gradients by the plain way, nothing kept, budgets, starts, samples."""

import inspect
import json
import subprocess
import sys
import weakref

import pytest
import torch
from support import small
from support.plain_unroll import PlainUnroll
from torch.utils._python_dispatch import TorchDispatchMode

from distill import load, recipe, rng, synthetic
from distill.engine.batches import Batches
from distill.engine.inner import SGD, InnerStep
from distill.engine.unroll import Unroll
from distill.errors import DataError, RecipeError
from distill.loop import Loop, Watcher
from distill.nets import stylegan2
from distill.published import FILE, write
from distill.recipe import Sampling
from distill.synthetic import learned_of

GENERATOR = ("synthetic={}", "synthetic.kind=generator", "synthetic.per_class=3", "outer.lr_img=0.01")


def context(*overrides, objective="distribution"):
    return small.context(objective, *GENERATOR, *overrides)


def test_every_batch_is_fresh_balanced_and_repeated_by_its_generator():
    made = synthetic.build(context())
    index, g = torch.arange(len(made)), rng.generator(0, "a")
    x, again, other = (made.images(index, rng.generator(0, name)) for name in "aab")
    assert torch.equal(x, again) and not torch.isclose(x, other).all(0).any()
    assert made.labels(index).sum(0).tolist() == [3, 3, 3] and len(made) == 9
    z = torch.randn(9, made.net.size.z, generator=g)
    noise = [torch.randn(9, 1, s, s, generator=g) for s in (4, 8, 8)]
    assert torch.equal(x, made.net(z, torch.arange(9) // 3, noise))


def test_gradients_of_the_weights_through_inner_training_are_those_of_the_plain_way():
    c = context("synthetic.size.channel_max=3")
    made = synthetic.build(c).double()
    network, theta = c.network, c.network.init(rng.generator(0, "theta")).double()
    batches = Batches(made, 4, recipe.Augment(strategies=()), 0, ("student",))
    lr, leaves = torch.tensor(0.1, dtype=torch.float64), learned_of(made)
    slopes = []
    for unroll in (Unroll(InnerStep(network, SGD())), PlainUnroll(network, SGD())):
        after = unroll(theta, lr, batches, 5, leaves)
        slopes.append(torch.autograd.grad(after.square().sum(), leaves, allow_unused=True))
    for a, b in zip(*slopes, strict=True):
        assert torch.allclose(a, torch.zeros_like(a) if b is None else b, rtol=1e-8, atol=1e-10)
    assert sum(a.abs().sum() > 0 for a in slopes[0]) > 20


class LiveImages(TorchDispatchMode):
    """The largest number of tensors of a shape that live at once."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.live, self.most = shape, weakref.WeakSet(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, torch.Tensor) and t.shape[1:] == self.shape:
                self.live.add(t.untyped_storage())
        self.most = max(self.most, len(self.live))
        return out


@pytest.mark.parametrize("objective, length", [("trajectory", "syn_steps"), ("unrolled", "window")])
def test_no_image_is_kept_however_long_training_is(objective, length):
    kept = []
    for steps in (4, 16):
        more = (f"objective.{length}={steps}", *(["objective.unroll=16"] if length == "window" else []))
        loop = Loop(context(*more, "objective.batch_syn=0", objective=objective), Watcher())
        with LiveImages(torch.Size(loop.context.data.shape)) as images:
            loop.step()
        kept.append(images.most)
    assert kept[0] == kept[1] < 40


def test_the_budget_is_the_weights_and_the_size_follows_from_it():
    made = synthetic.build(context("synthetic.ipc=8"))
    floats = 8 * 3 * 3 * 8 * 8
    counted = sum(t.numel() for t in made.stored().weights.values())
    assert made.budget().floats == {"weights": counted} and 0.9 * floats < counted <= floats
    assert counted == stylegan2.fit(floats, 8, 3, 3).floats()
    given = synthetic.blank(context("synthetic.size.channel_max=5", "synthetic.size.w=7"))
    assert (given.net.size.most, given.net.size.w, given.net.size.z) == (5, 7, 7)
    assert synthetic.blank(context("synthetic.size.floats=900")).budget().total <= 900
    with pytest.raises(RecipeError, match=r"the smallest generator has 1\d\d: raise synthetic.ipc"):
        synthetic.check(context("synthetic.ipc=0.1"))


def test_weights_learn_with_adam_beside_the_learned_rate_and_a_resumed_run_has_the_same_bytes():
    c = context("outer.steps=4", "outer.evaluate_every=2", objective="trajectory")
    whole = Loop(c, Watcher())
    assert set(whole.optimizers) == {"adam", "sgd"}
    assert {id(p) for g in whole.optimizers["adam"].param_groups for p in g["params"]} == {
        id(p) for p in whole.synthetic.net.parameters()
    }
    saved = []

    class Keep(Watcher):
        def save(self, checkpoint):
            saved.append(checkpoint)

    shorter = Loop(context("outer.steps=2", "outer.evaluate_every=2", objective="trajectory"), Keep())
    shorter.run()
    whole.run()
    resumed = Loop(c, Watcher())
    resumed.resume(saved[-1])
    resumed.run()
    assert resumed.checkpoint().encode() == whole.checkpoint().encode()
    assert "synthetic.mapping.w_avg" not in whole.checkpoint().tensors


# ---------------------------------------------------------------- sampling


def test_networks_may_train_on_images_drawn_once_with_truncation():
    made = synthetic.build(context())
    fixed = made.sampled(Sampling(per_class=5), rng.generator(0, "s"))
    assert len(fixed) == 15 and fixed.labels(torch.arange(15)).argmax(1).tolist() == [
        k for k in range(3) for _ in "abcde"
    ]
    assert torch.equal(fixed.x, made.sampled(Sampling(per_class=5), rng.generator(0, "s")).x)
    assert not torch.equal(fixed.x, made.sampled(Sampling(per_class=5), rng.generator(0, "t")).x)
    assert made.sampled(Sampling(), rng.generator(0, "s")) is made


@pytest.mark.parametrize("per_class", [0, 6])
def test_truncation_brings_images_closer_whether_drawn_once_or_for_each_batch(per_class):
    made = synthetic.build(context("synthetic.per_class=6", "synthetic.size.lr_multiplier=1"))

    def spread(truncation):
        own = made.sampled(Sampling(per_class=per_class, truncation=truncation), rng.generator(0, "s"))
        x = own.images(torch.arange(18), rng.generator(0, "t")).view(3, 6, -1)
        return x.std(1).mean().item(), x.mean(1)

    (none, centre), (half, _), (whole, _) = spread(0.0), spread(0.5), spread(1.0)
    assert none < 1e-5 < half < whole
    w = torch.stack([made.net.mean_w()[k] for k in range(3)])
    assert torch.allclose(centre, made.net.synthesis(w)[1].flatten(1), atol=1e-4)
    assert made.truncation == 1.0 and made.net.mapping.w_avg.ndim == 1, "the set itself is as before"


# ---------------------------------------------------------------- starts


def test_fitting_to_real_images_draws_images_near_them_and_apart_from_each_other():
    start = ("synthetic.ipc=8", "synthetic.per_class=12", "synthetic.fit_lr=0.02")
    fitted = synthetic.build(context(*start, "synthetic.start=real", "synthetic.fit_steps=120"))
    raw, real = synthetic.build(context(*start)), context().data.train

    def distances(made):
        x = made.images(torch.arange(36), rng.generator(0, "x")).flatten(1)
        near = [
            torch.cdist(real.x[real.y == k].flatten(1), x[12 * k : 12 * k + 12]).min(1).values.mean() for k in range(3)
        ]
        return torch.stack(near).mean().item()

    assert distances(fitted) < 0.7 * distances(raw)


@pytest.fixture
def published(tmp_path):
    """The folder of a published generator, and its loop."""
    loop = Loop(context("synthetic.ipc=4", "outer.steps=1"), Watcher())
    loop.run()
    write(loop.published(), tmp_path / "published")
    return tmp_path / "published", loop


def test_a_generator_starts_from_a_published_one_of_any_size(published):
    folder, loop = published
    again = synthetic.build(context(f"synthetic.start=file:{folder}", "synthetic.ipc=1"))
    assert again.budget().total == loop.synthetic.budget().total
    index = torch.arange(9)
    x, expected = (s.images(index, rng.generator(0, "x")) for s in (again, loop.synthetic))
    assert torch.equal(x, expected) and all(p.requires_grad for p in again.net.parameters())


STAGED = ("synthetic.gan.objective.channels=4", "synthetic.gan.outer.steps=4", "synthetic.gan.outer.evaluate_every=2")


def test_a_gan_first_is_the_same_as_the_two_runs_by_hand(tmp_path):
    staged = context("synthetic.start=gan", *STAGED, "outer.steps=2")
    with pytest.raises(RecipeError, match="the GAN is not trained yet"):
        synthetic.build(staged)
    outer = {"steps": 4, "optimizer": "adam", "lr_img": 0.002, "evaluate_every": 2, "picture_every": 200}
    by_hand = ("objective.channels=4", *(f"outer.{name}={value}" for name, value in outer.items()))
    first = Loop(context(*by_hand, objective="adversarial"), Watcher())
    assert staged.recipe.before.decisive() == first.context.recipe.decisive()
    first.run()
    write(first.published(), tmp_path)
    loops = [Loop(staged.after(first.published()), Watcher())]
    loops.append(Loop(context(f"synthetic.start=file:{tmp_path}", "outer.steps=2"), Watcher()))
    for loop in loops:
        start = loop.synthetic.learned_state()
        assert all(torch.equal(start[name], t) for name, t in first.published().state.items())
        loop.run()
    a, b = (loop.published().state for loop in loops)
    assert a.keys() == b.keys() and all(torch.equal(a[name], t) for name, t in b.items())
    assert first.best.step > 0, "else the start would not be of the GAN"


def test_the_run_before_is_named_by_what_the_gan_depends_on():
    start = ["synthetic={}", "synthetic.kind=generator", "synthetic.start=gan", "objective.kind=distribution"]
    plain = recipe.load("digits", start)
    before = plain.before
    assert (before.synthetic.start, before.objective.kind, before.outer.optimizer) == ("random", "adversarial", "adam")
    assert before.before is None and recipe.load("digits").before is None
    by_hand = recipe.load("gan-digits", ["name=gan"])
    assert recipe.load("gendm-digits").before.run_id("d") == by_hand.run_id("d")
    same = recipe.load("digits", [*start, "name=other", "outer.steps=7", "objective.batch_real=9"])
    assert same.before.run_id("d") == before.run_id("d") and same.run_id("d") != plain.run_id("d")
    for change in ("synthetic.gan.objective.channels=8", "synthetic.gan.outer.lr_img=0.1", "synthetic.ipc=9", "seed=5"):
        other = recipe.load("digits", [*start, change])
        assert other.before.run_id("d") != before.run_id("d") and other.run_id("d") != plain.run_id("d"), change
    shared = recipe.load("digits", [*start, "synthetic.gan.outer.workers=2", "synthetic.gan.objective.segments=2"])
    alone = recipe.load("digits", [*start, "synthetic.gan.objective.segments=2"])
    assert shared.run_id("d") == alone.run_id("d")
    weights = recipe.load("digits", [*start, "synthetic.gan.objective.features=file:w.safetensors"])
    assert weights.synthetic.absolute().gan.objective.file.is_absolute()
    cut = plain.after(50)
    assert cut.before.outer.steps == 50 and cut.run_id("d") != plain.run_id("d")
    assert "gan" not in recipe.Generator().decisive(), "names of runs without one stay as they were"
    with pytest.raises(RecipeError, match="multiple of outer.workers"):
        recipe.load("digits", [*start, "synthetic.gan.outer.workers=2"])


def test_a_gan_has_images_per_pass_of_its_own():
    start = ["synthetic={}", "synthetic.kind=generator", "synthetic.start=gan", "synthetic.per_class=3"]
    own, same = (recipe.load("digits", [*start, *more]) for more in (["synthetic.gan.per_class=7"], []))
    assert (own.synthetic.per_class, own.before.synthetic.per_class, same.before.synthetic.per_class) == (3, 7, 3)
    as_many = recipe.load("digits", [*start[:-1], "synthetic.per_class=7"])
    assert own.before.run_id("d") == as_many.before.run_id("d"), "one GAN, whatever starts from it"
    assert len({r.run_id("d") for r in (own, same, as_many)}) == 3
    assert "per_class" not in same.synthetic.decisive()["gan"], "names of runs without it stay as they were"
    codes = recipe.load("digits", ["synthetic={}", "synthetic.kind=latents", *start[2:3], "synthetic.gan.per_class=7"])
    assert codes.before.run_id("d") == own.before.run_id("d")


def test_a_generator_starts_fitted_to_the_images_of_a_published_set(tmp_path):
    loop = Loop(small.context("distribution", "outer.steps=1"), Watcher())
    loop.run()
    write(loop.published(), tmp_path)
    start = (f"synthetic.start=file:{tmp_path}", "synthetic.fit_steps=60", "synthetic.fit_lr=0.02", "synthetic.ipc=4")
    made, target = synthetic.build(context(*start)), loop.published().images
    raw = synthetic.build(context("synthetic.ipc=4"))
    near = [
        torch.cdist(target.flatten(1), s.images(torch.arange(9), rng.generator(0, "x")).flatten(1)).min(1).values.mean()
        for s in (made, raw)
    ]
    assert near[0] < 0.8 * near[1]


def test_starts_that_do_not_fit_are_refused_with_the_reason(published, tmp_path):
    folder, _ = published
    with pytest.raises(DataError, match="no distilled set at"):
        synthetic.check(context(f"synthetic.start=file:{tmp_path}/none"))
    with pytest.raises(RecipeError, match=r"a set of 3 classes and images \(3, 8, 8\), but the data have 10 and"):
        synthetic.check(small.context("distribution", *GENERATOR, f"synthetic.start=file:{folder}", digits=120))
    with pytest.raises(RecipeError, match="start"):
        context("synthetic.start=fake")


def test_the_run_depends_on_the_content_of_the_start_not_on_its_path(published, tmp_path):
    folder, _ = published
    by_folder, by_file = (recipe.Generator(start=f"file:{p}").decisive() for p in (folder, folder / FILE))
    assert by_folder == by_file and str(folder) not in json.dumps(by_folder)
    assert by_folder != recipe.Generator(start=f"file:{tmp_path}/none").decisive()


# ---------------------------------------------------------------- published

WITHOUT_STILLHOUSE = """
import importlib.util, json, sys, torch
from safetensors import safe_open
spec = importlib.util.spec_from_file_location("sampler", "sampler.py")
code = importlib.util.module_from_spec(spec)
sys.modules["sampler"] = code
spec.loader.exec_module(code)
with safe_open("synthetic.safetensors", "pt") as f:
    about = json.loads(f.metadata()["stillhouse"])["sampler"]
    weights = {k.removeprefix("sampler."): f.get_tensor(k) for k in f.keys() if k.startswith("sampler.")}
labels = torch.arange(about["classes"]).repeat_interleave(about["per_class"])
x = code.draw(weights, about["settings"], labels, torch.Generator().manual_seed(0), 1.0)
t = code.draw(weights, about["settings"], labels, torch.Generator().manual_seed(0), 0.5)
assert not any(name.split(".")[0] in ("distill", "cluster", "tune") for name in sys.modules)
torch.save([x, t], "x.pt")
"""


def test_a_process_without_stillhouse_draws_the_same_bits(published):
    folder, loop = published
    env = {"PATH": "/usr/bin", "OMP_NUM_THREADS": str(torch.get_num_threads())}  # how sums are divided
    subprocess.run([sys.executable, "-c", WITHOUT_STILLHOUSE], cwd=folder, check=True, env=env)
    x, truncated = torch.load(folder / "x.pt", weights_only=True)
    train = load(folder)
    assert torch.equal(x, train.images) and torch.equal(x, loop.synthetic.stored().images())
    assert torch.equal(truncated, train.draw(3, seed=0, truncation=0.5)[0])
    assert inspect.getsource(stylegan2) == (folder / "sampler.py").read_text()


def test_hostile_settings_in_a_file_are_refused_before_anything_is_made(published, tmp_path):
    import safetensors.torch

    folder, _ = published
    raw = (folder / FILE).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["stillhouse"]
    tensors = safetensors.torch.load(raw)
    for change, says in (
        ({"settings": {"resolution": 2**30}}, "resolution"),
        ({"settings": {"w": 10**9}}, "w of its generator"),
        ({"settings": {"image": [8, "8"]}}, "not within"),
        ({"classes": 5}, "of 3 classes, the set of 5"),
        ({"per_class": 10**9}, "more than"),
        ({"module": "distill.nets.convnet"}, "drawn by"),
    ):
        about = json.loads(header)
        settings = about["sampler"]["settings"] | change.get("settings", {})
        about["sampler"] |= {**change, "settings": settings}
        path = tmp_path / FILE
        path.write_bytes(safetensors.torch.save(tensors, {"stillhouse": json.dumps(about)}))
        with pytest.raises(DataError, match=says):
            load(path)
    lacking = {name: t for name, t in tensors.items() if name != "sampler.synthesis.b4.const"}
    about = {**json.loads(header), "same": {}}
    (tmp_path / FILE).write_bytes(safetensors.torch.save(lacking, {"stillhouse": json.dumps(about)}))
    with pytest.raises(DataError, match="lacks synthesis.b4.const"):
        load(tmp_path / FILE)
