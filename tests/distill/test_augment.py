"""Augmentation against hand calculation, kornia's rotation, autograd's numerical check, and its own replay."""

import math

import kornia.enhance as kornia_enhance
import kornia.geometry.transform as kornia_transform
import pytest
import torch
from torch.nn import functional as F

from distill.augment import Draw, apply, apply_runs, augment, draw, runs
from distill.recipe import DSA, Augment
from distill.rng import generator


def settings(strategy: str, **values) -> Augment:
    return Augment(strategies=(strategy,), **values)


def drawn(s: Augment, *rows: tuple) -> Draw:
    """A draw whose numbers are known: one row of up to three numbers in [0, 1) per image."""
    u = torch.tensor([[*row, *[0.5] * (3 - len(row))] for row in rows])
    return Draw(s.strategies[0], u, s)


def ramp(*shape: int) -> torch.Tensor:
    return torch.arange(1.0, math.prod(shape) + 1).view(shape)


# ---------------------------------------------------------------- each strategy by hand


def test_no_strategies_returns_the_same_images():
    x = ramp(2, 3, 4, 4)
    assert augment(x, Augment(), generator(0, "a")) is x


def test_brightness_adds_the_centred_number_times_its_strength():
    s = settings("color", brightness=2.0, saturation=2.0, contrast=0.5)  # u = 0.5: saturation and contrast are 1
    x = ramp(2, 3, 4, 4)
    out = apply(x, drawn(s, (0.75,), (0.0,)))
    assert torch.allclose(out[0], x[0] + 0.5)
    assert torch.allclose(out[1], x[1] - 1.0)


def test_saturation_scales_the_distance_to_grey():
    s = settings("color", saturation=2.0, contrast=0.5)
    x = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)  # grey is 3
    assert torch.allclose(apply(x, drawn(s, (0.5, 0.75))).flatten(), torch.tensor([0.0, 1.5, 7.5]))


def test_contrast_scales_the_distance_to_the_image_mean():
    s = settings("color", saturation=2.0, contrast=0.5)
    x = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(1, 1, 2, 2)  # mean is 3
    assert torch.allclose(apply(x, drawn(s, (0.5, 0.5, 0.25))).flatten(), torch.tensor([1.5, 2.25, 3.0, 5.25]))


def test_colour_goes_brightness_saturation_contrast():
    s = settings("color", brightness=1.0, saturation=2.0, contrast=0.5)
    x = torch.rand(1, 3, 4, 4, generator=generator(0, "x"), dtype=torch.float64)
    bright = x + 0.25
    grey = (bright[:, 0:1] + bright[:, 1:2] + bright[:, 2:3]) / 3
    saturated = (bright - grey) * 0.5 + grey
    expected = (saturated - saturated.mean()) * 1.25 + saturated.mean()
    assert torch.allclose(apply(x, drawn(s, (0.75, 0.25, 0.75))), expected)


def test_saturation_leaves_grey_images():
    x = torch.rand(3, 1, 4, 4, generator=generator(0, "x"))
    numbers = [(0.5, 0.1), (0.5, 0.5), (0.5, 0.9)]
    assert torch.equal(apply(x, drawn(settings("color"), *numbers)), x)


@pytest.mark.parametrize("u, shift", [(0.0, (-2, -1)), (0.5, (0, 0)), (0.999, (2, 1)), (0.25, (-1, -1))])
def test_crop_is_a_slice_of_the_zero_padded_image(u, shift):
    x = ramp(2, 3, 8, 4)  # a quarter of the sides: 2 rows and 1 column on each side
    out = apply(x, drawn(settings("crop", crop_pad=0.25), (u, u)))
    top, left = 2 + shift[0], 1 + shift[1]
    assert torch.equal(out, F.pad(x, (1, 1, 2, 2))[:, :, top : top + 8, left : left + 4])


def test_crop_reaches_every_shift_equally_often():
    x = torch.zeros(4500, 1, 8, 8)
    x[:, :, 4, 4] = 1.0
    out = apply(x, draw(settings("crop", crop_pad=0.125), len(x), generator(0, "crop")))
    counts = out.sum((0, 1))  # a pixel moves by -1, 0 or 1 in each direction: nine places, 500 each
    assert torch.equal(counts.nonzero().amin(0), torch.tensor([3, 3]))
    assert torch.equal(counts.nonzero().amax(0), torch.tensor([5, 5]))
    assert counts[3:6, 3:6].min() > 400


def test_flip_mirrors_left_and_right_below_its_probability():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).expand(2, 1, 2, 3)
    out = apply(x, drawn(settings("flip", flip_probability=0.4), (0.39,), (0.41,)))
    assert out[0, 0].tolist() == [[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]]
    assert torch.equal(out[1], x[1])


