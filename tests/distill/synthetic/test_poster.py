"""Posters: what their items are, what is learned and counted, where classes lie, and what is refused."""

import json

import numpy as np
import pytest
import torch
from support import small
from support.small import plain

from distill import recipe, rng, synthetic
from distill.checkpoint import Checkpoint
from distill.engine.batches import Batches
from distill.errors import RecipeError
from distill.loop import Loop, Watcher
from distill.recipe import Augment, Outer
from distill.synthetic import poster

G = rng.generator(0, "unused")
# Three classes of 8x8 images: by default a poster of 24x8 with 6 patches.
POSTER = ("synthetic={}", "synthetic.kind=poster")


def build(*overrides, objective="unrolled", **more):
    overrides = [f"synthetic.{o}" if not o.startswith("seed") else o for o in overrides]
    return synthetic.build(small.context(objective, *POSTER, *overrides, **more))


def test_items_are_the_patches_from_left_to_right_and_down():
    made = build("ipc=3", "columns=3", "rows=1", "patches_x=4", "patches_y=2", "height=13", "width=41")
    assert len(made) == 8 and made.size == (13, 41)
    x, y = made.batch(torch.tensor([5, 0]), G)
    lefts, tops = np.linspace(0, 33, 4).round().astype(int), (0, 5)
    for patch, item in zip(x, (5, 0), strict=True):
        top, left = tops[item // 4], lefts[item % 4]
        assert torch.equal(patch, made.x[0, :, top : top + 8, left : left + 8])
    assert y.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_all_patches_or_mini_batches_of_them_by_the_loops_own_means():
    made = build("patches_x=9")
    whole = Batches(made, 0, Augment(), 0, ("x",))(0)[0]
    assert torch.equal(whole, plain(made)[0])
    three = Batches(made, 4, Augment(), 0, ("x",))
    seen = torch.cat([three(i)[0] for i in range(3)])
    assert three.per_pass == 3 and sorted(map(sum_of, seen)) == sorted(map(sum_of, whole))


def sum_of(image):
    return round(image.sum().item(), 4)


def test_gradients_of_overlapping_patches_are_summed():
    made = build("patches_x=9")
    x, _ = made.batch(torch.arange(9), G)
    x.sum().backward()
    covered = torch.zeros(24)
    for left in np.linspace(0, 16, 9).round().astype(int):
        covered[left : left + 8] += 1
    assert torch.equal(made.x.grad[0, 0], covered.expand(8, 24))


def test_noise_is_standard_gaussian_and_depends_on_the_seed_alone():
    made = build("ipc=300")
    assert abs(made.x.mean()) < 0.01 and abs(made.x.std() - 1) < 0.01
    assert torch.equal(build("seed=1").x, build("seed=1").x) and not torch.equal(build("seed=1").x, build("seed=2").x)


def test_the_budget_counts_the_poster_and_what_is_learned_of_the_labels():
    assert build().budget().total == 3 * 8 * 24
    assert build("labels.mode=learned").budget().total == 3 * 8 * 24 + 3 * 3


def test_learned_labels_have_their_own_rate_and_stay_positive():
    made = build("labels.mode=learned", "labels.lr=0.3")
    groups = made.parameter_groups(Outer(lr_img=7.0))
    assert [(g.params[0] is p, g.lr) for g, p in zip(groups, (made.x, made.y), strict=True)] == [
        (True, 7.0), (True, 0.3),
    ]  # fmt: skip
    with torch.no_grad():
        made.y.sub_(0.5)
    made.project()
    assert made.y.min() == 0 and made.y.max() == 0.5


def test_fixed_labels_are_not_parameters_and_need_no_gradient():
    made = build()
    assert [name for name, _ in made.named_parameters()] == ["x"] and len(made.parameter_groups(Outer())) == 1
    assert not made.batch(torch.arange(3), G)[1].requires_grad


def test_a_set_is_rebuilt_from_its_state():
    first = build("order=random", "labels.mode=learned", "seed=5")
    again = build("order=given", "labels.mode=learned")
    again.load_state_dict(first.state_dict())
    for a, b in zip(plain(first), plain(again), strict=True):
        assert torch.equal(a, b)
    assert set(first.state_dict()) == {"x", "y", "order"}


def test_labels_follow_the_order_that_is_in_the_state():
    first, again = build('order=["class 2", "class 0", "class 1"]'), build()
    again.load_state_dict(first.state_dict())
    assert plain(again)[1].argmax(1).tolist() == [2, 2, 0, 0, 1, 1]


# ---------------------------------------------------------------- under every objective


@pytest.mark.parametrize("objective", small.OBJECTIVES)
@pytest.mark.parametrize(
    "options",
    ["labels={mode='learned', lr=0.1}", "augment={rotate=10, scale=1.1}", "cyclic=true", "posters=per-class ipc=2"],
)
def test_every_objective_moves_what_is_learned(objective, options):
    options = ["synthetic." + option for option in options.replace(", ", ",").split()]
    context = small.context(objective, *POSTER, *options, "outer.steps=2")
    loop = Loop(context, Watcher())
    before = {name: p.detach().clone() for name, p in loop.synthetic.named_parameters()}
    loop.run()
    for name, p in loop.synthetic.named_parameters():
        assert torch.isfinite(p).all() and not torch.equal(p, before[name]), name


def test_a_stopped_run_goes_on_to_the_same_bytes():
    settings = (*POSTER, "synthetic.labels={mode='learned', lr=0.1}", "synthetic.augment={rotate=10}",
                "synthetic.order=random", "outer.steps=4", "outer.optimizer=adam")  # fmt: skip
    whole = Loop(small.context("unrolled", *settings), Watcher())
    whole.run()
    first = Loop(small.context("unrolled", *settings[:-2], "outer.steps=2", "outer.optimizer=adam"), Watcher())
    first.run()
    again = Loop(small.context("unrolled", *settings), Watcher())
    checkpoint = Checkpoint.decode(first.checkpoint().encode(), "test")
    again.resume(checkpoint)
    again.run()
    assert again.done == 4
    for name, value in whole.synthetic.state_dict().items():
        assert torch.equal(again.synthetic.state_dict()[name], value), name


# ---------------------------------------------------------------- the class grid


@pytest.mark.parametrize(
    "order, expected",
    [
        ("given", [0, 1, 2]),
        ("[2, 0, 1]", [2, 0, 1]),
        ('["class 1", 2, "class 0"]', [1, 2, 0]),
        ("[[2, 0, 1]]", [2, 0, 1]),
    ],
)
def test_classes_lie_in_the_order_that_is_given(order, expected):
    assert build(f"order={order}").order.flatten().tolist() == expected


def test_similarity_orders_classes_by_the_means_of_their_images():
    """Of three in a row, the two that are least alike must be the ends."""
    context = small.context("unrolled", *POSTER, "synthetic.order=optimal", "synthetic.embedding=mean-image")
    x, y = context.data.preprocess.to_pixels(context.data.train.x), context.data.train.y
    mean = torch.stack([x[y == k].mean(0).flatten() for k in range(3)])
    apart = torch.cdist(mean, mean)
    ends = divmod(int(apart.argmax()), 3)
    order = synthetic.build(context).order.flatten().tolist()
    assert {order[0], order[2]} == set(ends)


def test_a_random_order_is_of_the_seed():
    orders = {tuple(build("order=random", f"seed={seed}").order.flatten().tolist()) for seed in range(8)}
    assert len(orders) > 2 and all(sorted(order) == [0, 1, 2] for order in orders)


def test_a_poster_for_each_class_holds_only_that_class():
    made = build("posters=per-class", "ipc=4")
    assert made.x.shape == (3, 3, 16, 16) and len(made) == 3 * 4 * 4
    y = plain(made)[1]
    assert torch.equal(y, torch.eye(3).repeat_interleave(16, 0))
    learned = build("posters=per-class", "ipc=4", "labels.mode=learned")
    assert learned.y.shape == (3, 2 * 2, 3) and torch.equal(plain(learned)[1], y)


def test_patches_of_a_cyclic_poster_wrap():
    made = build("cyclic=true", "patches_x=6")
    x, y = plain(made)
    assert torch.equal(x[5], torch.cat([made.x[0, :, :, 20:], made.x[0, :, :, :4]], 2))
    assert y[5].tolist() == [0.5, 0, 0.5]


# ---------------------------------------------------------------- options


def test_a_blended_start_is_a_real_image_of_its_class_on_each_place():
    context = small.context("unrolled", *POSTER, "synthetic.init=blend", "synthetic.order=[1, 2, 0]")
    made, train = synthetic.build(context), context.data.train
    for place, k in enumerate((1, 2, 0)):
        x = made.x[0, :, :, 8 * place : 8 * place + 8]
        assert any(torch.allclose(x, real, atol=1e-5) for real in train.x[train.y == k])


def test_blended_images_fade_into_each_other_where_they_overlap():
    """Two pixels wide overlaps of images 8 wide: their weights there are 3 to 1 and 1 to 3."""
    whole = build("init=blend", "seed=4").x[0]
    images = whole.split(8, 2)
    made = build("init=blend", "seed=4", "height=8", "width=20", "labels.mode=learned").x[0]
    for left, right, at in ((images[0], images[1], 6), (images[1], images[2], 12)):
        assert torch.allclose(made[:, :, at], (3 * left[:, :, 6] + right[:, :, 0]) / 4, atol=1e-5)
        assert torch.allclose(made[:, :, at + 1], (left[:, :, 7] + 3 * right[:, :, 1]) / 4, atol=1e-5)
    assert torch.allclose(made[:, :, :6], images[0][:, :, :6], atol=1e-5)


def test_a_blended_poster_for_each_class_holds_several_of_its_images():
    context = small.context(
        "unrolled", *POSTER, "synthetic.posters=per-class", "synthetic.ipc=4", "synthetic.init=blend"
    )
    made, train = synthetic.build(context), context.data.train
    found = set()
    for top in (0, 8):
        for left in (0, 8):
            x = made.x[1, :, top : top + 8, left : left + 8]
            found |= {
                i for i in (train.y == 1).nonzero().flatten().tolist() if torch.allclose(train.x[i], x, atol=1e-5)
            }
    assert len(found) == 4


def test_augmented_patches_depend_on_their_generator_and_pictures_show_the_plain_ones():
    made, still = build("augment={rotate=20, scale=1.2}"), build()
    draws = [made.batch(torch.arange(6), rng.generator(seed, "a"))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.allclose(draws[0], draws[2])
    assert torch.equal(plain(made)[0], plain(still)[0])
    assert not torch.allclose(draws[0], plain(still)[0])


def test_turned_patches_stay_within_their_bounds():
    from distill.synthetic.poster import _rotation_and_scale

    matrix = _rotation_and_scale(recipe.PatchAugment(rotate=30, scale=1.5), 500, rng.generator(0, "m"))
    lengths = matrix.norm(dim=1)  # of the columns: the factors
    assert 1 / 1.5 <= lengths.min() < 0.7 and 1.45 < lengths.max() <= 1.5
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]).rad2deg()
    assert -30 <= angle.min() < -28 and 28 < angle.max() <= 30


