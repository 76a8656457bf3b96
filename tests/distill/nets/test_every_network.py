"""What holds for every kind of network: shapes, all parameters in use, the engine's gradients, judging many at once."""

import pytest
import torch
from support.plain_unroll import PlainUnroll
from torch.func import grad, vmap

from distill import nets, recipe, rng
from distill.engine.inner import SGD, InnerStep, cross_entropy
from distill.engine.unroll import Unroll
from distill.errors import RecipeError

SMALL = {
    "convnet": (recipe.ConvNet(depth=2, width=4, norm="batch"), 8),
    "resnet": (recipe.ResNet(width=2, norm="group"), 8),
    "resnet-instance": (recipe.ResNet(width=2), 16),
    "resnet-batch": (recipe.ResNet(width=2, norm="batch"), 8),
    "resnet-avgpool": (recipe.ResNet(width=2, shortcut="avgpool", norm="batch"), 8),
    "resnet-large": (recipe.ResNet(width=2, norm="group"), 128),
    "vgg": (recipe.VGG(width=2), 32),
    "vgg-batch": (recipe.VGG(width=2, norm="batch"), 32),
    "alexnet": (recipe.AlexNet(width=2), 8),
    "alexnet-batch": (recipe.AlexNet(width=2, norm="batch"), 8),
    "vit": (recipe.ViT(patch=4, dim=8, depth=2, heads=2), 8),
    "carracing": (recipe.CarRacing(width=4, hidden=8), 8),
}
CLASSES = 3


def small(name: str) -> tuple[nets.Network, tuple[int, int, int]]:
    settings, side = SMALL[name]
    return nets.build(settings, (3, side, side), CLASSES), (3, side, side)


def test_every_kind_is_tried():
    assert {settings.kind for settings, _ in SMALL.values()} == {
        member.model_fields["kind"].default for member in recipe.members(recipe.Network)
    }


@pytest.mark.parametrize("side", [28, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", [
    recipe.ConvNet(depth=4, width=2), recipe.ResNet(width=2), recipe.ResNet(width=2, shortcut="avgpool"),
    recipe.VGG(width=2), recipe.AlexNet(width=2), recipe.ViT(dim=8, depth=1, heads=2), recipe.CarRacing(width=2),
], ids=lambda settings: settings.label)  # fmt: skip
def test_forward_at_every_resolution(settings, channels, side):
    net = nets.build(settings, (channels, side, side), CLASSES)
    theta, x = net.init(rng.generator(0, "theta")), torch.randn(2, channels, side, side)
    features, logits = net.features(theta, x), net(theta, x)
    weight = net.layout.unflatten(theta)["classifier.weight"]
    assert logits.shape == (2, CLASSES) and features.shape == (2, weight.shape[1])
    assert torch.allclose(logits, features @ weight.T + theta[-CLASSES:], atol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-6, "different images must get different answers"


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_has_a_gradient(name):
    """A convolution's bias before a norm over whole channels is the exception: the norm takes it away."""
    net, shape = small(name)
    theta, x = net.init(rng.generator(1, "theta")).double(), torch.randn(8, *shape, dtype=torch.float64)
    y = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(8) % CLASSES]
    g = net.layout.unflatten(grad(lambda t: cross_entropy(net(t, x), y))(theta))
    undone = SMALL[name][0].model_dump().get("norm") in ("instance", "batch")
    for entry, values in g.items():
        taken_away = undone and entry.endswith(("conv.bias", "convs.0.bias", "convs.1.bias"))
        assert taken_away or values.abs().max() > 1e-9, entry
        assert torch.isfinite(values).all(), entry


@pytest.mark.parametrize("name", SMALL)
def test_engine_gives_the_gradients_of_plain_autograd(name):
    """Two steps with momentum in float64; with respect to images, labels, learning rate and start."""
    net, shape = small(name)
    g = rng.generator(2, "problem")
    theta = net.init(g).double().requires_grad_()
    source = torch.randn(4, *shape, generator=g, dtype=torch.float64).requires_grad_()
    y = torch.randn(4, CLASSES, generator=g, dtype=torch.float64).softmax(1).requires_grad_()
    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    target = theta.detach() + 0.1 * torch.randn(theta.shape, generator=g)

    def run(train):
        end = train(theta, lr, lambda i: (source * (1 + i), y), 2, [source, y])
        return torch.autograd.grad((end - target).square().sum(), [theta, source, y, lr])

    rule = SGD(0.9, 1e-2)
    ours, plain = run(Unroll(InnerStep(net, rule))), run(PlainUnroll(net, rule))
    for a, b in zip(ours, plain, strict=True):
        assert b.norm() > 0
        assert (a - b).norm() <= 1e-9 * b.norm()


@pytest.mark.parametrize("name", SMALL)
def test_networks_side_by_side_answer_as_each_alone(name):
    net, shape = small(name)
    theta = torch.stack([net.init(rng.generator(i, "theta")) for i in range(2)]).double()
    x = torch.randn(2, 4, *shape, dtype=torch.float64)
    for together, theta_i, x_i in zip(vmap(net)(theta, x), theta, x, strict=True):
        assert torch.allclose(together, net(theta_i, x_i), atol=1e-10)


def test_bfloat16_autocast_stays_near_for_a_transformer():
    settings = recipe.ViT(patch=4, dim=16, depth=2, heads=2)
    x = torch.randn(4, 3, 16, 16)
    exact, short = (nets.build(settings, (3, 16, 16), 3, bf16) for bf16 in (False, True))
    theta = exact.init(rng.generator(0, "theta"))
    assert short(theta, x).dtype == torch.float32
    assert 0 < (exact(theta, x) - short(theta, x)).abs().max() < 0.05


@pytest.mark.slow
def test_compiled_adjoint_equals_eager():
    """Of the network with max pools, tiny: compiling is what takes the time."""
    net = nets.build(recipe.AlexNet(width=1, norm="none"), (1, 8, 8), CLASSES)
    state = SGD().start(net.init(rng.generator(0, "theta")).double())
    x, y = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.eye(CLASSES, dtype=torch.float64)
    lr, after = torch.tensor(0.1, dtype=torch.float64), tuple(torch.randn_like(s) for s in state)
    (eager, *others), (compiled, *rest) = (
        InnerStep(net, SGD(), c).adjoint(state, x, y, lr, 0, after) for c in (False, True)
    )
    for a, b in zip((*eager, *others), (*compiled, *rest), strict=True):
        assert torch.allclose(a, b, atol=1e-9) and b.abs().max() > 0


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_the_outputs_of_blocks_in_the_order_asked_for(name):
    network, shape = small(name)
    theta = network.init(rng.generator(0, "init"))
    x = torch.randn(2, *shape, generator=rng.generator(0, "images"))
    second, first = network.maps(theta, x, (2, 1))
    (alone,) = network.maps(theta, x, (1,))
    assert torch.equal(first, alone)
    assert second.shape != first.shape or not torch.equal(first, second)
    outputs, embed = [], network.module.embed
    network.module.embed = lambda out: (outputs.append(out), embed(out))[1]
    features = network.features(theta, x)
    depth = next(n for n in range(1, 99) if not _has(network, shape, n + 1))
    (last,) = network.maps(theta, x, (depth,))
    assert torch.equal(last, outputs[0].flatten(1)) and features.shape[0] == 2


def _has(network: nets.Network, shape: tuple[int, int, int], block: int) -> bool:
    try:
        network.check_layers(shape, (block,))
    except RecipeError:
        return False
    return True