def test_flip_probability_ends():
    x = ramp(50, 1, 2, 3)
    assert torch.equal(augment(x, settings("flip", flip_probability=0.0), generator(0, "f")), x)
    assert torch.equal(augment(x, settings("flip", flip_probability=1.0), generator(0, "f")), x.flip(3))


def test_cutout_zeroes_a_box_around_its_point():
    x = torch.ones(3, 2, 8, 6)  # half of the sides: 4 rows, 3 columns
    out = apply(x, drawn(settings("cutout", cutout_size=0.5), (0.5, 0.5), (0.0, 0.0), (0.999, 0.999)))
    assert (out == 0).sum((1, 2, 3)).tolist() == [2 * 4 * 3, 2 * 2 * 2, 2 * 2 * 2]  # at a corner the box is cut off
    expected = torch.ones(8, 6)
    expected[2:6, 2:5] = 0  # centre (4, 3)
    assert torch.equal(out[0, 0], expected)
    assert (out[1, :, :2, :2] == 0).all() and (out[2, :, 6:, 4:] == 0).all()


@pytest.mark.parametrize("align", [True, False])
def test_scale_by_one_and_rotation_by_zero_change_nothing(align):
    x = torch.rand(2, 3, 5, 6, generator=generator(0, "x"), dtype=torch.float64)
    still = drawn(settings("scale", scale_ratio=1.0, align_corners=align), (0.3, 0.9))
    assert torch.allclose(apply(x, still), x)
    assert torch.allclose(apply(x, drawn(settings("rotate", align_corners=align), (0.5,))), x)


@pytest.mark.parametrize("align", [True, False])
def test_rotation_by_a_quarter_permutes_pixels(align):
    x = torch.rand(1, 2, 5, 5, generator=generator(0, "x"), dtype=torch.float64)
    s = settings("rotate", rotate_degrees=180, align_corners=align)  # u = 0.25 and 0.75: -90 and +90 degrees
    turned, back = (apply(x, drawn(s, (u,))) for u in (0.25, 0.75))
    assert torch.allclose(turned, torch.rot90(x, -1, (2, 3)), atol=1e-6)
    assert torch.allclose(back, torch.rot90(x, 1, (2, 3)), atol=1e-6)


def test_rotation_agrees_with_kornia():
    x = torch.rand(2, 3, 9, 9, generator=generator(0, "x"))
    out = apply(x, drawn(settings("rotate", rotate_degrees=15), (0.9,), (0.2,)))
    angles = torch.tensor([(2 * u - 1) * 15 for u in (0.9, 0.2)])
    assert torch.allclose(out, kornia_transform.rotate(x, angles), atol=1e-5)


@pytest.mark.parametrize("align", [True, False])
def test_rotation_and_scale_agree_with_kornia_in_its_pixel_coordinates(align):
    """kornia's warps are in pixels; its scale enlarges the picture, DSA's factor the coordinates, so it is 1/factor."""
    x = torch.rand(3, 3, 9, 9, generator=generator(0, "x"), dtype=torch.float64)
    rows = [(0.9, 0.1), (0.0, 1.0), (0.3, 0.6)]
    factors = torch.tensor([[1 / 1.2 + u * (1.2 - 1 / 1.2) for u in row] for row in rows], dtype=torch.float64)
    scaled = apply(x, drawn(settings("scale", scale_ratio=1.2, align_corners=align), *rows))
    # With align_corners=False the corners lie half a pixel outside: the same coordinates on a square image, as both
    # conventions measure from the centre; only which of them fall outside, and so become zero by parts, differs.
    inside = slice(1, -1) if not align else slice(None)
    truth = kornia_transform.scale(x, 1 / factors, align_corners=True)
    assert torch.allclose(scaled[:, :, inside, inside], truth[:, :, inside, inside], atol=1e-6)
    turned = apply(x, drawn(settings("rotate", rotate_degrees=15, align_corners=align), *rows))
    angles = torch.tensor([(2 * row[0] - 1) * 15 for row in rows], dtype=torch.float64)
    truth = kornia_transform.rotate(x, angles, align_corners=True)
    assert torch.allclose(turned[:, :, inside, inside], truth[:, :, inside, inside], atol=1e-6)


def test_flip_agrees_with_kornia():
    x = torch.rand(2, 3, 5, 6, generator=generator(0, "x"))
    out = apply(x, drawn(settings("flip"), (0.1,), (0.9,)))
    assert torch.equal(out, torch.cat((kornia_transform.hflip(x[:1]), x[1:])))


