"""Preprocessing against kornia's whitening and numpy's statistics, and there and back again."""

import numpy as np
import pytest
import torch
from kornia.enhance import ZCAWhitening

from distill.data.preprocess import fit, transform
from distill.errors import DataError
from distill.rng import generator

CPU = torch.device("cpu")


def pictures(n: int, c: int = 3, side: int = 4) -> torch.Tensor:
    """uint8 images whose pixels are correlated and whose channels differ."""
    x = torch.rand(n, c, side, side, generator=generator(0, "pictures"), dtype=torch.float64)
    x = x.cumsum(2).cumsum(3) / side**2 * torch.linspace(0.4, 0.9, c, dtype=torch.float64).view(c, 1, 1)
    return (x * 255).round().to(torch.uint8)


@pytest.mark.parametrize("n", [300, 5000, 20])  # several chunks; fewer images than the 48 pixels
def test_zca_is_kornias(n):
    x, unseen = pictures(n), pictures(n + 10)[n:]
    truth = ZCAWhitening(eps=0.1, compute_inv=True).fit(x.double() / 255)
    ours = fit("zca", x, CPU)
    seen = torch.cat((x, unseen))
    assert torch.allclose(transform(ours, seen, CPU).double(), truth(seen.double() / 255), atol=1e-5)
    noise = torch.randn(10, 3, 4, 4, generator=generator(0, "noise"), dtype=torch.float64)
    assert torch.allclose(ours.inverse(noise), truth.inverse_transform(noise), atol=1e-5)


def test_zca_decorrelates():
    x = pictures(4000, c=1)
    white = transform(fit("zca", x, CPU), x, CPU).flatten(1).double()
    covariance, before = white.T.cov(), (x.flatten(1).double() / 255).T.cov()
    values = torch.linalg.eigvalsh(before)
    assert torch.allclose(torch.linalg.eigvalsh(covariance), values / (values + 0.1), atol=1e-4)


def test_standardize_uses_the_deviation_of_all_pixels_of_a_channel():
    x = pictures(50)
    out = transform(fit("standardize", x, CPU), x, CPU)
    values = x.numpy() / 255
    expected = (values - values.mean((0, 2, 3), keepdims=True)) / values.std((0, 2, 3), keepdims=True)
    assert np.allclose(out.numpy(), expected, atol=1e-5)


def test_a_constant_channel_stays_finite():
    x = pictures(20)
    x[:, 1] = 7
    out = transform(fit("standardize", x, CPU), x, CPU)
    assert torch.equal(out[:, 1], torch.zeros(20, 4, 4))


def test_none_is_zero_to_one():
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert torch.allclose(transform(fit("none", x, CPU), x, CPU).flatten(), torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize("kind", ["standardize", "zca", "none"])
def test_there_and_back(kind):
    x = pictures(200)
    preprocess = fit(kind, x, CPU)
    out = transform(preprocess, x, CPU)
    assert out.dtype == torch.float32 and out.shape == x.shape
    assert torch.allclose(preprocess.to_pixels(out) * 255, x.float(), atol=1e-3)
    pixels = preprocess.to_pixels(out * 50)
    assert pixels.min() == 0 and pixels.max() == 1
    assert preprocess.inverse(out * 50).max() > 1


def test_zca_podd_by_hand():
    """Three images of four pixels, worked out without eigenvectors of the code's own: by numpy on 0..255 in float64."""
    x = torch.tensor([[0, 2, 4, 2], [9, 1, 1, 1], [0, 0, 255, 1]], dtype=torch.uint8).view(3, 1, 2, 2)
    # less their means (2, 3, 64), over their lengths sqrt(8), sqrt(48), sqrt(48642)
    rows = np.array([[-2, 0, 2, 0], [6, -2, -2, -2], [-64, -64, 191, -63]]) / np.sqrt([[8], [48], [48642]])
    e, v = np.linalg.eigh(rows.T @ rows / 3)
    assert np.isclose(e.mean(), 1 / 4)  # each row has length 1, so the eigenvalues add up to 1
    expected = rows @ v @ np.diag((e + 0.025) ** -0.5) @ v.T
    ours = fit("zca-podd", x, CPU)
    assert np.allclose(transform(ours, x, CPU).flatten(1).numpy(), expected, atol=1e-4)
    unseen = torch.tensor([3, 5, 3, 1], dtype=torch.uint8).view(1, 1, 2, 2)
    new = np.array([0, 2, 0, -2]) / np.sqrt(8) @ v @ np.diag((e + 0.025) ** -0.5) @ v.T  # the training images' matrix
    assert np.allclose(transform(ours, unseen, CPU).flatten(1).numpy(), new, atol=1e-4)
    lengths, level = np.sqrt([8, 48, 48642]).mean() / 255, (2 + 3 + 64) / 3 / 255
    assert np.allclose(ours.inverse(torch.from_numpy(expected).view(3, 1, 2, 2)).flatten(1), rows * lengths + level)


def test_zca_podd_is_another_whitening_and_its_covariance_is_what_the_formula_says():
    x = pictures(4500, c=1)
    white = transform(fit("zca-podd", x, CPU), x, CPU).flatten(1).double()
    rows = x.flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    values = torch.linalg.eigvalsh(rows.T @ rows / len(rows))
    covariance = white.T @ white / len(white)
    assert torch.allclose(torch.linalg.eigvalsh(covariance), (values / (values + values.mean() / 10)), atol=1e-4)
    assert not torch.allclose(white, transform(fit("zca", x, CPU), x, CPU).flatten(1).double(), atol=0.1)


def test_zca_podd_of_a_constant_image_is_finite():
    x = pictures(20)
    x[3] = 7
    assert torch.equal(transform(fit("zca-podd", x, CPU), x, CPU)[3], torch.zeros(3, 4, 4))


@pytest.mark.parametrize("kind", ["standardize", "zca", "zca-podd"])
def test_all_chunks_are_transformed_alike(kind):
    x = pictures(5000)
    preprocess = fit(kind, x, CPU)
    assert torch.allclose(transform(preprocess, x, CPU)[4990:], transform(preprocess, x[4990:], CPU), atol=1e-6)


@pytest.mark.parametrize("kind", ["zca", "zca-podd"])
def test_zca_of_large_images_is_refused(kind):
    with pytest.raises(DataError, match=f"{kind}.*27648 x 27648.*standardize"):
        fit(kind, torch.zeros(2, 3, 96, 96, dtype=torch.uint8), CPU)
