"""Wang tiles: legal tilings assembled tile by tile, every tile once on the sheet, layouts without a period."""

import pytest
import torch
from support import small

from distill import rng, synthetic
from distill.errors import RecipeError
from distill.recipe import Sampling
from distill.tiles import autocorrelation, lay_out, pairs, place_of_pairs, strongest_repeat

WANG = ("synthetic={}", "synthetic.kind=wang", "synthetic.border=0.2")


def build(*overrides):
    context = small.context("distribution", *WANG, *(f"synthetic.{o}" for o in overrides))
    return context, synthetic.build(context)


def tiles_of(wang):
    """(n, e, s, w) to the tile (classes, c, L, L), cut out of the sheet."""
    sheet, side, a = wang.sheet(), wang.side, pairs(wang.settings.colours).tolist()
    k, tiles = len(a), {}
    for r in range(k):
        for c in range(k):
            code = (a[r], a[(c + 1) % k], a[(r + 1) % k], a[c])
            assert code not in tiles, "each tile once"
            tiles[code] = sheet[:, :, r * side : (r + 1) * side, c * side : (c + 1) * side]
    return tiles


@pytest.mark.parametrize("colours", [1, 2, 3, 4])
def test_each_pair_of_colours_occurs_once(colours):
    a = pairs(colours)
    assert len({*zip(a.tolist(), a.roll(-1).tolist(), strict=True)}) == len(a) == colours**2
    place = place_of_pairs(colours)
    assert all((a[place[i, j]], a.roll(-1)[place[i, j]]) == (i, j) for i in range(colours) for j in range(colours))


@pytest.mark.parametrize("colours", [1, 2, 3])
def test_a_set_is_complete_and_tiles_share_strips_by_colour_and_the_corner(colours):
    _, wang = build(f"colours={colours}")
    with torch.no_grad():
        wang.x.copy_(torch.arange(float(wang.x.numel())).view(wang.x.shape))
    tiles, b = tiles_of(wang), wang.border
    assert len(tiles) == colours**4 and wang.side == 8 and b == 2
    for (n, e, s, w), tile in tiles.items():
        for (n2, e2, s2, w2), other in tiles.items():
            inner = slice(b, -b)
            assert (n != n2) or torch.equal(tile[..., :b, inner], other[..., :b, inner])
            assert (s != s2) or torch.equal(tile[..., -b:, inner], other[..., -b:, inner])
            assert (w != w2) or torch.equal(tile[..., inner, :b], other[..., inner, :b])
            assert (e != e2) or torch.equal(tile[..., inner, -b:], other[..., inner, -b:])
            assert torch.equal(tile[..., :b, :b], other[..., :b, :b])
    pixels = colours**4 * 4 * 4 + 2 * colours * 4 * 4 + 4 * 4
    assert wang.budget().total == 3 * 3 * pixels and len(wang.sheet().unique()) == 3 * 3 * pixels


