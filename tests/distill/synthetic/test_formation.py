"""Pixels that store less: several images in one, 8 bits, and labels that start from experts. By hand, to the bit."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from support import small
from support.small import plain

from distill import load, rng, synthetic
from distill.checkpoint import Checkpoint
from distill.errors import DataError, RecipeError
from distill.levels import from_levels
from distill.loop import Loop, Watcher
from distill.published import FILE, Images, Windows, write
from distill.recipe import Labels, Outer, override
from distill.synthetic.pixels import Pixels, parts, put_together

LEARNED = 'synthetic.labels={mode="learned", init="expert", lr=0.5}'


def built(*overrides: str):
    return synthetic.build(small.context("distribution", *overrides))


# ---------------------------------------------------------------- several images in one


def test_a_stored_image_is_split_and_each_part_enlarged_bilinearly():
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    made = Pixels(x, torch.eye(2).repeat_interleave(8, 0), Labels(), factor=2)
    images = made.images(torch.arange(16), torch.Generator())
    for i in range(4):
        for k, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
            part = x[i : i + 1, :, top : top + 4, left : left + 4]
            expected = F.interpolate(part, scale_factor=2, mode="bilinear", align_corners=False)[0]
            assert torch.allclose(images[4 * i + k], expected, atol=1e-6), (i, k)


def test_bilinear_enlargement_by_hand():
    made = Pixels(torch.tensor([[[[0.0, 4.0, 7.0, 7.0]] * 4]]), torch.ones(4, 1), Labels(), factor=2)
    first = made.images(torch.tensor([0]), torch.Generator())[0, 0]
    assert torch.equal(first, torch.tensor([[0.0, 1.0, 3.0, 4.0]] * 4)), "pixel centres at 1/4 and 3/4"


def test_each_item_has_the_label_of_its_image_and_real_starts_fill_all_parts():
    context = small.context("distribution", "synthetic.factor=2")
    made = synthetic.build(context)
    assert len(made) == 3 * 2 * 4 and made.x.shape == (6, 3, 8, 8)
    assert made.labels(torch.arange(24)).argmax(1).tolist() == [k for k in range(3) for _ in range(8)]
    shrunk = F.avg_pool2d(context.data.train.x, 2)
    for i, part in enumerate(made.x[:, :, top : top + 4, left : left + 4] for top in (0, 4) for left in (0, 4)):
        for k, x in enumerate(part):
            found = (shrunk - x).abs().flatten(1).amax(1) < 1e-6
            assert found.any() and (context.data.train.y[found] == k // 2).all(), (i, k)


def test_a_factor_that_does_not_divide_makes_parts_that_overlap():
    size, corners = parts(2, (8, 7), 3)
    assert size == (3, 3) and corners[:9, 1:].tolist() == [[t, left] for t in (0, 2, 5) for left in (0, 2, 4)]
    assert corners[:, 0].tolist() == [0] * 9 + [1] * 9
    whole = put_together(torch.ones(9, 1, 8, 7), 3)
    assert whole.shape == (1, 1, 8, 7) and torch.allclose(whole, torch.ones(1)), "overlaps are averaged"
    images = built("synthetic.factor=3", "synthetic.ipc=1").images(torch.arange(27), torch.Generator())
    assert images.shape == (27, 3, 8, 8)


def test_a_factor_larger_than_an_image_is_refused():
    with pytest.raises(RecipeError, match=r"synthetic\.factor = 9: images of 8x8"):
        built("synthetic.factor=9", "synthetic.init=noise", "synthetic.ipc=1")


def test_too_few_real_images_for_all_parts_are_refused_before_anything_is_built():
    with pytest.raises(DataError, match="32"):
        synthetic.check(small.context("distribution", "synthetic.factor=4"))  # 15 images of each class


def test_the_gradient_of_enlarged_parts_is_that_of_finite_differences():
    x = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = Pixels(x, torch.ones(4, 1), Labels(), factor=2)
    index = torch.tensor([0, 3])

    def loss(x):
        made.x.data = x
        return made.images(index, torch.Generator()).pow(3).sum()

    (exact,) = torch.autograd.grad(loss(x), made.x)
    for flat in (0, 9, 21, 35):
        step = torch.zeros(36, dtype=torch.float64)
        step[flat] = 1e-6
        step = step.view_as(x)
        assert exact.flatten()[flat].item() == pytest.approx(
            ((loss(x + step) - loss(x - step)) / 2e-6).item(), abs=1e-6
        )
    assert exact[0, 0, 0, 5] == 0, "the second part was not asked for"


# ---------------------------------------------------------------- eight bits


def test_images_in_8_bits_are_within_the_range_of_the_training_images_and_rounded():
    context = small.context("distribution", "synthetic.bits=8", "synthetic.init=noise")
    made, train = synthetic.build(context), context.data.train.x
    with torch.no_grad():
        made.x.mul_(100)
    made.project()
    low, high = train.amin((0, 2, 3)), train.amax((0, 2, 3))
    assert (made.x.amin((0, 2, 3)) >= low - 1e-5).all(), "what is learned does not drift beyond the levels"
    assert (made.x.amax((0, 2, 3)) <= high + 1e-5).all()
    x = made.images(torch.arange(len(made)), torch.Generator()).detach()
    assert torch.allclose(x.amin((0, 2, 3)), low, atol=1e-5) and torch.allclose(x.amax((0, 2, 3)), high, atol=1e-5)
    steps = (x - low[:, None, None]) / (high - low)[:, None, None] * 255
    assert (steps - steps.round()).abs().max() < 1e-3 and not torch.equal(x, made.x)


def test_pixels_of_standardised_images_in_8_bits_are_those_of_a_png():
    """0 and 1 occur in the digits, so the levels are the 256 of a PNG file, and its picture is exact."""
    context = small.context("distribution", "synthetic.bits=8", "dataset.preprocess=standardize", digits=200)
    made = synthetic.build(context)
    levels = 255 * context.data.preprocess.inverse(made.images(torch.arange(len(made)), torch.Generator()).detach())
    assert (levels - levels.round()).abs().max() < 1e-3


def test_the_gradient_passes_through_the_rounding_to_images_and_only_the_wanted_ones():
    made = built("synthetic.bits=8")
    x = made.images(torch.tensor([1, 4]), torch.Generator())
    x.square().sum().backward()
    assert torch.equal(made.x.grad[[1, 4]], 2 * x) and made.x.grad[0].abs().sum() == 0


@pytest.mark.parametrize(
    ("overrides", "total", "in_bytes"),
    [
        ([], 6 * 192, 4 * 6 * 192),
        (["synthetic.factor=2"], 6 * 192, 4 * 6 * 192),
        (["synthetic.bits=8"], 6 * 192 // 4 + 6, 6 * 192 + 4 * 6),
        (["synthetic.factor=2", "synthetic.bits=8"], 6 * 192 // 4 + 6, 6 * 192 + 4 * 6),
        (["synthetic.factor=2", "synthetic.bits=8", 'synthetic.labels={mode="learned", lr=1}'],
         6 * 192 // 4 + 6 + 24 * 3, 6 * 192 + 4 * (6 + 24 * 3)),
    ],
)  # fmt: skip
def test_budgets_by_hand(overrides, total, in_bytes):
    """6 images of 192 values, of 3 classes; a spread is 2 values for each of 3 channels, labels 3 for each item."""
    budget = built(*overrides).budget()
    assert (budget.total, budget.bytes) == (total, in_bytes)
    assert budget.bits_per_class(3) == 8 * in_bytes / 3


# ---------------------------------------------------------------- published and resumed


VARIANTS = [
    ["synthetic.factor=2"],
    ["synthetic.bits=8"],
    ["synthetic.factor=2", "synthetic.bits=8"],
    ["synthetic.factor=3", "synthetic.bits=8", "synthetic.ipc=1", LEARNED],
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: " ".join(v)[:60])
def test_a_set_is_published_loaded_and_restored_to_the_bit(variant, tmp_path):
    context = small.context("distribution", "outer.steps=2", "outer.evaluate_every=1", *variant)
    loop = Loop(context, Watcher())
    loop.run()
    published = loop.published()
    write(published, tmp_path)
    train = load(tmp_path)
    with torch.no_grad():
        trained = loop.synthetic.batch(torch.arange(len(loop.synthetic)), torch.Generator())
    assert torch.equal(train.images, trained[0]) and torch.equal(train.labels, trained[1])
    assert torch.equal(train.pixels, published.pixels) and torch.equal(train.shown, published.shown)
    again = synthetic.restore(context, train.state)
    assert all(torch.equal(a, b) for a, b in zip(plain(again), trained, strict=True))
    assert isinstance(train.stored, Windows if "factor" in variant[0] else Images)


def test_a_set_in_8_bits_is_a_file_of_two_bytes_per_value_and_a_plain_one_stays_of_version_3(tmp_path):
    """One for the value as networks see it, one for the pixel to look at."""
    sizes = {}
    for bits in (8, 32):
        loop = Loop(small.context("distribution", f"synthetic.bits={bits}", "synthetic.ipc=12"), Watcher())
        loop.run()
        write(loop.published(), tmp_path / str(bits))
        file = (tmp_path / str(bits) / FILE).read_bytes()
        sizes[bits] = len(file)
        assert (b'\\"version\\": 4' in file, b'\\"version\\": 3' in file) == (bits == 8, bits == 32)
    assert sizes[32] - sizes[8] == pytest.approx(6 * 36 * 192, abs=400), "2 of 8 bytes per value"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: " ".join(v)[:60])
def test_a_run_that_resumes_gives_the_same_bytes(variant):
    def loop():
        return Loop(small.context("distribution", "outer.steps=4", "outer.checkpoint_every=2", *variant), Watcher())

    whole, saved = loop(), []
    whole.watcher.save = lambda checkpoint: saved.append(checkpoint.encode())
    whole.run()
    half, again = loop(), []
    half.watcher.save = lambda checkpoint: again.append(checkpoint.encode())
    half.resume(Checkpoint.decode(saved[0], "half"))
    half.run()
    assert again == saved[1:] and half.checkpoint().encode() == whole.checkpoint().encode()
    assert saved[0] != saved[-1]


def test_values_between_levels_are_kept_while_learning():
    """Otherwise steps smaller than half a level would be lost."""
    made = built("synthetic.bits=8")
    with torch.no_grad():
        made.x.add_(made.spread[1].min() / 10)
    made.project()
    again = built("synthetic.bits=8")
    again.load_learned_state(made.learned_state())
    assert torch.equal(again.x, made.x) and not torch.equal(made.x, made.values())
    assert torch.equal(from_levels(made.published_state()["x"], made.spread), made.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spread": torch.zeros(2, 5)}, "spread"),
        ({"spread": torch.zeros(2, 3, dtype=torch.int64)}, "spread"),
        ({"x": torch.zeros(6, 3, 8, 8)}, "spread"),
        ({"x": torch.zeros(4, dtype=torch.uint8)}, "spread"),
        ({"enlarged": [3, 8]}, "are not enlarged to 3x8"),
        ({"enlarged": [8, 10**6]}, "are not enlarged to 8x1000000"),
        ({"enlarged": [8]}, "enlarged"),
        ({"enlarged": "big"}, "enlarged"),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path, change, says):
    import json

    import safetensors.torch
    from safetensors import safe_open

    name = "crops.x" if "enlarged" in change else "x"
    loop = Loop(small.context("distribution", "synthetic.bits=8", f"synthetic.factor={1 + (name != 'x')}"), Watcher())
    loop.run()
    write(loop.published(), tmp_path)
    file = tmp_path / FILE
    about, held = json.loads(safe_open(file, "pt").metadata()["stillhouse"]), safetensors.torch.load_file(file)
    about |= {k: v for k, v in change.items() if not isinstance(v, torch.Tensor)}
    held |= {k: v for k, v in change.items() if isinstance(v, torch.Tensor)}
    safetensors.torch.save_file(held, file, {"stillhouse": json.dumps(about)})
    with pytest.raises(DataError, match=says) as caught:
        load(file)
    assert str(file) in str(caught.value)


# ---------------------------------------------------------------- labels that start from experts


def test_learned_labels_start_as_the_experts_answers_and_stay_probabilities():
    context = small.context("trajectory", LEARNED)
    made = synthetic.build(context)
    last = context.experts.theta[:, -1]
    expected = torch.stack([context.network(theta, made.x).softmax(1) for theta in last]).mean(0)
    y = made.labels(torch.arange(len(made)))
    assert torch.allclose(y, expected, atol=1e-5)
    assert [(g.params[0] is made.y, g.lr) for g in made.parameter_groups(Outer())] == [(False, 100.0), (True, 0.5)]
    with torch.no_grad():
        made.y.sub_(torch.randn(made.y.shape, generator=torch.Generator().manual_seed(0)))
    before = made.y.detach().clone()
    made.project()
    assert torch.equal(made.y, before), "logits may be negative"
    y = made.labels(torch.tensor([3, 0]))
    assert torch.equal(y, made.y[[3, 0]].softmax(1)) and made.budget().floats["labels"] == 18


def test_a_recipe_knows_that_such_labels_need_experts():
    base = {"name": "x", "dataset": {"kind": "digits"}, "objective": {"kind": "distribution"}}
    assert override(base, [LEARNED], "x").experts_needed == 10
    with pytest.raises(RecipeError, match='mode = "hard"'):
        override(base, ['synthetic.labels={init="expert"}'], "x")
    with pytest.raises(RecipeError, match="stillhouse experts"):
        synthetic.build(dataclasses.replace(small.context("trajectory", LEARNED), experts=None))


def test_a_step_moves_labels_that_started_from_experts():
    made = synthetic.build(small.context("trajectory", LEARNED))
    x, y = made.batch(torch.arange(6), rng.generator(0, "x"))
    (y * y.detach().square()).sum().backward()
    assert made.y.grad.abs().min() > 0 and made.y.grad.sum(1).abs().max() < 1e-6, "the gradient of a softmax"
