"""Sets sized to a budget of floats, by hand, on the digits: 8x8 in 10 classes, so one image per class is 640 floats."""

import math

import pytest
from support import small

from distill import data, recipe, synthetic
from distill.context import Context, prepare
from distill.errors import RecipeError
from distill.synthetic.base import Budget, Synthetic
from distill.synthetic.patches import closest_size

IMAGE = 640


@pytest.fixture(scope="module")
def digits():
    loaded = recipe.load("digits")
    return data.load(loaded.dataset, loaded.seed, small.CPU)


def context(digits, *overrides: str) -> Context:
    return prepare(recipe.load("digits", list(overrides)), dataset=digits)


def stored(made: Context, floats: int) -> tuple[recipe.SyntheticBase, int]:
    """The settings for a budget, and what a set with them really stores."""
    settings = synthetic.sized(made, floats)
    sized = recipe.override({**made.recipe.model_dump(mode="json"), "synthetic": settings.model_dump()}, [], "sized")
    return sized.synthetic, synthetic.build(prepare(sized, dataset=made.data)).budget().total


@pytest.mark.parametrize(
    ("overrides", "floats", "ipc", "total"),
    [
        ([], IMAGE, 1, 640),
        ([], 2 * IMAGE - 1, 1, 640),
        ([], 2 * IMAGE, 2, 1280),
        (["synthetic.ipc=9"], 3 * IMAGE + 5, 3, 1920),
        (["synthetic.labels.mode=learned"], 10 * IMAGE, 8, 8 * 740),  # 10 classes * (64 pixels + 10 label values)
    ],
)
def test_images_per_class_are_counted_with_their_labels(digits, overrides, floats, ipc, total):
    settings, really = stored(context(digits, *overrides), floats)
    assert (settings.ipc, really) == (ipc, total)


@pytest.mark.parametrize(
    ("overrides", "floats", "size", "total"),
    [
        ([], IMAGE, (8, 8), 640),
        ([], 2 * IMAGE, (8, 16), 1280),  # 11x11 would leave 70 floats unused
        ([], 10 * IMAGE, (20, 32), 6400),
        ([], 9 * IMAGE, (24, 24), 5760),  # the square, of all sizes with 576 pixels
        (["synthetic.canvases=2"], 4 * IMAGE, (8, 16), 2560),
        (["synthetic.pattern=half-drop"], 10 * 13 * 13, (12, 14), 1680),  # 13x13 has an odd height
        (["synthetic.height=40", "synthetic.width=10"], IMAGE, (8, 8), 640),
    ],
)
def test_the_sides_of_a_canvas_are_solved_for(digits, overrides, floats, size, total):
    settings, really = stored(context(digits, "synthetic.kind=canvas", *overrides), floats)
    assert (tuple(sorted((settings.height, settings.width))), really) == (size, total)
    assert settings.pattern != "half-drop" or settings.height % 2 == 0


@pytest.mark.parametrize(
    ("overrides", "floats", "total"),
    [
        ([], IMAGE, 640),  # 16x40, as in PoDD
        ([], 320, 319),  # 11x29
        (["synthetic.labels.mode=learned"], IMAGE, 632),  # 14x38 and 10 cells of 10 values
        (["synthetic.posters=per-class"], 4 * IMAGE, 2560),  # 16x16 each
        (["synthetic.height=9", "synthetic.width=9"], IMAGE, 640),
    ],
)
def test_a_poster_and_its_learned_labels_fill_the_budget(digits, overrides, floats, total):
    settings, really = stored(context(digits, "synthetic.kind=poster", *overrides), floats)
    assert really == total and settings.height == settings.width == 0


def test_learned_labels_of_a_poster_never_exceed_the_budget_where_their_grid_grows(digits):
    made = context(digits, "synthetic.kind=poster", "synthetic.labels.mode=learned")
    for floats in range(800, 8000, 357):  # at 4 images per class the grid grows by 130 values at once
        assert 0.95 * floats < stored(made, floats)[1] <= floats


