"""Layout and Network: flat vectors and named parameters are the same thing; fresh ones are PyTorch's defaults."""

import pytest
import torch
from torch import nn

from distill import nets, recipe, rng
from distill.nets import Layout, Network


def convnet():
    return nets.build(recipe.ConvNet(depth=2, width=32), (3, 8, 8), 10)


def test_flatten_and_unflatten_are_inverse_and_in_the_order_of_the_module():
    layout = convnet().layout
    theta = torch.arange(float(layout.size))
    parts = layout.unflatten(theta)
    assert list(parts) == [name for name, _ in convnet().module.named_parameters()]
    assert torch.equal(layout.flatten(parts), theta)
    assert torch.equal(torch.cat([p.flatten() for p in parts.values()]), theta)


def test_layouts_are_equal_exactly_when_names_and_shapes_are():
    assert Layout.of(nn.Linear(2, 3)) == Layout.of(nn.Linear(2, 3))
    assert Layout.of(nn.Linear(2, 3)) != Layout.of(nn.Linear(3, 2))
    assert Layout.of(nn.Linear(2, 3)) != Layout.of(nn.Sequential(nn.Linear(2, 3)))


def test_fresh_parameters_have_the_distribution_of_pytorch():
    net = convnet()
    ours = net.layout.unflatten(net.init(rng.generator(0, "init")))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # PyTorch's own drawing has no generator argument
        theirs = dict(nets.build(recipe.ConvNet(depth=2, width=32), (3, 8, 8), 10).module.named_parameters())
    for name, p in theirs.items():
        if name.startswith("norms"):
            assert torch.equal(ours[name], p)
        elif p.numel() > 500:
            assert ours[name].abs().max() == pytest.approx(p.abs().max().item(), rel=0.02)
            assert ours[name].std() == pytest.approx(p.std().item(), rel=0.1)
            assert abs(ours[name].mean()) < 0.1 * p.std()
        else:  # too few values for statistics: the bound of the uniform distribution, 1 / sqrt(inputs of the layer)
            weight = theirs[name.replace("bias", "weight")]
            bound = weight[0].numel() ** -0.5
            assert 0.5 * bound < ours[name].abs().max() <= bound


def test_fresh_parameters_depend_on_the_generator_alone():
    net, state = convnet(), torch.get_rng_state()
    a, b, c = (net.init(rng.generator(seed, "init")) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(state, torch.get_rng_state())


def test_a_module_of_an_unknown_kind_must_draw_for_itself():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.zeros(2))

    class Drawing(Odd):
        def draw(self, generator):
            return {"gain": torch.rand(2, generator=generator) + 5}

    with pytest.raises(TypeError, match=r"Odd needs a draw\(generator\)"):
        Network(Odd()).init(rng.generator(0))
    assert Network(nn.Sequential(Drawing())).init(rng.generator(0)).min() >= 5


def test_the_values_inside_the_module_are_not_used():
    net = convnet()
    theta, x = net.init(rng.generator(0, "init")), torch.randn(2, 3, 8, 8)
    before = net(theta, x)
    with torch.no_grad():
        for p in net.module.parameters():
            p.fill_(float("nan"))
    assert torch.equal(net(theta, x), before)