def test_crops_and_gradients_are_those_of_tilings_assembled_by_hand():
    _, wang = build("crops=4")
    index = torch.arange(len(wang))
    x = wang.images(index, rng.generator(0, "g"))
    g, n = rng.generator(0, "g"), len(index)
    horizontal, vertical = torch.randint(2, (n, 3, 2), generator=g), torch.randint(2, (n, 2, 3), generator=g)
    corner = torch.randint(wang.side, (n, 2), generator=g)
    tiles = tiles_of(wang)
    for k in range(n):
        h, v = horizontal[k].tolist(), vertical[k].tolist()
        code = [[(h[r][c], v[r][c + 1], h[r + 1][c], v[r][c]) for c in (0, 1)] for r in (0, 1)]
        plane = torch.cat([torch.cat([tiles[one][k // 4] for one in row], 2) for row in code], 1)
        top, left = corner[k].tolist()
        assert torch.equal(x[k], plane[:, top : top + 8, left : left + 8])
    assert wang.labels(index).argmax(1).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    (moved,) = torch.autograd.grad(x.sum(), wang.x)
    assert moved.sum().item() == pytest.approx(x.numel())  # every pixel of every crop comes from one value


def test_a_layout_is_legal_and_has_no_period():
    _, wang = build()
    with torch.no_grad():
        wang.x.copy_(torch.randn(wang.x.shape, generator=rng.generator(0, "noise")))
    sheet, side = wang.sheet(), wang.side
    picture = lay_out(sheet, 2, 40 * side, 40 * side, rng.generator(1, "layout"))
    cells = picture[0].unfold(1, side, side).unfold(2, side, side)  # (c, 40, 40, L, L)
    tiles = {code: tile[0] for code, tile in tiles_of(wang).items()}
    codes = [[next(k for k, t in tiles.items() if torch.equal(t, cells[:, r, c])) for c in range(6)] for r in range(6)]
    assert all(codes[r][c][1] == codes[r][c + 1][3] for r in range(6) for c in range(5))
    assert all(codes[r][c][2] == codes[r + 1][c][0] for r in range(5) for c in range(6))
    assert strongest_repeat(picture[0], side // 2) < 0.6 < strongest_repeat(sheet[0].repeat(1, 10, 10), side // 2)
    assert strongest_repeat(sheet[0].repeat(1, 10, 10), 4 * side) == pytest.approx(1, abs=1e-5)
    assert lay_out(sheet, 2, 37, 21, rng.generator(1, "l")).shape == (3, 3, 37, 21)


def test_autocorrelation_of_a_shifted_copy():
    x = torch.randn(3, 16, 20, generator=rng.generator(0, "x"))
    r = autocorrelation(x)
    assert r[0, 0] == pytest.approx(1) and r.flatten()[1:].max() < 0.3
    assert autocorrelation(torch.cat([x, x], 1))[16, 0] == pytest.approx(1)
    assert strongest_repeat(torch.cat([x, x], 1), 9) == pytest.approx(1)  # a period along one axis is one


def test_the_published_form_fills_any_size_from_its_file_alone(tmp_path):
    from distill.loop import Loop, Watcher
    from distill.published import read, write

    loop = Loop(small.context("distribution", *WANG, "outer.steps=1"), Watcher())
    loop.run()
    write(loop.published(), tmp_path)
    again = read(tmp_path)
    assert again.stored.colours == 2
    picture = again.stored.fill(again.shown, 50, 70, rng.generator(0, "f"))
    assert picture.shape == (3, 3, 50, 70)
    assert torch.equal(picture, lay_out(again.shown, 2, 50, 70, rng.generator(0, "f")))


def test_a_blended_start_is_made_of_real_images_and_has_no_gaps():
    _, wang = build("init=blend")
    _, noise = build()
    assert wang.x.std() < noise.x.std() and torch.isfinite(wang.x).all() and (wang.x != 0).all()


def test_a_network_may_be_trained_on_crops_that_are_drawn_once():
    _, wang = build()
    x, y = small.plain(wang.sampled(Sampling(per_class=4), rng.generator(0, "s")))
    assert x.shape == (12, 3, 8, 8) and y.argmax(1).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_strips_that_fill_a_tile_are_refused():
    with pytest.raises(RecipeError, match=r"synthetic\.border: strips of 8 pixels fill a tile of 8"):
        build("border=0.49")


def test_how_strongly_a_layout_repeats_is_measured():
    context, wang = build()
    assert 0 < wang.measures(context.data.preprocess)["repeat"] < 1


def test_total_variation_is_the_mean_step_within_crops():
    _, wang = build("tv=0.5", "crops=3")
    crops = wang.images(torch.arange(9), rng.generator(0, "penalty")).detach()
    down, right = crops[:, :, 1:] - crops[:, :, :-1], crops[..., 1:] - crops[..., :-1]
    expected = 0.5 * (down.abs().mean() + right.abs().mean()) / 2
    assert wang.penalty(0, rng.generator(0, "penalty")).item() == pytest.approx(expected.item(), rel=1e-6)
    with torch.no_grad():
        wang.x.fill_(0.3)
    assert wang.penalty(0, rng.generator(0, "penalty")) == 0
    assert build()[1].penalty(0, rng.generator(0, "penalty")) == 0.0