def test_crop_agrees_with_kornias_translation():
    """A window that begins further right and down moves the picture left and up; what comes in is zero."""
    x = torch.rand(3, 2, 8, 16, generator=generator(0, "x"))
    rows = [(0.0, 0.999), (0.999, 0.0), (0.5, 0.3)]
    out = apply(x, drawn(settings("crop", crop_pad=0.125), *rows))  # 1 row, 2 columns: 3 and 5 places
    shifts = torch.tensor([[-2.0, 1.0], [2.0, -1.0], [1.0, 0.0]])  # (x, y) of each image
    assert torch.allclose(out, kornia_transform.translate(x, shifts), atol=1e-5)


def test_brightness_and_contrast_agree_with_kornia():
    x = 0.3 + 0.4 * torch.rand(2, 1, 6, 6, generator=generator(0, "x"))  # far from kornia's clipping at 0 and 1
    s = settings("color", brightness=0.2, saturation=2.0, contrast=0.5)
    bright = apply(x, drawn(s, (0.75, 0.5, 0.5), (0.1, 0.5, 0.5)))
    assert torch.allclose(bright, kornia_enhance.adjust_brightness(x, torch.tensor([0.05, -0.08]), clip_output=False))
    contrast = apply(x, drawn(s, (0.5, 0.5, 0.9), (0.5, 0.5, 0.0)))
    truth = kornia_enhance.adjust_contrast_with_mean_subtraction(x, torch.tensor([1.4, 0.5]))
    assert torch.allclose(contrast, truth, atol=1e-6)


def test_scale_samples_at_multiplied_coordinates():
    x = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).expand(1, 1, 5, 5)  # value = column
    s = settings("scale", scale_ratio=2.0)  # u = 0: 1/2; u = 1/3: 1
    across = apply(x, drawn(s, (0.0, 1 / 3)))  # x halved: columns 1, 1.5, 2, 2.5, 3
    assert torch.allclose(across, torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]).expand(1, 1, 5, 5), atol=1e-6)
    down = apply(x, drawn(s, (1 / 3, 0.0)))  # y halved: each row stays as it is
    assert torch.allclose(down, x, atol=1e-6)