def test_un_whitened_a_poster_is_what_its_patches_look_like():
    context = small.context("unrolled", *POSTER)
    made = synthetic.build(context)
    shown = made.stored().shown(context.data.preprocess.to_pixels)
    assert torch.allclose(shown, context.data.preprocess.to_pixels(made.x.detach()), atol=1e-6)


def test_rows_of_a_given_order_are_the_grid():
    made = build("order=[[2], [0], [1]]", "ipc=1", "height=24", "width=8", "patches_x=1", "patches_y=6")
    assert made.order.tolist() == [[[2], [0], [1]]]


def test_a_set_is_restored_without_the_embedding_that_ordered_it(tmp_path):
    vectors = tmp_path / "vectors.json"
    vectors.write_text(json.dumps({"class 0": [1.0, 0.0], "class 1": [0.0, 1.0], "class 2": [1.0, 0.1]}))
    context = small.context("unrolled", *POSTER, "synthetic.order=optimal", f"synthetic.embedding=file:{vectors}")
    made = synthetic.build(context)
    assert made.order.tolist() != [[[0, 1, 2]]]
    first = context.run_id
    vectors.write_text(vectors.read_text() + "\n")
    assert context.run_id != first, "other vectors are another run"
    vectors.unlink()
    again = synthetic.restore(context, made.state_dict())
    for one, other in zip(plain(made), plain(again), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(RecipeError, match="no embeddings"):
        synthetic.check(context)


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_everything_lies_where_the_poster_does(mode):
    """As on a GPU; the device here is the one whose tensors have no values."""
    settings = small.context("unrolled", *POSTER, f"synthetic.labels.mode={mode}").recipe.synthetic
    x = torch.empty(1, 3, 8, 24, device="meta")
    made = poster.Poster(settings, x, torch.arange(3).view(1, 1, 3), (8, 8), (1, 3), 3)
    tensors = [*made.parameters(), *made.buffers(), *plain(made), *made.batch(torch.arange(2), G)]
    assert {t.device.type for t in tensors} == {"meta"}


def test_it_says_what_it_is():
    made = build("ipc=3", "columns=3", "rows=1", "patches_x=4", "patches_y=2", "height=13", "width=41")
    assert made.describe() == "a poster of 41x13, 4x2 patches of 8x8, 3x1 classes, fixed labels"
    made = build("ipc=4", "posters=per-class", "labels.mode=learned")
    assert made.describe().startswith("3 posters of 16x16, ") and "1x1 classes, learned (2x2 cells)" in made.describe()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["columns=2", "rows=2"], r"synthetic\.columns: a grid of 2x2 does not hold the 3 classes"),
        (["ipc=0.3"], r"synthetic\.ipc: a budget of 57 pixels is too small for one patch"),
        (["height=7", "width=20"], r"synthetic\.height: a poster of 20x7 is smaller than one patch"),
        (["height=9", "width=24"], r"has more than the 192 pixels of synthetic\.ipc = 1\.0"),
        (["patches_x=18"], r"only 17 positions"),
        (["labels={mode='learned', rows=2, columns=3}"], r"larger than its budget of 3 cells"),
        (["order=[0, 1, 1]"], r"'class 1' is there 2 times; 'class 2' is missing"),
        (["order=[0, 1, 'ship']"], r"'ship' is not a class"),
        (["patches_x=2"], r"no patch has a label of class 1: raise synthetic\.patches_x and .*\.labels\.mode"),
        (["patches_x=2", "labels.rule=softmax"], r"no patch has a label of class 1"),
        (["patches_x=2", "labels.mode=learned"], r"no patch has a label of class 1: raise .*patches_y$"),
        (
            ["columns=3", "rows=1", "height=24", "width=8", "labels.rule=share"],
            r"class 0 and class 1 have the same label",
        ),
        (["order=[[0, 1], [2]]"], r"one list per row, all of equal length"),
        (["order=[]"], r"one list per row, all of equal length"),
        (["order=[true, false, 2]"], r"synthetic\.order"),
        (["order=[[0], [1], [2]]", "rows=1", "columns=3"], r"order has 3 rows, not rows = 1"),
        (["order=greedy", "embedding=file:none.npy"], r"no embeddings at .*none\.npy"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(overrides, says):
    with pytest.raises(RecipeError, match=says):
        synthetic.check(small.context("unrolled", *POSTER, *(f"synthetic.{o}" for o in overrides)))


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["height=9"], "give height and width, or neither"),
        (["rows=2"], "give columns and rows, or neither"),
        (["posters=per-class", "ipc=0.5"], "a poster for each class needs at least one image per class"),
        (["posters=per-class", "order=random"], 'columns, rows and order are for posters = "one"'),
        (["ipc=0"], "synthetic"),
        (["labels.rows=2"], "give rows and columns"),
        (["labels={rows=2, columns=2}"], 'set mode = "learned"'),
        (["order=alphabetic"], "order"),
        (["embedding=mean-image"], 'is for order = "greedy" or "optimal"'),
        (["labels={mode='learned', rule='share'}"], 'rule = "share" is for fixed labels'),
    ],
)
def test_what_needs_no_data_to_be_refused_is_refused_in_the_recipe(overrides, says):
    overrides = ["synthetic={}", "synthetic.kind=poster", *(f"synthetic.{o}" for o in overrides)]
    with pytest.raises(RecipeError, match=says):
        recipe.load("digits", overrides)
