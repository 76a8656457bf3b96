"""Training networks to the end: experts on real images, and the fresh networks that judge a synthetic set."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe, rng
from distill.augment import augment
from distill.compiling import eager_seconds, pays
from distill.context import Context
from distill.data.base import Split
from distill.inner import SGD, InnerStep, State


def accuracy(step: InnerStep, theta: Tensor, split: Split, batch: int = 1000) -> float:
    """Fraction of a split that theta (p,) classifies correctly."""
    hits = 0
    with torch.no_grad():
        for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True):
            x = x.contiguous(memory_format=torch.channels_last)
            hits += int((step.logits(theta, x).argmax(1) == y).sum())
    return hits / len(split)


def probe(split: Split, most: int = 5000) -> Split:
    """The first so many images of a split: enough to tell the training accuracy of an expert."""
    return Split(split.x[:most], split.y[:most])


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
