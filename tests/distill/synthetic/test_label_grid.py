"""Labels of patches: small cases worked by hand, and the upsampling against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from distill import recipe
from distill.errors import RecipeError
from distill.recipe import PosterLabels
from distill.synthetic.label_grid import average, cell_counts, fixed, learned_shape, one_hot_blocks
from distill.synthetic.patches import corners, starts

# A 4x6 poster of a 2x3 class grid: each class has 2x2 pixels. Patches are 3x3.
#   0 0 1 1 2 2
#   0 0 1 1 2 2
#   3 3 4 4 5 5
#   3 3 4 4 5 5
AT = torch.tensor([[0, 0, 0], [0, 1, 1], [0, 1, 3], [0, 0, 2]])
ORDER = torch.arange(6).expand(4, 6)


def counts():
    return cell_counts(AT, (3, 3), (4, 6), (2, 3))


def test_pixels_of_a_window_in_each_cell_by_hand():
    assert counts().tolist() == [
        [4, 2, 0, 2, 1, 0],
        [1, 2, 0, 2, 4, 0],
        [0, 1, 2, 0, 2, 4],
        [0, 4, 2, 0, 2, 1],
    ]


def test_windows_wrap_into_the_cells_at_the_opposite_edge():
    assert cell_counts(torch.tensor([[0, 3, 4]]), (3, 3), (4, 6), (2, 3)).tolist() == [[2, 0, 4, 1, 0, 2]]


def test_majority_is_the_class_with_most_pixels():
    assert fixed(counts(), ORDER, "majority", 6).argmax(1).tolist() == [0, 4, 5, 1]
    assert fixed(counts(), ORDER, "majority", 6).sum(1).tolist() == [1, 1, 1, 1]


def test_ties_are_shared_equally():
    """A 2x2 window on the corner of four classes, one on an edge of two, and one inside one."""
    at = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    labels = fixed(cell_counts(at, (2, 2), (4, 6), (2, 3)), ORDER[:3], "majority", 6)
    q = 0.25
    assert labels.tolist() == [[q, q, 0, q, q, 0], [0.5, 0.5, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]


def test_the_order_of_classes_says_whose_pixels_they_are():
    order = torch.tensor([5, 4, 3, 2, 1, 0]).expand(4, 6)
    assert fixed(counts(), order, "majority", 6).argmax(1).tolist() == [5, 1, 0, 4]


def test_shares_and_softmax_of_the_counts():
    assert torch.equal(fixed(counts(), ORDER, "share", 6)[0], torch.tensor([4, 2, 0, 2, 1, 0]) / 9)
    assert torch.equal(fixed(counts(), ORDER, "softmax", 6), counts().softmax(1))


def test_learned_labels_are_window_averages_by_hand():
    """Cells of 2 classes; the first window has 4, 2, 0, 2, 1, 0 pixels of them."""
    cells = torch.tensor([[1.0, 0], [0, 1], [0, 1], [2, 2], [0, 4], [0, 0]])[None]
    label = average(counts()[:1], cells, torch.tensor([0]))
    a, b = 4 * 1 + 2 * 2, 2 * 1 + 2 * 2 + 1 * 4
    assert torch.allclose(label, torch.tensor([[a, b]]) / (a + b))


def test_learned_labels_are_pytorchs_upsampling_and_pooling():
    g = torch.Generator().manual_seed(0)
    for size, grid, patch in (
        ((60, 153), (2, 5), (32, 32)),
        ((35, 87), (2, 5), (32, 32)),
        ((45, 113), (4, 10), (9, 7)),
    ):
        cells = torch.rand(1, grid[0] * grid[1], 3, generator=g)
        at = corners(1, starts(size[0], patch[0], 4), starts(size[1], patch[1], 7))
        large = F.interpolate(cells.view(1, *grid, 3).permute(0, 3, 1, 2), size, mode="nearest")[0]
        pooled = [large[:, t : t + patch[0], k : k + patch[1]].mean((1, 2)) for _, t, k in at.tolist()]
        expected = F.normalize(torch.stack(pooled), p=1, dim=1)
        assert torch.allclose(average(cell_counts(at, patch, size, grid), cells, at[:, 0]), expected, atol=1e-6)


def test_each_poster_has_its_own_learned_grid():
    cells = torch.tensor([[[1.0, 0]] * 6, [[0, 1.0]] * 6])
    assert average(counts()[:2], cells, torch.tensor([1, 0])).tolist() == [[0, 1], [1, 0]]


def test_a_window_of_clipped_cells_has_no_label_and_is_not_nan():
    cells = torch.zeros(1, 6, 2, requires_grad=True)
    label = average(counts(), cells, torch.zeros(4, dtype=torch.int64))
    label.sum().backward()
    assert (label == 0).all() and torch.isfinite(cells.grad).all()


@pytest.mark.parametrize(
    "labels, ipc, classes, grid, posters, shape",
    [
        (PosterLabels(), 0.3, 10, (2, 5), 1, (2, 5)),  # less than one image per class: the class grid
        (PosterLabels(mode="learned", ipc=4), 0.5, 10, (2, 5), 1, (4, 10)),
        (PosterLabels(mode="learned", ipc=2), 1, 10, (2, 5), 1, (2, 7)),
        (PosterLabels(mode="learned"), 10, 10, (1, 1), 10, (3, 3)),  # a poster per class: grown by the root of K
        (PosterLabels(mode="learned", rows=2, columns=5), 1, 10, (2, 5), 1, (2, 5)),
        (PosterLabels(mode="learned", ipc=0.9, rows=3, columns=3), 1, 9, (3, 3), 1, None),
        (PosterLabels(mode="learned", rows=3, columns=5), 1, 10, (2, 5), 1, None),
        (PosterLabels(mode="learned", rows=1, columns=6), 1, 10, (2, 5), 1, None),
        (PosterLabels(mode="learned", ipc=0.5), 1, 10, (2, 5), 1, None),
    ],
)
def test_the_learned_grid_has_at_most_so_many_cells_per_class(labels, ipc, classes, grid, posters, shape):
    if shape:
        assert learned_shape(labels, ipc, classes, grid, posters) == shape
        return
    with pytest.raises(RecipeError, match=r"synthetic\.labels: a grid of .*(larger than its budget|does not hold)"):
        learned_shape(labels, ipc, classes, grid, posters)


def test_the_learned_grid_starts_as_one_hot_blocks():
    order = torch.tensor([[[2, 0], [1, 3]]])
    start = one_hot_blocks(order, (4, 4), 4).argmax(-1).view(4, 4)
    assert start.tolist() == [[2, 2, 0, 0], [2, 2, 0, 0], [1, 1, 3, 3], [1, 1, 3, 3]]
    assert one_hot_blocks(order, (2, 3), 4).argmax(-1).tolist() == [[2, 2, 0, 1, 1, 3]]


def test_the_default_label_settings_are_the_fixed_ones():
    assert recipe.Poster().labels == PosterLabels(mode="fixed", rule="majority")
