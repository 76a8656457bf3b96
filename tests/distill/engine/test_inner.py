"""The inner step: its optimisers against torch.optim, its loss against torch's, its options against plain use."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from distill import nets, recipe, rng
from distill.engine.inner import SGD, Adam, InnerStep, cross_entropy, pulled_sgd
from distill.train import SharpnessAwareStep


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(bf16=False):
    return nets.build(recipe.ConvNet(depth=1, width=4, norm="none"), (3, 8, 8), 3, bf16)


def batch(i, n=5):
    g = rng.generator(0, "batch", i)
    return torch.randn(n, 3, 8, 8, generator=g), torch.randn(n, 3, generator=g).softmax(1)


def test_cross_entropy_is_that_of_torch():
    logits, y = batch(0)[0].flatten(1)[:, :3], batch(0)[1]
    assert torch.allclose(cross_entropy(logits, y), F.cross_entropy(logits, y), rtol=1e-14)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (SGD(), lambda p: torch.optim.SGD(p, 0.1)),
        (SGD(0.9, 0.01), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
        (SGD(0.0, 0.01), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.01)),
        (Adam(0.8, 0.99, 1e-6), lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.99), 1e-6)),
    ],
)
def test_steps_are_those_of_torch_optim(ours, theirs):
    net = network()
    theta, lr = net.init(rng.generator(0, "theta")), torch.tensor(0.1)
    leaf = theta.clone().requires_grad_()
    optimizer, step, state = theirs([leaf]), InnerStep(net, ours), ours.start(theta)
    for i in range(5):
        x, y = batch(i)
        state = step.forward(state, x, y, lr, i)
        optimizer.zero_grad()
        F.cross_entropy(functional_call(net.module, net.layout.unflatten(leaf), (x,)), y).backward()
        optimizer.step()
        assert torch.allclose(state[0], leaf, rtol=1e-11, atol=1e-13)


def test_a_step_makes_no_graph_and_changes_none_of_its_inputs():
    net = network()
    theta = net.init(rng.generator(0, "theta"))
    x, y = (t.requires_grad_() for t in batch(0))
    before = [t.detach().clone() for t in (theta, x, y)]
    (after,) = InnerStep(net, SGD()).forward((theta,), x, y, torch.tensor(0.1), 0)
    assert not after.requires_grad and not torch.equal(after, theta)
    assert all(torch.equal(a, b) for a, b in zip(before, (theta, x, y), strict=True))


def test_bfloat16_student_stays_near_and_keeps_its_dtype():
    """8 bits of mantissa: the step differs from the exact one by about a percent, and is not equal to it."""
    torch.set_default_dtype(torch.float32)
    x, y = batch(0)
    theta = network().init(rng.generator(0, "theta"))
    lr = torch.tensor(0.1)
    moves = [InnerStep(network(b), SGD()).forward((theta,), x, y, lr, 0)[0] - theta for b in (False, True)]
    error = (moves[0] - moves[1]).norm() / moves[0].norm()
    assert moves[1].dtype == torch.float32
    assert 1e-5 < error < 0.03


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "layer"])
@pytest.mark.parametrize("sgd", [SGD(), SGD(0.9), SGD(0.0, 0.05), SGD(0.9, 0.05)])
@pytest.mark.parametrize("networks", [1, 2])
def test_the_adjoint_of_sgd_is_the_same_by_reverse_over_forward_mode(norm, sgd, networks):
    net = nets.build(recipe.ConvNet(depth=2, width=4, norm=norm), (3, 8, 8), 3)
    step, g = InnerStep(net, sgd), rng.generator(0, "theta")
    thetas, batches = [net.init(g) for _ in range(networks)], [batch(i) for i in range(networks)]
    theta, x, y = (torch.stack(t) if networks > 1 else t[0] for t in (thetas, *zip(*batches, strict=True)))
    state = tuple(theta + k * torch.randn(theta.shape, generator=g) for k in range(len(sgd.start(theta))))
    after = tuple(torch.randn(theta.shape, generator=g) for _ in state)
    lr, t = torch.tensor(0.1), torch.tensor(0.0)
    loss = step._losses if networks > 1 else step._loss

    exact, found = step.adjoint(state, x, y, lr, 0, after), pulled_sgd(sgd, loss)(state, x, y, lr, t, after)
    for a, b in zip((*exact[0], *exact[1:]), (*found[0], *found[1:]), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_the_adjoint_of_a_sharpness_aware_step_is_that_of_its_own_gradient():
    net, g = network(), rng.generator(0, "theta")
    step = SharpnessAwareStep(net, SGD(), rho=0.5, compiled=True)
    theta, (x, y), lr, t = net.init(g), batch(0), torch.tensor(0.1), torch.tensor(0.0)
    after, towards = torch.randn(theta.shape, generator=g), torch.randn(theta.shape, generator=g)
    back = step._adjoint(step._step, step._loss)  # what would be compiled

    (found,), *_ = back((theta,), x, y, lr, t, (after,))
    ahead, behind = (step._step((theta + h * towards,), x, y, lr, t)[0] for h in (1e-5, -1e-5))
    assert torch.isclose((found * towards).sum(), (after * (ahead - behind)).sum() / 2e-5, rtol=1e-6)