def test_align_corners_moves_the_sampling_points():
    x = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).expand(1, 1, 5, 5)
    s = settings("scale", scale_ratio=2.0, align_corners=False)
    out = apply(x, drawn(s, (0.999999, 1 / 3)))  # x doubled: coordinates -1.6, -0.8, 0, 0.8, 1.6 of pixels 2.5 apart
    assert torch.allclose(out[0, 0, 0], torch.tensor([0.0, 0.0, 2.0, 4.0, 0.0]), atol=1e-4)
    out = apply(x, drawn(s.model_copy(update={"align_corners": True}), (0.75, 1 / 3)))  # 1.625 x -1, -.5, 0, .5, 1
    assert torch.allclose(out[0, 0, 0], torch.tensor([0.0, 0.375, 2.0, 3.625, 0.0]), atol=1e-4)


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("strategy", DSA)
def test_the_same_generator_state_replays_exactly(strategy):
    x = torch.rand(6, 3, 8, 8, generator=generator(0, "x"))
    first, again, other = (augment(x, settings(strategy), generator(0, "a", i)) for i in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_generator_is_left_alone():
    x = torch.rand(6, 3, 8, 8, generator=generator(0, "x"))
    before = torch.random.get_rng_state()
    for step in range(30):
        augment(x, Augment(strategies=DSA), generator(0, "a", step))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_strategy_is_drawn_for_the_batch_and_each_gets_its_turn():
    names = [draw(Augment(strategies=DSA), 1, generator(0, "d", i)).strategy for i in range(600)]
    assert set(names) == set(DSA)
    assert min(names.count(name) for name in DSA) > 60


@pytest.mark.parametrize("strategy", DSA)
def test_shared_draws_treat_all_images_alike_and_own_draws_do_not(strategy):
    x = torch.rand(1, 3, 8, 8, generator=generator(0, "x")).expand(16, 3, 8, 8)
    shared = augment(x, settings(strategy, per_sample=False), generator(0, "a"))
    own = augment(x, settings(strategy), generator(0, "a"))
    assert torch.equal(shared, shared[:1].expand_as(shared))
    assert not torch.equal(own, own[:1].expand_as(own))


@pytest.mark.parametrize("strategy", DSA)
def test_own_draws_are_those_of_each_image_alone(strategy):
    x = torch.rand(4, 3, 8, 8, generator=generator(0, "x"))
    whole = draw(settings(strategy), 4, generator(0, "a"))
    out = apply(x, whole)
    for i in range(4):
        alone = Draw(strategy, whole.u[i : i + 1], whole.settings)
        assert torch.allclose(out[i : i + 1], apply(x[i : i + 1], alone), atol=1e-6)


def test_a_shared_draw_fits_batches_of_any_size():
    real, synthetic = torch.rand(7, 3, 8, 8, generator=generator(0, "x")).split((5, 2))
    for strategy in DSA:
        siamese = draw(settings(strategy, per_sample=False), 5, generator(0, "a"))
        both = apply(torch.cat((real, synthetic)), siamese)
        assert torch.allclose(torch.cat((apply(real, siamese), apply(synthetic, siamese))), both, atol=1e-6)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("strategy", DSA)
@pytest.mark.parametrize("per_sample", [True, False])
def test_first_and_second_derivatives(strategy, per_sample):
    x = torch.rand(2, 2, 4, 4, generator=generator(0, "x"), dtype=torch.float64, requires_grad=True)
    fixed = draw(settings(strategy, per_sample=per_sample), 2, generator(0, "a"))

    def f(images):
        return apply(images, fixed).pow(3)  # a curve behind it, for a second derivative that is not zero

    assert torch.autograd.gradcheck(f, (x,))
    assert torch.autograd.gradgradcheck(f, (x,))


@pytest.mark.parametrize("strategy", DSA)
def test_no_grad_gives_the_same_values(strategy):
    x = torch.rand(3, 3, 8, 8, generator=generator(0, "x"), requires_grad=True)
    with torch.no_grad():
        plain = augment(x, settings(strategy), generator(0, "a"))
    assert not plain.requires_grad
    assert torch.equal(plain, augment(x, settings(strategy), generator(0, "a")))


# ---------------------------------------------------------------- groups of images


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("cuts", [(0, 9), (0, 1, 4, 9), (0, 5, 9), tuple(range(10))])
def test_runs_are_the_draws_of_groups_one_after_the_other(per_sample, cuts):
    """In parts cut anywhere; the second and third group have one strategy and become one run."""
    counts, x = (3, 2, 4), torch.randn(9, 3, 8, 8, generator=generator(0, "images"))
    seeds = next(s for s in zip(range(0, 99), range(1, 99), range(2, 99), strict=False) if _same_strategy(*s))
    draws = [
        draw(Augment(strategies=DSA, per_sample=per_sample), n, generator(s))
        for n, s in zip(counts, seeds, strict=True)
    ]
    merged = runs(draws, counts)
    assert [n for _, n in merged] == [3, 6] and merged[0][0].strategy != merged[1][0].strategy
    expected = torch.cat([apply(part, d) for part, d in zip(x.split(counts), draws, strict=True)])
    parts = [apply_runs(x[a:b], merged, a) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert torch.equal(torch.cat(parts), expected)


def _same_strategy(*seeds: int) -> bool:
    first, second, third = (draw(Augment(strategies=DSA), 1, generator(s)).strategy for s in seeds)
    return first != second == third


def test_runs_without_augmentation_leave_images_as_they_are():
    x = torch.randn(5, 3, 8, 8)
    none = [draw(Augment(), n, generator(0)) for n in (2, 3)]
    assert torch.equal(apply_runs(x[1:], runs(none, (2, 3)), 1), x[1:])


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(60, 108), (108, 60), (64, 64)])
def test_rotation_keeps_a_square_a_square(shape, align_corners):
    """Second moments of a bright square: turned by any angle, it is as long as it is wide, and keeps its area."""
    h, w = shape
    x = torch.zeros(1, 1, h, w, dtype=torch.float64)
    x[:, :, h // 2 - 10 : h // 2 + 10, w // 2 - 10 : w // 2 + 10] = 1
    rotation = Augment(strategies=("rotate",), rotate_degrees=30.0, align_corners=align_corners)
    for u in (0.0, 0.25, 0.8):
        turned = apply(x, Draw("rotate", torch.full((1, 3), u), rotation))[0, 0]
        rows, columns = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
        points = torch.stack((rows, columns))
        mass = turned.sum()
        centred = points - ((points * turned).sum((1, 2)) / mass)[:, None, None]
        moments = torch.einsum("ihw,jhw,hw->ij", centred, centred, turned) / mass
        low, high = torch.linalg.eigvalsh(moments).sqrt()
        assert high / low < 1.01 and abs(mass / 400 - 1) < 0.02, (shape, u, high / low)


def test_rotation_of_square_images_is_the_published_one_to_the_bit():
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rotation = Augment(strategies=("rotate",), per_sample=True)
    u = torch.rand(4, 3, generator=torch.Generator().manual_seed(1))
    angle = (2 * u[:, 0] - 1) * math.radians(rotation.rotate_degrees)
    theta = torch.stack((angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle), 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=rotation.align_corners)
    expected = F.grid_sample(x, grid, align_corners=rotation.align_corners)
    assert torch.equal(apply(x, Draw("rotate", u, rotation)), expected)
