"""Training experts: networks trained on the real images to the end."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe, rng
from distill.augment import augment
from distill.compiling import eager_seconds, pays
from distill.context import Context
from distill.inner import SGD, InnerStep, State


def expert_step(context: Context) -> InnerStep:
    """The training step of experts, to be shared by all that a process trains; compiled when that pays."""
    o, images = context.recipe.experts, len(context.data.train)
    seconds = eager_seconds(context.network, context.data.shape, o.batch) / 4 * o.epochs * (images / o.batch)
    compiled = pays(context, seconds * o.count / o.workers)
    return InnerStep(context.network, SGD(o.momentum, o.weight_decay), compiled)


def expert_epochs(context: Context, step: InnerStep, index: int) -> Iterator[tuple[int, Tensor]]:
    """Train expert `index` on the training part, giving (epoch, theta (p,)) from epoch 0, its fresh parameters.

    The expert depends only on the recipe, experts.seed and index. Snapshots are copies.
    """
    o, train = context.recipe.experts, context.data.train
    lr = torch.tensor(o.lr, device=context.device)
    theta = context.network.init(rng.generator(o.seed, "expert init", index)).to(context.device)
    state = step.optimizer.start(theta)
    targets = F.one_hot(train.y, context.classes).to(train.x)
    yield 0, theta.clone()
    for epoch in range(1, o.epochs + 1):
        state = _epoch(state, step, train.x, targets, lr, o, (o.seed, "expert", index, epoch))
        yield epoch, state[0].clone()


def _epoch(state: State, step: InnerStep, x: Tensor, y: Tensor, lr: Tensor, o: recipe.Experts, key: tuple) -> State:
    order = torch.randperm(len(x), generator=rng.generator(*key, "order")).to(x.device)
    for i, rows in enumerate(order.split(o.batch)):
        images = augment(x[rows], o.augment, rng.generator(*key, "augment", i))
        state = step.forward(state, images, y[rows], lr, i)
    return state
