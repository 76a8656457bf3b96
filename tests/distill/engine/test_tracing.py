"""Recorded steps give the same bits as the steps they record, for every optimiser, alone and side by side."""

import pytest
import torch
from support import small

from distill import rng
from distill.engine.inner import SGD, Adam, InnerStep


def trained(step: InnerStep, context, networks: int, images: int) -> torch.Tensor:
    g = rng.generator(0, "data")
    theta = torch.stack([context.network.init(rng.generator(i, "init")) for i in range(networks)])
    state = step.optimizer.start(theta if networks > 1 else theta[0])
    for i in range(4):
        x = torch.randn(networks, images, 3, 8, 8, generator=g)
        y = torch.rand(networks, images, 3, generator=g).softmax(2)
        lr = torch.tensor(0.1 if i < 2 else 0.01)
        with torch.no_grad():
            state = step.forward(state, *((x, y) if networks > 1 else (x[0], y[0])), lr, i)
    return state[0]


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("optimizer", [SGD(0.9, 5e-4), SGD(), Adam()], ids=["momentum", "sgd", "adam"])
def test_the_same_bits(optimizer, networks, norm):
    context = small.context("trajectory", f"network.norm={norm}")
    plain, recorded = (InnerStep(context.network, optimizer, traced=traced) for traced in (False, True))
    for images in (4, 6, 4):  # shapes may change
        a, b = (trained(step, context, networks, images) for step in (plain, recorded))
        assert torch.isfinite(a).all() and torch.equal(a, b)
    assert len((recorded._many if networks > 1 else recorded._single)[0].graphs) == 2
