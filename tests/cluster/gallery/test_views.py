"""Which pixels stand for a class: of every form, at any step."""

import pytest
import torch
from support import gallery
from support.tori import canvases

from cluster.gallery import posters, views
from distill.published import Images, Windows, forms


def test_images_are_by_their_most_probable_class_the_surest_first():
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    y = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.3, 0.4, 0.3]])
    found = views.of_classes(Images(x, y), x)
    assert [images[:, 0, 0, 0].tolist() for images in found] == [[2.0, 0.0], [1.0, 3.0], [3.0]]


def test_a_class_without_any_label_has_no_image():
    x = torch.rand(1, 1, 2, 2)
    assert [len(images) for images in views.of_classes(Images(x, torch.tensor([[1.0, 0.0]])), x)] == [1, 0]


def test_a_canvas_is_the_picture_of_its_class_and_wraps_round():
    made = canvases(("a", "b"), per_class=2, wrap="y", size=(32, 48))
    found = views.of_classes(made.stored, made.shown)
    assert torch.equal(found[0], made.shown[:2]) and torch.equal(found[1], made.shown[2:])
    assert views.wraps(made.stored) == (True, False) and views.shared(made.stored) == []


def test_a_class_on_a_poster_is_its_surest_patch_in_the_midst_of_those():
    made = gallery.poster()
    found = views.of_classes(made.stored, made.shown)
    corners = ((0, 0), (0, 8), (8, 0), (8, 8))
    for images, (top, left) in zip(found, corners, strict=True):
        assert torch.equal(images[0], made.shown[0, :, top : top + 8, left : left + 8]) and len(images) == 1
    assert views.shared(made.stored) == [0] and views.wraps(made.stored) == (False, False)


def test_of_patches_that_are_equally_sure_the_one_in_the_midst_counts():
    x = torch.rand(1, 1, 4, 12)
    corners = torch.tensor([[0, 0, 0], [0, 0, 2], [0, 0, 4], [0, 0, 8]])
    y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = views.of_classes(Windows(x, corners, (4, 4), y), x)
    assert torch.equal(found[0][0], x[0, :, :, 2:6])


def test_samples_have_a_row_per_truncation_and_the_same_noise_in_a_column(monkeypatch):
    monkeypatch.setattr(forms, "SAMPLER_MODULES", ("support.",))
    made = gallery.sampler()
    x = views.samples(made.stored, lambda x: x, 2, (0.5, 1.0), at_once=64)
    assert x.shape == (3, 2, 2, 1, 8, 8)
    mean = made.stored.weights["mean"]
    half, whole = x[:, 0] - mean[:, None], x[:, 1] - mean[:, None]
    assert torch.allclose(2 * half, whole, atol=1e-6) and not torch.allclose(whole[:, 0], whole[:, 1])
    assert views.samples(made.stored, lambda x: x, 1, (1.0,), at_once=2).shape == (3, 1, 1, 1, 8, 8)


def test_regions_of_a_poster_are_its_class_grid():
    overlay = posters.overlay(gallery.poster().stored, 0)
    assert (overlay.width, overlay.height, overlay.patch) == (16, 16, (8, 8))
    assert [(x, y, k) for x, y, k in overlay.names] == [(4, 4, 0), (12, 4, 1), (4, 12, 2), (12, 12, 3)]
    assert sorted(posters_line(overlay.borders)) == ["M0 8H16", "M8 0V16"]
    assert overlay.patches[0] == (0, 0, [(0, 1.0)]) and overlay.patches[4][2] == [(k, 0.25) for k in range(4)]


def posters_line(path: str) -> list[str]:
    return [f"M{part}" for part in path.split("M")[1:]]


def test_borders_follow_the_pixels_between_classes():
    classes = torch.tensor([[0, 0, 1], [0, 2, 2]])
    assert sorted(posters_line(posters.borders(classes))) == ["M1 1H3", "M1 1V2", "M2 0V1"]


@pytest.mark.parametrize("height", [8, 11])
def test_regions_with_majority_labels_are_the_cells_whose_patches_overlap(height):
    """Two classes above each other on a poster hardly higher than a patch, as `poster-digits-05` has them."""
    starts = torch.arange(0, height - 8 + 1)
    corners = torch.stack([torch.zeros_like(starts), starts, torch.zeros_like(starts)], 1)
    first = -(-height // 2)  # rows of the upper cell
    upper = torch.tensor([min(8, max(0, first - top)) for top in starts.tolist()])
    y = torch.stack([(upper >= 4).float(), (upper <= 4).float()], 1)
    y = y / y.sum(1, keepdim=True)
    rows = posters.regions(corners, y, (8, 8), (height, 8))[:, 0].tolist()
    assert rows == [0] * (first if height > 8 else 8) + [1] * (height - first if height > 8 else 0)
