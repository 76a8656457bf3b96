"""Canvases: crops against an explicit roll, patterns against a plane laid out by hand, starts, penalties, seams."""

import logging

import numpy as np
import pytest
import torch
from support import small

from distill import rng, synthetic
from distill.errors import RecipeError
from distill.loop import Loop, Watcher
from distill.recipe import Sampling
from distill.seam import seam
from distill.synthetic.canvas import spectrum

CANVAS = ("synthetic={}", "synthetic.kind=canvas")


def build(*overrides, objective="distribution"):
    context = small.context(objective, *CANVAS, *(f"synthetic.{o}" for o in overrides))
    return context, synthetic.build(context)


def corners_of(canvas, index, seed=0):
    """The places that images() draws."""
    u = torch.rand(len(index), 2, generator=rng.generator(seed, "g"))
    return (u * torch.tensor(canvas._spans())).long()


def rolled(canvas, index, corners):
    """The same crops by a loop: roll each canvas to its place, then cut the corner out of it."""
    h, w = canvas.image
    out = []
    for item, (top, left) in zip((index // canvas.settings.crops).tolist(), corners.tolist(), strict=True):
        out.append(torch.roll(canvas.x[item], (-top, -left), (1, 2))[:, :h, :w])
    return torch.stack(out)


@pytest.mark.parametrize("overrides", [(), ("scale=1.4",), ("height=20", "width=9"), ("canvases=2", "crops=3")])
def test_crops_and_gradients_are_those_of_a_rolled_canvas(overrides):
    _, canvas = build(*overrides)
    index = torch.arange(len(canvas))
    x = canvas.images(index, rng.generator(0, "g"))
    expected = rolled(canvas, index, corners_of(canvas, index))
    assert torch.equal(x, expected)
    pull = torch.randn(x.shape, generator=rng.generator(1, "pull"))
    ours, theirs = (torch.autograd.grad(t, canvas.x, pull)[0] for t in (x, expected))
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_every_place_is_drawn_equally_often():
    _, canvas = build("height=8", "width=10")
    index = torch.zeros(20_000, dtype=torch.int64)
    marks = torch.arange(80.0).view(1, 1, 8, 10).expand(3, 3, 8, 10)
    with torch.no_grad():
        canvas.x.copy_(marks)
    first = canvas.images(index, rng.generator(0, "g"))[:, 0, 0, 0]
    counts = first.long().bincount(minlength=80)
    assert counts.min() > 180 and counts.max() < 330  # 250 each


def plane_by_hand(x, pattern):
    """Four periods or more of the plane (H, W) -> (4H, 4W), laid out copy by copy."""
    height, width = x.shape
    plane = torch.empty(4 * height, 4 * width)
    for i in range(4):
        for j in range(4):
            copy = x
            if pattern == "mirror":
                copy = copy.flip(0) if i % 2 else copy
                copy = copy.flip(1) if j % 2 else copy
            if pattern == "half-drop":
                copy = copy.roll(-(height // 2) * (j % 2), 0)
            plane[i * height : (i + 1) * height, j * width : (j + 1) * width] = copy
    return plane


@pytest.mark.parametrize("pattern", ["p1", "half-drop", "mirror"])
def test_patterns_are_the_plane_laid_out_by_hand(pattern):
    _, canvas = build(f"pattern={pattern}", "height=12", "width=10")
    index = torch.arange(3).repeat(40)
    x = canvas.images(index, rng.generator(0, "g"))
    corners = corners_of(canvas, index)
    assert corners[:, 0].max() >= (12 if pattern == "mirror" else 0)
    for image, item, (top, left) in zip(x, index, corners.tolist(), strict=True):
        plane = plane_by_hand(canvas.x[item, 0].detach(), pattern)
        assert torch.equal(image[0], plane[top : top + 8, left : left + 8])
    period = canvas.plane()[0, 0]
    by_hand = plane_by_hand(canvas.x[0, 0].detach(), pattern)
    assert torch.equal(period, by_hand[: period.shape[0], : period.shape[1]])
    assert torch.equal(period.repeat(2, 2)[: 2 * 12, : 2 * 10], by_hand[: 2 * 12, : 2 * 10])


@pytest.mark.parametrize("wrap, cyclic", [("both", (True, True)), ("x", (False, True)), ("y", (True, False))])
def test_crops_cross_only_the_edges_that_wrap(wrap, cyclic):
    _, canvas = build(f"wrap={wrap}", "height=12", "width=14")
    corners = corners_of(canvas, torch.zeros(3000, dtype=torch.int64))
    assert (corners[:, 0].max() == (11 if cyclic[0] else 12 - 8)) and (corners[:, 1].max() == (13 if cyclic[1] else 6))
    stored = canvas.stored()
    assert (stored.corners[:, 1].max() + 8 > 12) == cyclic[0] and (stored.corners[:, 2].max() + 8 > 14) == cyclic[1]
    covered = torch.zeros(12, 14)
    for _, top, left in stored.corners[stored.corners[:, 0] == 0].tolist():
        rows, columns = (torch.arange(top, top + 8) % 12, torch.arange(left, left + 8) % 14)
        covered[rows[:, None], columns] += 1
    assert covered.min() >= 1


def test_items_are_ordered_by_class_and_the_budget_counts_canvases():
    _, canvas = build("canvases=2", "crops=3")
    assert len(canvas) == 18 and canvas.labels(torch.arange(18)).argmax(1).tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert canvas.budget().total == 6 * 3 * 16 * 16
    assert canvas.describe() == "6 canvases of 16x16, 2 per class, pattern p1"


def test_a_network_may_be_trained_on_crops_that_are_drawn_once():
    _, canvas = build("canvases=2")
    drawn = canvas.sampled(Sampling(per_class=5), rng.generator(0, "s"))
    x, y = small.plain(drawn)
    assert x.shape == (18, 3, 8, 8) and y.argmax(1).tolist() == [0] * 6 + [1] * 6 + [2] * 6  # three of each canvas
    assert torch.equal(small.plain(canvas.sampled(Sampling(per_class=5), rng.generator(0, "s")))[0], x)
    assert canvas.sampled(Sampling(), rng.generator(0, "s")) is canvas


# ---------------------------------------------------------------- starts


def test_a_noise_start_has_the_mean_and_deviation_of_the_data():
    context, canvas = build("scale=6")
    train = context.data.train.x
    assert abs(canvas.x.mean() - train.mean()) < 0.05 and abs(canvas.x.std() - train.std()) < 0.05


def test_a_real_start_is_images_side_by_side_and_warns_of_seams(caplog):
    with caplog.at_level(logging.WARNING, logger="stillhouse"):
        context, canvas = build("init=real")
    assert "leave seams" in caplog.text
    train = context.data.train
    for k in range(3):
        for top in (0, 8):
            tile = canvas.x[k, :, top : top + 8, 8:16]
            rows = (train.x == tile).flatten(1).all(1)
            assert rows.any() and (train.y[rows] == k).all()


@pytest.mark.parametrize("pattern", ["p1", "half-drop", "mirror"])
def test_a_blended_start_needs_no_warning_and_has_no_seam(pattern, caplog):
    """On smooth images: each is a slow wave, so that a seam would be a jump."""
    waves = torch.sin(torch.arange(16.0)[:, None] / 3 + torch.arange(16.0) / 4 + torch.arange(45.0)[:, None, None])

    def start(init):
        context = small.context("distribution", *CANVAS, f"synthetic.pattern={pattern}", f"synthetic.init={init}")
        x = waves[:, None].expand(45, 3, 16, 16)[..., :8, :8].contiguous()
        data = context.data.__class__(
            **{**context.data.__dict__, "train": context.data.train.__class__(x, context.data.train.y)}
        )
        canvas = synthetic.build(context.__class__(**{**context.__dict__, "data": data}))
        return seam(canvas.plane()[0])

    with caplog.at_level(logging.WARNING, logger="stillhouse"):
        blended = start("blend")
    assert caplog.text == ""
    assert max(blended.seam_x, blended.seam_y) < 2
    if pattern == "p1":
        plain = start("real")
        assert max(plain.seam_x, plain.seam_y) > 2


# ---------------------------------------------------------------- penalties


def test_total_variation_is_the_mean_step_on_the_torus():
    context, canvas = build("tv=0.5", "height=10", "width=12")
    x = canvas.x.detach()
    expected = ((x - x.roll(-1, 2)).abs().mean() + (x - x.roll(-1, 3)).abs().mean()) / 2
    penalty = canvas.penalty(0, rng.generator(0, "p"))
    assert penalty.item() == pytest.approx(0.5 * expected.item(), rel=1e-5)
    penalty.backward()
    assert canvas.x.grad.abs().sum() > 0
    flat = build("tv=1", "wrap=x", "height=10", "width=12")[1]
    with torch.no_grad():
        flat.x.copy_(torch.arange(10.0)[:, None].expand(10, 12))
    assert flat.penalty(0, rng.generator(0, "p")).item() == pytest.approx(0.5)  # no step from the last row to the first
    tall = build("tv=1", "wrap=y", "height=12", "width=10")[1]
    with torch.no_grad():
        tall.x.copy_(torch.arange(10.0).expand(12, 10))
    assert tall.penalty(0, rng.generator(0, "p")).item() == pytest.approx(0.5)  # nor from the last column to the first


def test_no_penalty_by_default():
    assert build()[1].penalty(0, rng.generator(0, "p")) == 0.0


def test_the_spectrum_penalty_is_nothing_for_real_crops_and_much_for_noise():
    context, canvas = build("spectrum=1", "scale=1", "init=real")
    noise = build("spectrum=1", "scale=1")[1]
    smooth = torch.nn.functional.avg_pool2d(torch.randn(400, 3, 12, 12, generator=rng.generator(0, "x")), 5, 1)
    assert torch.allclose(spectrum(smooth[:200]), spectrum(smooth[200:]), atol=0.5)
    noise.target_spectrum = spectrum(smooth)
    assert noise.penalty(0, rng.generator(0, "p")) > 1
    assert canvas.penalty(0, rng.generator(0, "p")) < noise.penalty(0, rng.generator(0, "p"))


# ---------------------------------------------------------------- seams


def test_seams_of_an_ordinary_image_fail_and_those_of_a_torus_pass():
    g = rng.generator(0, "seam")
    torus = torch.nn.functional.avg_pool2d(torch.randn(1, 3, 64, 64, generator=g).repeat(1, 1, 2, 2), 5, 1)[
        0, :, :64, :64
    ]
    assert seam(torus).seamless
    ramp = torus + torch.linspace(0, 3, 64)
    assert not seam(ramp).seamless and seam(ramp).seam_x > 5 and 0.8 < seam(ramp).seam_y < 1.2


def test_a_blurred_seam_passes_on_values_and_fails_on_gradients():
    g = rng.generator(0, "blur")
    image = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 300, 300, generator=g), 3, 1)[0, :, :256, :256]
    step = (image[..., 1:] - image[..., :-1]).abs().mean()
    ramp = torch.arange(-8, 8) * step  # from the left of the seam to its right at the ordinary step, but straight
    image[..., -8:], image[..., :8] = ramp[:8], ramp[8:]
    measured = seam(image)
    assert 0.8 < measured.seam_x < 1.2 and measured.seam_gradient_x < 0.3 and not measured.seamless


def test_seams_are_measured_while_distilling():
    context, canvas = build()
    measures = canvas.measures(context.data.preprocess)
    assert set(measures) == {"seam_x", "seam_y", "seam_gradient_x", "seam_gradient_y"}
    assert all(0.7 < value < 1.3 for value in measures.values())  # noise is seamless


def test_the_loop_reports_them_with_its_pictures():
    watcher, reported = Watcher(), []
    watcher.measured = lambda step, measures: reported.append((step, "seam_x" in measures))
    Loop(small.context("distribution", *CANVAS, "outer.steps=3", "outer.picture_every=2"), watcher).run()
    assert reported == [(0, True), (2, True), (3, True)]


def test_pictures_are_canvases_tilings_and_crops():
    context, canvas = build("wrap=x")
    pictures = canvas.pictures(context.data.preprocess, context.data.classes)
    assert list(pictures) == ["synthetic", "tiled", "crops"]
    shown = np.array(pictures["tiled"])
    assert (
        shown.shape[1] >= 3 * 3 * 16 and shown.shape[0] < 3 * 16
    )  # three canvases, each three times across, once down


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["height=7", "width=20"], r"a canvas of 20x7 is smaller than an image of 8x8"),
        (["pattern=half-drop", "height=9", "width=12"], "half-drop needs an even height"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(overrides, says):
    context = small.context("distribution", *CANVAS, *(f"synthetic.{o}" for o in overrides))
    with pytest.raises(RecipeError, match=says):
        synthetic.check(context)


@pytest.mark.parametrize(
    "overrides, says",
    [(["height=9"], "give height and width"), (["pattern=mirror", "wrap=x"], "continues across all edges")],
)
def test_what_needs_no_data_to_be_refused_is_refused_in_the_recipe(overrides, says):
    with pytest.raises(RecipeError, match=says):
        small.context("distribution", *CANVAS, *(f"synthetic.{o}" for o in overrides))
