"""Colours that follow likeness, and the picture of a grid."""

import numpy as np
from scipy.spatial.distance import cdist

from distill.order.colours import colours, ink, scaled
from distill.order.picture import draw


def test_points_of_three_dimensions_are_found_again():
    x = np.random.default_rng(0).normal(size=(12, 3))
    again = scaled(cdist(x, x), 3)
    np.testing.assert_allclose(cdist(again, again), cdist(x, x), atol=1e-8)


def test_like_classes_have_like_colours():
    groups = np.repeat(np.eye(4) * 5, 5, 0)  # 4 groups of 5 classes
    x = groups + 0.2 * np.random.default_rng(0).normal(size=groups.shape)
    palette = colours(cdist(x, x)).astype(float)
    between = cdist(palette, palette)
    same = np.kron(np.eye(4), np.ones((5, 5))) > 0
    assert between[same].max() < between[~same].min()


def test_few_classes_have_colours_too():
    assert colours(np.zeros((1, 1))).shape == (1, 3)
    assert len(set(map(tuple, colours(np.array([[0.0, 1], [1, 0]])).tolist()))) == 2


def test_ink_can_be_read():
    assert ink(np.array([255, 255, 0])) == (0, 0, 0) and ink(np.array([0, 0, 160])) == (255, 255, 255)


def test_each_cell_has_the_colour_of_its_class():
    x = np.random.default_rng(0).normal(size=(6, 5))
    apart, grid = cdist(x, x), [[3, 1, 5], [0, 4, 2]]
    sheet = draw(grid, [f"a class_{k}, synonym" for k in range(6)], apart, "title")
    palette, side = colours(apart), 120
    top = sheet.height - 2 * side - 8
    for row, line in enumerate(grid):
        for column, k in enumerate(line):
            corner = sheet.getpixel((8 + column * side + 3, top + row * side + 3))
            assert corner == tuple(palette[k].tolist()), (row, column)
