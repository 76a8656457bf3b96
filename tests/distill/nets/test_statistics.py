"""Batch norm when judging: statistics of the training images, gathered without a module that remembers anything."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vmap

from distill import nets, recipe, rng


def build(**settings):
    return nets.build(recipe.ConvNet(depth=2, width=4, **settings), (3, 8, 8), 3)


@pytest.fixture
def trained():
    """A network, its parameters in float64 with norms that are not trivial, and images."""
    net = build(norm="batch")
    theta = net.init(rng.generator(0, "theta")).double()
    theta += 0.1 * torch.randn(theta.shape, generator=rng.generator(0, "moved"))
    return net, theta, torch.randn(24, 3, 8, 8, generator=rng.generator(0, "x")).double() * 2 + 1


def torch_network(net: nets.Network, theta) -> nn.Sequential:
    """The same network out of PyTorch's modules, whose batch norms average over what they have seen."""
    p = net.layout.unflatten(theta)
    layers = []
    for i, inputs in enumerate((3, 4)):
        conv, norm = nn.Conv2d(inputs, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=None)
        conv.weight.data, conv.bias.data = p[f"convs.{i}.weight"], p[f"convs.{i}.bias"]
        norm.weight.data, norm.bias.data = p[f"norms.{i}.weight"], p[f"norms.{i}.bias"]
        layers += [conv, norm, nn.ReLU(), nn.AvgPool2d(2)]
    linear = nn.Linear(16, 3)
    linear.weight.data, linear.bias.data = p["classifier.weight"], p["classifier.bias"]
    return nn.Sequential(*layers, nn.Flatten(), linear).double()


def test_answers_equal_pytorchs_batch_norm_in_eval_mode(trained):
    """One batch: PyTorch's running variance is the unbiased one, n/(n-1) of ours."""
    net, theta, x = trained
    theirs = torch_network(net, theta)
    theirs(x)
    for norm, pixels in ((theirs[1], 64), (theirs[5], 16)):
        n = len(x) * pixels
        norm.running_var.mul_((n - 1) / n)
    other = torch.randn(5, 3, 8, 8).double()
    ours = net(theta, other, net.statistics(theta, [x]))
    assert torch.allclose(ours, theirs.eval()(other), atol=1e-10)


def test_of_the_first_norm_they_are_those_of_all_images_however_they_are_split(trained):
    net, theta, x = trained
    p = net.layout.unflatten(theta)
    seen = F.conv2d(x, p["convs.0.weight"], p["convs.0.bias"], padding=1)
    for parts in ([x], x.split(8), x.split(10)):
        mean, var = net.statistics(theta, parts)[:, :4]
        assert torch.allclose(mean, seen.mean((0, 2, 3)), atol=1e-12)
        assert torch.allclose(var, seen.var((0, 2, 3), correction=0), atol=1e-12)


def test_answers_no_longer_depend_on_the_other_images_of_a_batch(trained):
    net, theta, x = trained
    statistics = net.statistics(theta, [x])
    alone = torch.cat([net(theta, one[None], statistics) for one in x])
    assert torch.allclose(alone, net(theta, x, statistics), atol=1e-10)
    assert not torch.allclose(alone[:5], net(theta, x[:5]), atol=1e-2)
    assert torch.allclose(net(theta, x), net(theta, x, statistics), atol=1e-10)
    assert torch.allclose(
        net.features(theta, x, statistics) @ net.layout.unflatten(theta)["classifier.weight"].T + theta[-3:],
        net(theta, x, statistics),
        atol=1e-10,
    )


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "none"])
def test_other_norms_have_none_and_ask_for_no_image(norm):
    net = build(norm=norm)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(2, 3, 8, 8)

    def batches():
        raise AssertionError("an image was asked for")
        yield

    assert net.statistics(theta, batches()) is None
    assert torch.equal(net(theta, x, None), net(theta, x))


def test_many_networks_at_once(trained):
    net, theta, x = trained
    thetas = torch.stack([theta, theta * 1.1])
    together = vmap(net.moments, (0, None))(thetas, x)
    assert torch.allclose(together, torch.stack([net.statistics(t, [x]) for t in thetas]), atol=1e-10)
    answers = vmap(net, (0, None, 0))(thetas, x, together)
    assert torch.allclose(answers[1], net(thetas[1], x, together[1]), atol=1e-10)


def test_nothing_is_remembered(trained):
    net, theta, x = trained
    before = net(theta, x[:5])
    net.statistics(theta, [x * 9])
    assert torch.equal(net(theta, x[:5]), before)
    assert torch.equal(net(theta, x[:5], net.statistics(theta, [x])), net(theta, x[:5], net.statistics(theta, [x])))