@pytest.mark.parametrize(
    ("colours", "floats", "side", "per_class"),
    [
        (2, 10 * IMAGE, 8, 628),  # 16 insides of 6x6, 2 * 2 strips of 6x2, a corner of 2x2
        (2, 10 * 972, 9, 16 * 49 + 4 * 7 * 2 + 4),
        (2, 10 * 1255, 10, 16 * 64 + 4 * 8 * 2 + 4),
        (1, IMAGE, 8, 64),
        (2, 10 * 1684, 12, 1684),  # the border grows at 24: 16*100 + 4*20 + 4
    ],
)
def test_the_side_of_wang_tiles_is_solved_for(digits, colours, floats, side, per_class):
    settings, really = stored(context(digits, "synthetic.kind=wang", f"synthetic.colours={colours}"), floats)
    assert (round(8 * settings.scale), really) == (side, 10 * per_class)


def test_of_all_sides_of_wang_tiles_the_one_with_most_pixels_is_taken(digits):
    """A tile of 24 has wider strips, so fewer pixels, than one of 23: size does not grow with the side."""
    made = context(digits, "synthetic.kind=wang", "synthetic.border=0.0625")
    costs = {}
    for side in range(8, 60):
        one = recipe.override(made.recipe.model_dump(mode="json"), [f"synthetic.scale={side / 8}"], "one")
        costs[side] = synthetic.blank(prepare(one, dataset=made.data)).budget().total
    for floats in (7000, 72_500, 100_000):  # between 23 with 7228 per class and 25 with 7408
        assert stored(made, floats)[1] == max(cost for cost in costs.values() if cost <= floats)


@pytest.mark.parametrize(
    ("kind", "floats", "said"),
    [
        ("pixels", IMAGE - 1, "smallest pixels has 640 floats, 1 images per class"),
        ("canvas", IMAGE - 1, "smallest canvas has 640 floats"),
        ("poster", 63, "smallest poster has 64 floats, 0.1 images per class"),
        ("wang", 6279, "smallest wang has 6,280 floats, 9.81 images per class, more than the budget of 6,279"),
    ],
)
def test_a_budget_below_the_smallest_set_is_refused_with_both_numbers(digits, kind, floats, said):
    with pytest.raises(RecipeError, match="raise the budget") as caught:
        synthetic.sized(context(digits, f"synthetic.kind={kind}"), floats)
    assert said in str(caught.value)
    assert ("synthetic.colours" in str(caught.value)) == (kind == "wang")


class EightBits(Synthetic):
    """A kind that does not say how it is sized; 3 values of 8 bits per class and image, so totals are rounded up."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n

    @classmethod
    def blank(cls, settings, context):
        return cls(settings.ipc * context.classes * 3)

    def budget(self) -> Budget:
        return Budget({"x": self.n}, bits={"x": 8})


def test_a_kind_that_does_not_say_is_sized_by_its_images_per_class():
    made = small.context("distribution")  # 3 classes: ceil(9 * ipc / 4) floats
    for floats in range(3, 60):
        ipc = EightBits.sized(recipe.Pixels(), made, floats).ipc
        assert math.ceil(9 * ipc / 4) <= floats, "within the budget"
        assert math.ceil(9 * (ipc + 2) / 4) > floats, "and within an image of it, since totals are rounded up"
    with pytest.raises(RecipeError, match="has 3 floats"):
        EightBits.sized(recipe.Pixels(), made, 2)


def test_sizes_within_an_area():
    assert closest_size(64, (8, 8)) == (8, 8) and closest_size(63, (8, 8)) is None
    assert closest_size(128, (8, 16)) == (8, 16)
    assert closest_size(3 * 64, (8, 8)) == (12, 16) or closest_size(3 * 64, (8, 8)) == (16, 12)
    assert closest_size(199, (8, 8)) in ((11, 18), (18, 11)), "198 pixels; 1x199 is no picture"
