"""The inner step: its optimisers against torch.optim, its loss against torch's, its options against plain use."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from distill import nets, recipe, rng
from distill.inner import SGD, Adam, InnerStep, cross_entropy


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
