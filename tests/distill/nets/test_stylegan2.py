"""StyleGAN2 against its equations: per-image weights, the filter, statistics, truncation, budgets counted by hand."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from distill.nets import stylegan2
from distill.nets.stylegan2 import Generator, Size, fit, modulated, resample, upsampled
from distill.nets.stylegan2_discriminator import Conv, Discriminator, with_deviation

TINY = Size(8, 2, 3, z=4, w=5, mapping=2, base=24, most=3)


def g(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=g(seed), dtype=dtype)


def loud(net, seed=5):
    """Random values in every parameter, so that biases, noise strengths and all others matter."""
    with torch.no_grad():
        for i, (name, p) in enumerate(net.named_parameters()):
            multiplier = 0.01 if "fc" in name and "mapping" in name else 1
            p.copy_(normal(*p.shape, seed=seed + i, dtype=torch.float32) / multiplier)
    return net


def zeros_between(x):
    n, c, h, w = x.shape
    out = x.new_zeros(n, c, 2 * h, 2 * w)
    out[:, :, ::2, ::2] = x
    return out


def filtered(x, before, after, gain):
    """The 4x4 filter, as one plain convolution of each map."""
    taps = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype) / 8
    kernel = (taps[:, None] * taps * gain)[None, None]
    x = F.pad(x, (before, after, before, after))
    return F.conv2d(x.flatten(0, 1)[:, None], kernel).unflatten(0, x.shape[:2])[:, :, 0]


# ---------------------------------------------------------------- modulated convolutions


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_a_modulated_convolution_is_one_with_explicit_weights_for_each_image(demodulate, up):
    x, weight, styles = normal(4, 3, 6, 6), normal(5, 3, 3, 3, seed=1), normal(4, 3, seed=2)
    expected = []
    for image, style in zip(x, styles, strict=True):
        own = weight * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # a true convolution of the image with zeros between its pixels, then the filter
            y = F.conv2d(F.pad(zeros_between(image[None]), (2, 1, 2, 1)), own.flip(2, 3))
            y = filtered(y, 1, 1, 4)
        else:
            y = F.conv2d(image[None], own, padding=1)
        expected.append(y[0])
    got = modulated(x, weight, styles, demodulate, up)
    assert got.shape == ((4, 5, 12, 12) if up else (4, 5, 6, 6))
    assert torch.allclose(got, torch.stack(expected), atol=1e-12)


def test_demodulation_keeps_the_variance_whatever_the_styles():
    x, weight = normal(64, 16, 8, 8, dtype=torch.float32), normal(12, 16, 3, 3, seed=1, dtype=torch.float32)
    styles = 10 ** normal(64, 16, seed=2, dtype=torch.float32)
    inside = modulated(x, weight, styles)[:, :, 1:-1, 1:-1]  # away from the padding
    assert abs(inside.std().item() - 1) < 0.02
    assert modulated(x, weight, styles, demodulate=False).std() > 50
    assert torch.allclose(inside, modulated(x, weight, 1000 * styles)[:, :, 1:-1, 1:-1], rtol=1e-3, atol=1e-3)


def test_the_filter_is_1_3_3_1_and_upsampling_is_zeros_and_the_filter():
    x = normal(2, 3, 5, 7)
    assert torch.allclose(resample(x, 2, 1), filtered(x, 2, 1, 1), atol=1e-14)
    assert torch.allclose(upsampled(x), filtered(zeros_between(x), 2, 1, 4), atol=1e-14)
    flat = upsampled(torch.ones(1, 1, 6, 6))
    assert torch.allclose(flat[..., 1:-1, 1:-1], torch.ones(10, 10)), "a constant stays one"


def test_the_fresh_generator_has_the_paper_s_statistics():
    size = Size(16, 3, 10, z=64, w=64, mapping=4, base=2048, most=64)
    net = Generator(size).initialise(g())
    z, labels = net.latents(200, g(1)), torch.arange(200) % 10
    w = net.mapping(z, labels)
    assert abs(w.square().mean().sqrt().item() - 1) < 0.15  # every layer keeps the mean square
    assert abs(net.mapping.fc0.weight.std().item() - 100) < 2 and net.mapping.fc0.gain == pytest.approx(0.01 / 128**0.5)
    assert 0.2 < net.synthesis(w)[1].std().item() < 1.5
    assert all(c.affine.bias.eq(1).all() and c.noise_strength == 0 for _, b in net.synthesis.blocks() for c in b.convs)


# ---------------------------------------------------------------- the generator, written out


def by_hand(net, z, labels, noise):
    """The whole generator of TINY's form, layer by layer, from its state by name."""
    s = {name: t.double() for name, t in net.state_dict().items()}
    norm = lambda v: v / (v.square().mean(1, keepdim=True) + 1e-8).sqrt()  # noqa: E731
    lrelu = lambda v: torch.where(v > 0, v, 0.2 * v) * math.sqrt(2)  # noqa: E731

    def linear(name, v, multiplier=1.0):
        weight = s[f"{name}.weight"]
        return v @ weight.T * (multiplier / math.sqrt(weight.shape[1])) + s[f"{name}.bias"] * multiplier

    hot = F.one_hot(labels, 3).double()
    w = torch.cat([norm(z), norm(linear("mapping.embed", hot))], 1)
    for i in range(2):
        w = lrelu(linear(f"mapping.fc{i}", w, 0.01))

    def conv(name, x, noise, up):
        y = modulated(x, s[f"{name}.weight"], linear(f"{name}.affine", w), True, up)
        return lrelu(y + noise * s[f"{name}.noise_strength"] + s[f"{name}.bias"][:, None, None])

    def rgb(name, x):
        style = linear(f"{name}.affine", w) / math.sqrt(x.shape[1])
        return modulated(x, s[f"{name}.weight"], style, False) + s[f"{name}.bias"][:, None, None]

    x = s["synthesis.b4.const"].repeat(len(z), 1, 1, 1)
    x = conv("synthesis.b4.conv1", x, noise[0], False)
    image = rgb("synthesis.b4.torgb", x)
    x = conv("synthesis.b8.conv0", x, noise[1], True)
    x = conv("synthesis.b8.conv1", x, noise[2], False)
    return upsampled(image) + rgb("synthesis.b8.torgb", x)


