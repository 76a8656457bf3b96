"""StyleGAN-XL's generator: filters and resampling against SciPy, layers against the equations, equivariance in dB."""

import json
import math

import numpy as np
import pytest
import scipy.signal
import torch
from support.equivariance import eq_t
from support.nvidia_pickles import their_filter
from torch import Tensor

from distill.nets import stylegan2, stylegan_xl
from distill.nets.stylegan_xl import (
    Layer,
    Signal,
    StyleGANXL,
    SynthesisLayer,
    between,
    downsample,
    draw,
    fault,
    grow,
    loaded,
    low_pass,
    plan,
    upsample,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(resolution: int = 16, layers: int = 5, classes: int = 3, **settings) -> StyleGANXL:
    settings = {"z_dim": 8, "w_dim": 8, "embedding_dim": 6, "generator": generator()} | settings
    return StyleGANXL(plan(resolution, layers, 64, 4), classes, **settings)


def settled(network: StyleGANXL, w: Tensor) -> StyleGANXL:
    """The network, with magnitudes of its features as after training."""
    for _ in network.plan:
        network.synthesis(w, beta=0.0)
    return network


# ---------------------------------------------------------------- layers


def test_the_layers_of_the_published_network_of_1024_px():
    """Sizes and channels of the published stylegan3-t networks, which are the names of their layers."""
    layers = plan(1024, 14)
    assert [f"{layer.target.size}_{layer.target.channels}" for layer in layers] == [
        "36_512", "36_512", "52_512", "52_512", "84_512", "148_512", "148_512", "276_323", "276_203", "532_128",
        "1044_81", "1044_51", "1044_32", "1024_32", "1024_3",
    ]  # fmt: skip
    assert [layer.target.rate for layer in layers] == [16, 16, 32, 32, 64, 128, 128, 256, 256, 512] + 5 * [1024]
    assert [layer.critical for layer in layers] == 12 * [False] + 3 * [True]
    assert [layer.rgb for layer in layers] == 14 * [False] + [True]
    for layer in layers:  # critical layers keep the band up to half the rate, the others stop below it
        assert math.isclose(layer.target.cutoff, 512) or layer.target.cutoff + layer.target.half_width >= 8
        assert layer.target.cutoff + layer.target.half_width <= layer.target.rate / 2 * 2**0.3 + 1e-9


@pytest.mark.parametrize("resolution, layers", [(20, 10), (4, 10), (16, 2)])
def test_sizes_that_make_no_network(resolution, layers):
    with pytest.raises(ValueError, match="must be"):
        plan(resolution, layers)


# ---------------------------------------------------------------- filters

SIGNALS = [Signal(1, 36, 16, 2.0, 6.0), Signal(1, 36, 16, 6.7, 2.15), Signal(1, 36, 16, 8.0, 1.85)]


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("factor", [2, 4])
def test_filters_are_scipys(signal, factor):
    rate = factor * signal.rate
    f = low_pass(6 * factor, signal.cutoff, signal.half_width, rate)
    assert torch.allclose(f, their_filter(6 * factor, signal, rate), atol=1e-7)
    radial = low_pass(6 * factor, signal.cutoff, signal.half_width, rate, radial=True)
    assert torch.allclose(radial, their_filter(6 * factor, signal, rate, radial=True), atol=1e-7)


def test_a_filter_passes_below_its_band_and_stops_above_it():
    frequencies, response = scipy.signal.freqz(low_pass(12, 4.0, 4.0, 32).double().numpy(), worN=512, fs=32)
    response = np.abs(response)
    assert abs(response[0] - 1) < 1e-6
    assert abs(response[np.searchsorted(frequencies, 4.0)] - 0.5) < 0.02
    assert response[frequencies > 8.0].max() < 0.01


@pytest.mark.parametrize("up, down, before, after", [(2, 2, 5, 4), (4, 2, -3, -5), (2, 4, 30, 28), (1, 2, 3, 2)])
def test_resampling_is_the_direct_computation(up, down, before, after):
    """Zeros between samples, padding, a filter, every down-th sample: written out with SciPy in float64."""
    x = torch.randn(2, 3, 17, 15, dtype=torch.float64)
    f_up = low_pass(6 * up, 4.0, 4.0, 16 * up).double() if up > 1 else None
    f_down = low_pass(6 * down, 4.0, 4.0, 16 * down).double()

    def direct(row: np.ndarray) -> np.ndarray:
        wide = np.zeros(len(row) * up)
        wide[::up] = row
        wide = np.concatenate([np.zeros(max(before, 0)), wide, np.zeros(max(after, 0))])
        wide = wide[max(-before, 0) : len(wide) - max(-after, 0)]
        return wide if f_up is None else np.convolve(wide, up * f_up.numpy(), "valid")

    def along_both(x: np.ndarray, function) -> np.ndarray:
        return np.apply_along_axis(function, 3, np.apply_along_axis(function, 2, x))

    expected = along_both(x.numpy(), direct)
    wide = upsample(x, f_up, up, before, after)
    assert np.allclose(wide.numpy(), expected, atol=1e-12)
    expected = along_both(expected, lambda row: np.convolve(row, f_down.numpy(), "valid")[::down])
    assert np.allclose(downsample(wide, f_down, down).numpy(), expected, atol=1e-12)
    assert np.allclose(downsample(wide, f_down[:, None] * f_down, down).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kernel, rgb", [(3, False), (1, False), (3, True)])
def test_a_layer_is_its_equations(kernel, rgb):
    """Weights made for each image, as in equations 1 to 3 of StyleGAN2, and one convolution per image."""
    source = Signal(4, 12, 16, 4.0, 4.0)
    target = source._replace(channels=3) if rgb else Signal(5, 20, 32, 8.0, 6.0)
    layer = SynthesisLayer(Layer(source, target, False, rgb, kernel), 6, generator()).double()
    layer.magnitude_ema.fill_(0.7)
    layer.bias.data.normal_()
    x, w = torch.randn(3, 4, 12, 12, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    for i, image in enumerate(x):
        style = layer.affine.weight @ w[i] / math.sqrt(6) + layer.affine.bias
        weight = layer.weight * style[:, None, None]
        if rgb:
            weight = weight / math.sqrt(4)
        else:
            weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        padding = 0 if rgb else kernel - 1
        y = torch.nn.functional.conv2d(image[None] / math.sqrt(0.7), weight, layer.bias, padding=padding)
        if not rgb:
            y = upsample(y, layer.up_filter, layer.up, layer.before, layer.after)
            y = downsample(torch.where(y > 0, y, 0.2 * y) * math.sqrt(2), layer.down_filter, layer.down)
        assert y.shape[1:] == (target.channels, target.size, target.size)
        assert torch.allclose(layer(x, w)[i], y[0], atol=1e-6)


def test_gradients_and_their_gradients_are_those_of_finite_differences():
    network = StyleGANXL(plan(8, 3, 16, 2), 2, z_dim=3, w_dim=3, embedding_dim=2, generator=generator()).double()
    w = network.mapping(torch.randn(1, 3, dtype=torch.float64), torch.tensor([1])).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: network.synthesis(w)[..., ::3, ::3], (w,))
    assert torch.autograd.gradgradcheck(lambda w: network.synthesis(w)[..., 2:4, 2:4], (w,), atol=1e-4)
    network.synthesis(w).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.synthesis.parameters())


# ---------------------------------------------------------------- equivariance


def shifted_images(network: StyleGANXL, w: Tensor):
    """Images of standard deviation 1/2, about that of photographs in [-1, 1], of shifted inputs."""
    scale = 0.5 / network.synthesis(w).std()

    def image_of(t: Tensor) -> Tensor:
        transform = torch.eye(3)
        transform[:2, 2] = -t  # of positions, so that the content moves the other way
        return network.synthesis(w, transform) * scale

    return image_of


def test_a_shifted_input_gives_the_shifted_image():
    """Table 1 of Karras et al. 2021: EQ-T of StyleGAN3-T is 63 dB; of the fractional one, 46 dB."""
    network = StyleGANXL(plan(16, 6, 128, 8), 0, w_dim=16, generator=generator()).requires_grad_(False)
    w = network.mapping(torch.randn(2, 64, generator=generator(1)))
    image_of = shifted_images(settled(network, w), w)
    assert eq_t(image_of, 16, fractional=False, shifts=4) > 50
    assert eq_t(image_of, 16, fractional=True, shifts=4) > 45


def test_so_does_a_later_stage():
    stem = StyleGANXL(plan(16, 6, 128, 8), 0, w_dim=16, generator=generator())
    network = grow(stem, 32, 5, generator(1), 256, 8).requires_grad_(False)
    w = network.mapping(torch.randn(2, 64, generator=generator(1)))
    image_of = shifted_images(settled(network, w), w)
    assert eq_t(image_of, 32, fractional=False, shifts=3) > 50
    assert eq_t(image_of, 32, fractional=True, shifts=3) > 45


def test_stylegan2_fails_the_same_test():
    """Its constant input, moved exactly as a band-limited torus, gives images that are no moved images."""
    size = stylegan2.Size(32, 3, 0, 16, 16, 2, 256, 8)
    network = stylegan2.Generator(size).initialise(generator()).requires_grad_(False)
    w = network.mapping(torch.randn(2, 16, generator=generator(1)), None)
    const, scale = network.synthesis.b4.const.data.clone(), 0.5 / network.synthesis(w)[1].std()

    def image_of(t: Tensor) -> Tensor:
        frequency = torch.fft.fftfreq(4, 1 / 4)
        phase = torch.exp(-2j * math.pi * (frequency[:, None] * t[1] + frequency * t[0]))
        network.synthesis.b4.const.data = torch.fft.ifft2(torch.fft.fft2(const) * phase).real.float()
        return network.synthesis(w)[1] * scale

    assert eq_t(image_of, 32, fractional=False, shifts=4) < 25
    assert eq_t(image_of, 32, fractional=True, shifts=4) < 25


def test_the_measure_itself():
    """A band-limited picture, moved exactly, is equivariant; one that stays in place is not."""

    def waves(t: Tensor) -> Tensor:
        x = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
        picture = torch.sin(2 * math.pi * 3 * (x[:, None] - t[1])) * torch.cos(2 * math.pi * 2 * (x - t[0]))
        return picture[None, None]

    assert eq_t(waves, 32, fractional=False, shifts=3) > 200
    assert eq_t(waves, 32, fractional=True) > 45  # of a Lanczos filter of three lobes
    assert eq_t(lambda t: waves(0 * t), 32, fractional=False) < 15
    assert eq_t(lambda t: waves(-t), 32, fractional=True) < 15


def test_a_rotated_input_gives_the_rotated_image():
    """By a quarter turn, which is exact on the grid of pixels, with config R's 1x1 kernels and radial filters."""
    layers = [layer._replace(kernel=1, radial=True) for layer in plan(16, 6, 128, 8)]
    network = StyleGANXL(layers, 0, w_dim=16, generator=generator()).requires_grad_(False)
    w = network.mapping(torch.randn(2, 64, generator=generator(1)))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    still, turned = settled(network, w).synthesis(w), network.synthesis(w, turn)
    error = (turned - still.rot90(1, (2, 3))).square().mean() / still.square().mean()
    assert error < 1e-4


# ---------------------------------------------------------------- classes, truncation, stages


def test_classes_enter_through_a_projection_of_frozen_embeddings():
    network = small()
    assert "mapping.embedding" not in dict(network.named_parameters())
    z = torch.randn(1, 8).expand(3, -1)
    w = network.mapping(z, torch.arange(3))
    y = network.mapping.projection(network.mapping.embedding)
    x = torch.cat([stylegan_xl.normalize(z), stylegan_xl.normalize(y)], 1)
    for layer in network.mapping.layers:
        x = torch.nn.functional.linear(x, layer.weight * 0.01 / math.sqrt(x.shape[1]), layer.bias * 0.01)
        x = torch.nn.functional.leaky_relu(x, 0.2) * math.sqrt(2)
    assert torch.allclose(w, x, atol=1e-6)
    assert (w[0] - w[1]).abs().max() > 0.01


def test_truncation_moves_w_toward_the_mean_of_its_class():
    network = small()
    network.mapping.measure(200, generator())
    z, labels = torch.randn(3, 8), torch.tensor([2, 0, 2])
    whole, mean = network.mapping(z, labels), network.mapping.w_avg[labels]
    assert torch.allclose(network.mapping(z, labels, 0.7), mean + 0.7 * (whole - mean), atol=1e-6)
    assert torch.equal(network(z, labels, 0.0)[0], network(z, labels, 0.0)[2])
    many = torch.randn(200, 8, generator=generator())
    for k in range(3):
        assert torch.allclose(network.mapping.w_avg[k], network.mapping(many, torch.full((200,), k)).mean(0), atol=1e-5)


def test_the_mean_of_each_class_follows_training_batches():
    mapping = small().mapping
    w, labels = torch.randn(4, 8), torch.tensor([0, 2, 2, 2])
    mapping.w_avg.fill_(1.0)
    mapping.track(w, labels, beta=0.9)
    assert torch.allclose(mapping.w_avg[0], 0.9 + 0.1 * w[0])
    assert torch.equal(mapping.w_avg[1], torch.ones(8))
    assert torch.allclose(mapping.w_avg[2], 0.9**3 + (1 - 0.9**3) * w[1:].mean(0))
    alone = small(classes=0).mapping
    alone.track(w, beta=0.9)
    assert torch.allclose(alone.w_avg[0], (1 - 0.9**4) * w.mean(0))


def test_magnitudes_are_averaged_and_divided_out():
    network = small()
    w = network.mapping(torch.randn(4, 8), torch.zeros(4, dtype=torch.long))
    before = network.synthesis.layers[0].magnitude_ema.clone()
    x = network.synthesis.input(w)
    network.synthesis(w, beta=0.9)
    first = network.synthesis.layers[0].magnitude_ema
    assert torch.allclose(first, 0.9 * before + 0.1 * x.square().mean())
    images = settled(network, w).synthesis(w)
    network.synthesis.input.weight.data *= 3
    assert torch.allclose(settled(network, w).synthesis(w), images, atol=1e-4)


def test_images_do_not_depend_on_those_beside_them():
    network = small()
    z, labels = torch.randn(3, 8), torch.tensor([0, 1, 2])
    z[2] *= 50
    assert torch.allclose(network(z, labels)[:1], network(z[:1], labels[:1]), atol=1e-6)


def test_a_next_stage_keeps_and_freezes_all_but_the_critical_layers():
    stem = small(16, 6)
    grown = grow(stem, 32, 5, generator(1), 64, 4)
    assert grown.resolution == 32 and len(grown.plan) == (6 - 2) + 5 + 1 and grown.frozen == 4
    assert grown.plan[:4] == stem.plan[:4] and grown.plan[4].source == stem.plan[3].target
    z, labels = torch.randn(2, 8), torch.tensor([0, 1])
    assert torch.equal(grown.mapping(z, labels), stem.mapping(z, labels))
    before = {name: p.detach().clone() for name, p in grown.named_parameters()}
    learned = [p for p in grown.parameters() if p.requires_grad]
    grown(z, labels).square().sum().backward()
    torch.optim.SGD(learned, 0.1).step()
    moved = {name for name, p in grown.named_parameters() if not torch.equal(p, before[name])}
    new = {name for name in before if name.startswith("synthesis.layers") and int(name.split(".")[2]) >= 4}
    assert moved == new
    third = grow(grown, 64, 5, generator(2), 64, 4)
    assert third.frozen == 4 + 3 and third(z, labels).shape == (2, 3, 64, 64)
    assert torch.equal(third.synthesis.layers[6].weight, grown.synthesis.layers[6].weight)
    with pytest.raises(ValueError, match="larger than 32 px"):
        grow(grown, 32)


# ---------------------------------------------------------------- published sets


def test_images_are_drawn_from_settings_and_weights(monkeypatch):
    monkeypatch.setattr(stylegan_xl, "CHUNK", 4)
    network = grow(small(16, 4), 32, 4, generator(1), 64, 4)
    network.mapping.measure(10, generator())
    settings = json.loads(json.dumps(network.settings((30, 28), [2.0, 1.0, 1.0], [0.5, 0.0, 0.0])))
    assert fault(network.state_dict(), settings, 3) == ""
    assert "3 classes, the set of 4" in fault(network.state_dict(), settings, 4)
    labels = torch.arange(3).repeat(2)
    drawn = draw(network.state_dict(), settings, labels, generator(3), 0.5)
    g = generator(3)
    z = torch.cat([torch.randn(4, 8, generator=g), torch.randn(2, 8, generator=g)])
    with torch.no_grad():
        expected = network(z, labels, 0.5)[:, :, 1:31, 2:30]
    expected = expected * torch.tensor([2.0, 1, 1])[:, None, None] + torch.tensor([0.5, 0, 0])[:, None, None]
    assert torch.allclose(drawn, expected, atol=1e-6)
    assert loaded(network.state_dict(), settings).frozen == network.frozen
    way = between(network.state_dict(), settings, torch.tensor([0, 2]), (1, 2), 3, 0.5)
    z = torch.randn(1, 8, generator=generator(2)).expand(2, -1)
    with torch.no_grad():
        last = network(z, torch.tensor([0, 2]), 0.5)[:, :, 1:31, 2:30]
    assert way.shape == (3, 2, 3, 30, 28) and torch.allclose(way[2, :, 1:], last[:, 1:], atol=1e-6)


FAULTS = {
    "a weight less": lambda weights, settings: weights.pop("mapping.w_avg"),
    "another shape": lambda weights, settings: weights.update({"mapping.w_avg": torch.zeros(3, 9)}),
    "integers": lambda weights, settings: weights.update({"mapping.w_avg": torch.zeros(3, 8, dtype=torch.int64)}),
    "a huge side": lambda weights, settings: settings["layers"][0][1].__setitem__(1, 10**6),
    "a rate of zero": lambda weights, settings: settings["layers"][0][1].__setitem__(2, 0),
    "a negative cutoff": lambda weights, settings: settings["layers"][0][1].__setitem__(3, -1.0),
    "rates that do not fit": lambda weights, settings: settings["layers"][0][1].__setitem__(2, 17),
    "a huge kernel": lambda weights, settings: settings["layers"][0].__setitem__(4, 10**6),
    "many classes": lambda weights, settings: settings.update(classes=10**12),
    "a size as text": lambda weights, settings: settings.update(z_dim="8"),
    "a crop outside": lambda weights, settings: settings.update(image=[17, 16]),
    "a scale for two channels": lambda weights, settings: settings.update(scale=[1.0, 1.0], shift=[0.0, 0.0]),
    "other classes": lambda weights, settings: settings.update(classes=4),
    "no layers": lambda weights, settings: settings.update(layers=[]),
    "no size": lambda weights, settings: settings.pop("w_dim"),
    "an unknown setting": lambda weights, settings: settings.update(other=1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_files_are_refused_before_anything_is_made(name):
    network = small()
    weights, settings = network.state_dict(), json.loads(json.dumps(network.settings()))
    FAULTS[name](weights, settings)
    assert "its generator" in fault(weights, settings, 3)


def test_it_compiles_without_graph_breaks():
    network = small(8, 3)
    z, labels = torch.randn(2, 8), torch.tensor([0, 1])
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(z, labels, 0.5), network(z, labels, 0.5), atol=1e-5)
