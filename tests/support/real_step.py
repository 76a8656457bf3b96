"""Prints two numbers: bytes that tracing says a forward and an adjoint step take, and bytes that they really took."""

import torch
from support import small
from support.growth import Growth

from distill import nets, recipe
from distill.context import Context
from distill.cost import memory
from distill.engine.inner import SGD, InnerStep

SHAPE, IMAGES = (3, 32, 32), 64


def main() -> None:
    torch.set_num_threads(1)
    network = nets.build(recipe.ConvNet(depth=3, width=32), SHAPE, 10)
    data = small.random_data(classes=10, shape=SHAPE, n=10)
    context = Context(small.context("trajectory").recipe, data, network, torch.device("cpu"))
    run(network, 2)  # what the first step loads for good
    with Growth() as growth:
        run(network, IMAGES)
    print(memory.step_bytes(context, SGD(), IMAGES), growth.bytes)


def run(network, images: int) -> None:
    step, theta, lr = InnerStep(network, SGD()), network.init(torch.Generator().manual_seed(0)), torch.tensor(0.1)
    x, y = torch.randn(images, *SHAPE), torch.full((images, 10), 0.1)
    state = step.forward((theta,), x, y, lr, 0)
    step.adjoint(state, x, y, lr, 0, state)


if __name__ == "__main__":
    main()