def test_the_generator_is_its_layers_in_order():
    net = loud(Generator(TINY)).double()
    z, labels, noise = normal(6, 4), torch.tensor([0, 1, 2, 2, 1, 0]), net.noise(6, g(3))
    assert [n.shape for n in noise] == [(6, 1, 4, 4), (6, 1, 8, 8), (6, 1, 8, 8)]
    assert torch.allclose(net(z, labels, noise), by_hand(net, z, labels, noise), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(net(z, labels, noise), net(z, labels))


def test_names_are_those_of_the_published_generators():
    names = set(Generator(replace(TINY, mapping=1)).state_dict())
    conv = ("affine.weight", "affine.bias", "weight", "bias", "noise_strength", "noise_const")
    rgb = [f"torgb.{n}" for n in ("affine.weight", "affine.bias", "weight", "bias")]
    b4 = ["const", *(f"conv1.{n}" for n in conv), *rgb]
    b8 = [*(f"conv{i}.{n}" for i in (0, 1) for n in conv), *rgb]
    mapping = ["embed.weight", "embed.bias", "fc0.weight", "fc0.bias", "w_avg"]
    assert names == {f"mapping.{n}" for n in mapping} | {f"synthesis.b4.{n}" for n in b4} | {
        f"synthesis.b8.{n}" for n in b8
    }


def test_the_second_half_continues_from_the_first():
    net = loud(Generator(replace(TINY, resolution=16, base=48)))
    w = normal(3, net.size.styles, 5, dtype=torch.float32)
    x, image = net.synthesis(w, stop=8)
    assert x.shape == (3, 3, 8, 8) and image.shape == (3, 2, 8, 8)
    noise = net.noise(3, g())
    assert torch.allclose(net.synthesis(w, start=16, x=x, image=image)[1], net.synthesis(w)[1])
    x, image = net.synthesis(w, noise, stop=4)
    assert torch.allclose(net.synthesis(w, noise, 8, x, image)[1], net.synthesis(w, noise)[1])


def test_first_and_second_derivatives_are_those_of_finite_differences():
    net = loud(Generator(replace(TINY, base=16, most=2, w=3))).double()
    names, values = zip(*((n, p.detach()) for n, p in net.named_parameters()), strict=True)
    chosen = [names.index(f"synthesis.{n}") for n in ("b8.conv0.weight", "b8.conv0.affine.weight", "b8.torgb.weight")]
    noise = net.noise(2, g())

    def image(z, *some):
        state = dict(zip(names, values, strict=True)) | {names[i]: v for i, v in zip(chosen, some, strict=True)}
        return torch.func.functional_call(net, state, (z, torch.tensor([0, 2]), noise)).tanh()

    inputs = (normal(2, 4), *(values[i].clone() for i in chosen))
    inputs = tuple(t.requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(image, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(image, inputs, fast_mode=True)


@pytest.mark.slow
def test_the_whole_generator_and_discriminator_are_one_graph():
    """With the eager backend: what torch.compile could not trace would raise."""
    net, judge = loud(Generator(TINY)), loud(Discriminator(TINY))
    z, labels, noise = net.latents(4, g()), torch.tensor([0, 1, 2, 0]), net.noise(4, g())
    for f, inputs in ((net, (z, labels, noise)), (judge, (net(z, labels).detach(), labels))):
        assert torch.allclose(torch.compile(f, fullgraph=True, backend="aot_eager")(*inputs), f(*inputs), atol=1e-5)


@pytest.mark.slow
def test_the_compiled_generator_is_the_eager_one_with_its_gradients():
    net = loud(Generator(TINY)).double()
    z, labels, noise = normal(2, 4), torch.tensor([0, 1]), net.noise(2, g())
    compiled = torch.compile(net, fullgraph=True)
    slopes = [torch.autograd.grad(f(z, labels, noise).square().sum(), list(net.parameters())) for f in (compiled, net)]
    assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-8) for a, b in zip(*slopes, strict=True))


# ---------------------------------------------------------------- truncation


def test_truncation_moves_w_towards_the_mean_of_all_or_of_the_class():
    net = loud(Generator(TINY))
    z, labels = net.latents(5, g()), torch.tensor([0, 1, 2, 2, 1])
    w = net.mapping(z, labels)
    net.mapping.w_avg = normal(5, seed=9, dtype=torch.float32)
    assert torch.allclose(net.mapping(z, labels, 0.3), 0.3 * w + 0.7 * net.mapping.w_avg, atol=1e-6)
    net.mapping.w_avg = normal(3, 5, seed=9, dtype=torch.float32)
    assert torch.allclose(net.mapping(z, labels, 0.3), 0.3 * w + 0.7 * net.mapping.w_avg[labels], atol=1e-6)
    assert torch.equal(net.mapping(z, labels, 1.0), w)


def test_drawn_images_truncate_to_the_mean_of_their_class():
    net = loud(Generator(TINY))
    weights = {n: p.detach() for n, p in net.named_parameters()}
    for name in [n for n in weights if n.endswith("noise_strength")]:
        weights[name] = torch.zeros(())
    settings, labels = stylegan2.settings(TINY), torch.tensor([0, 0, 1, 2])
    draw = lambda psi, w=weights: stylegan2.draw(w, settings, labels, g(4), psi)  # noqa: E731
    still = draw(0.0)
    assert torch.allclose(still[0], still[1], atol=1e-5) and not torch.allclose(still[0], still[2], atol=1e-2)
    z = torch.randn(stylegan2.AVERAGED, 4, generator=g(0))
    mean = net.mapping(z, torch.full((len(z),), 2)).mean(0, keepdim=True)
    assert torch.allclose(still[3:], net.synthesis(mean)[1], atol=1e-5)
    apart = [(draw(psi)[0] - draw(psi)[1]).norm().item() for psi in (0.0, 0.3, 1.0)]
    assert apart[0] < 1e-4 < apart[1] < apart[2]
    shared = {**weights, "mapping.w_avg": torch.zeros(5)}
    assert torch.allclose(draw(0.0, shared), net.synthesis(torch.zeros(4, 5))[1], atol=1e-5)


def test_images_between_two_seeds_start_and_end_at_them():
    net = loud(Generator(TINY))
    weights, settings = dict(net.named_parameters()), stylegan2.settings(TINY)
    frames = stylegan2.between(weights, settings, torch.tensor([1, 2]), (3, 4), 5, 1.0)
    assert frames.shape == (5, 2, 2, 8, 8)
    for at, seed in ((0, 3), (4, 4)):
        z = torch.randn(1, 4, generator=g(seed)).expand(2, -1)
        assert torch.allclose(frames[at], net(z, torch.tensor([1, 2])), atol=1e-4)
    w = [net.mapping(torch.randn(1, 4, generator=g(s)), torch.tensor([1])) for s in (3, 4)]
    assert torch.allclose(frames[2, 0], net.synthesis((w[0] + w[1]) / 2)[1][0], atol=1e-4)


def test_images_are_cropped_in_the_middle_scaled_and_shifted():
    net = loud(Generator(TINY))
    weights, labels = {n: p.detach() for n, p in net.named_parameters()}, torch.arange(3)
    whole = stylegan2.draw(weights, stylegan2.settings(TINY), labels, g())
    part = stylegan2.draw(weights, stylegan2.settings(TINY, (6, 5), [2.0, 3.0], [1.0, -1.0]), labels, g())
    expected = whole[:, :, 1:7, 1:6] * torch.tensor([2.0, 3.0])[:, None, None] + torch.tensor([1.0, -1])[:, None, None]
    assert torch.equal(part, expected)


# ---------------------------------------------------------------- budgets


def test_floats_are_those_counted_by_hand():
    """TINY: z 4, w 5, 3 classes; 3 maps at 4x4 (24 / 4 = 6, at most 3) and 3 at 8x8."""
    mapping = (3 * 5 + 5) + ((4 + 5) * 5 + 5) + (5 * 5 + 5)
    conv = (5 * 3 + 3) + 3 * 3 * 9 + 3 + 1  # affine, weight, bias, noise strength
    rgb = (5 * 3 + 3) + 2 * 3 + 2
    assert TINY.floats() == mapping + 3 * 16 + 3 * conv + 2 * rgb
    assert Size(32, 3, 10, 8, 8, 2, base=64, most=512).maps(4) == 16 and Size(32, 3, 10, 8, 8, 2, 64, 512).maps(32) == 2


def test_cifar_10_at_one_image_per_class_is_a_generator_of_30_thousand_floats():
    size = fit(32 * 32 * 3 * 10, 32, 3, 10)
    assert 0.97 * 30_720 < size.floats() <= 30_720 and size.mapping == 2 and size.w >= 2 * size.most
    assert replace(size, w=size.w + 1, z=size.z + 1).floats() > 30_720
    assert size.most == 17 and size.maps(4) == size.maps(32) == 17


@pytest.mark.parametrize("budget", [700, 3000, 50_000, 1_000_000])
@pytest.mark.parametrize("given", [{}, {"w": 6}, {"z": 3}, {"base": 64}, {"mapping": 4}])
def test_a_budget_is_kept_and_what_is_given_stays(budget, given):
    size = fit(budget, 16, 3, 2, **given)
    assert size.floats() <= budget and all(getattr(size, name) == value for name, value in given.items())


def test_a_budget_below_the_smallest_generator_is_refused_with_its_number():
    smallest = Size(32, 3, 10, 2, 2, 2, 32, 1).floats()
    assert fit(smallest, 32, 3, 10).floats() == smallest
    with pytest.raises(ValueError, match=f"a budget of {smallest - 1} floats: the smallest generator has {smallest}"):
        fit(smallest - 1, 32, 3, 10)


# ---------------------------------------------------------------- files


def test_what_does_not_fit_a_generator_is_named():
    weights = {n: p.detach() for n, p in Generator(TINY).state_dict().items()}
    good = stylegan2.settings(TINY)
    assert stylegan2.fault(weights, good) == ""
    assert stylegan2.fault({**weights, "mapping.w_avg": torch.zeros(3, 5)}, good) == ""
    for change, says in (
        ({"resolution": 2**40}, "resolution"), ({"resolution": 12}, "power of two"), ({"channels": True}, "channels"),
        ({"z": -1}, "z of its"), ({"w": 10**9}, "w of its"), ({"most": "3"}, "most"), ({"mapping": 10**6}, "mapping"),
        ({"image": [9, 8]}, "9x8"), ({"image": None}, "damaged"), ({"scale": [1.0]}, "scale"), ({"more": 1}, "damaged"),
        ({"scale": [1.0, 1.0]}, "scale and shift"), ({"lr_multiplier": 0}, "lr_multiplier"), ({"w": 6}, "does not fit"),
    ):  # fmt: skip
        assert says in stylegan2.fault(weights, {**good, **change}), change
    lacking = {n: t for n, t in weights.items() if n != "synthesis.b4.const"}
    assert stylegan2.fault(lacking, good) == "its generator lacks synthesis.b4.const"
    assert "extra" in stylegan2.fault({**weights, "extra": torch.zeros(1)}, good)
    assert "w_avg" in stylegan2.fault({**weights, "mapping.w_avg": torch.zeros(4, 5)}, good)
    assert "const" in stylegan2.fault({**weights, "synthesis.b4.const": torch.zeros(3, 4, 4).long()}, good)


# ---------------------------------------------------------------- the discriminator


def test_minibatch_deviation_is_that_of_every_group():
    x = normal(6, 2, 4, 4)
    out = with_deviation(x)  # 6 images: groups of 3, {0, 2, 4} and {1, 3, 5}
    assert out.shape == (6, 3, 4, 4) and torch.equal(out[:, :2], x)
    for first in (0, 1):
        expected = (x[first::2].var(0, correction=0) + 1e-8).sqrt().mean()
        assert torch.allclose(out[first::2, 2], expected.expand(3, 4, 4))
    assert with_deviation(x[:1])[:, 2].abs().max() < 1e-3 and with_deviation(x[:5]).shape == (5, 3, 4, 4)


def test_a_convolution_that_halves_filters_first():
    x = normal(2, 3, 8, 8)
    for kernel in (1, 3):
        conv = loud(Conv(3, 4, kernel, down=True)).double()
        y = filtered(x, 1 + kernel // 2, 1 + kernel // 2, 1)
        expected = F.conv2d(y, conv.weight / math.sqrt(3 * kernel**2), conv.bias)[:, :, ::2, ::2]
        assert conv(x).shape == (2, 4, 4, 4) and torch.allclose(conv(x), expected, atol=1e-12)


def test_the_discriminator_sees_classes_and_keeps_unit_variance():
    size = Size(16, 3, 10, 8, 8, 2, base=512, most=32)
    net = Discriminator(size).initialise(g())
    x = normal(64, 3, 16, 16, dtype=torch.float32)
    labels = torch.arange(64) % 10
    logits = net(x, labels)
    assert logits.shape == (64, 1) and 0.3 < logits.std().item() < 3
    assert not torch.allclose(net(x, (labels + 1) % 10), logits)
    plain = Discriminator(replace(size, classes=0)).initialise(g())
    assert plain(x).shape == (64, 1) and "mapping.fc0.weight" not in plain.state_dict()
    features = net.b16(x)
    assert features.shape == (64, 32, 8, 8) and 0.4 < features.std().item() < 1.6


def test_the_discriminator_s_penalty_on_its_gradient_can_be_differentiated():
    net = loud(Discriminator(TINY)).double()
    x = normal(2, 2, 8, 8).requires_grad_()

    def penalty(weight):
        state = dict(net.named_parameters()) | {"b8.conv1.weight": weight}
        out = torch.func.functional_call(net, state, (x, torch.tensor([0, 1]))).sum()
        return torch.autograd.grad(out, x, create_graph=True)[0].square().sum()

    assert torch.autograd.gradcheck(penalty, net.b8.conv1.weight.detach().clone().requires_grad_(), fast_mode=True)
