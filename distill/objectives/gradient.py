"""Gradient matching: real and synthetic images of a class should give a network the same gradient.

Zhao et al. 2021 (DC), algorithm 1 and equations 9 and 10; Zhao & Bilen 2021 (DSA), equation 4, if images are augmented.
The network trains on the updated set between outer steps, and after `outer_loop` of them a fresh one replaces it.

Grouping, as published: the weights of an output channel of a convolution, or of an output unit of a linear layer, are
one vector each; biases and the affine parameters of norms are left out. Not as published: the graphs of all classes
are not kept until one backward pass (memory would grow with the classes), the denominator of the cosine has no
constant of 1e-6, which is larger than the product of two small gradients and then hides them, a vector that is exactly
zero has no direction and so no gradient, and nothing is drawn from the clock.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, grad_and_value

from distill import recipe, rng
from distill.augment import augment
from distill.context import Context
from distill.engine.batches import Batches
from distill.engine.compiling import compiles
from distill.engine.inner import SGD, InnerStep, compiled_if, cross_entropy, packed
from distill.engine.tracing import Traced
from distill.engine.unroll import accumulate
from distill.nets import Network
from distill.nets.functional import Layout
from distill.objectives import base
from distill.objectives.base import Inner, Pass, Work
from distill.objectives.by_class import items_of_classes, rows_of_classes, some_rows
from distill.synthetic.base import Synthetic, learned_of

TRACE_FROM = 1000
"""Classes matched in a run from which recording the operations, a few seconds, pays off; the bits are the same."""


class Objective(base.Objective):
    def __init__(self, settings: recipe.Gradient, context: Context):
        super().__init__(settings, context)
        self.register_buffer("theta", torch.zeros(settings.segments, context.network.layout.size))
        self.matching: Matching | None = None
        self.training: InnerStep | None = None
        self.own: Sequence[int] = ()

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        if self.matching is None:
            o, c = self.settings, self.context
            compiled = compiles(c, self.work(synthetic))
            often = len(segments) * c.classes * c.recipe.outer.steps >= TRACE_FROM
            self.matching = Matching(c.network, o.distance, compiled, often and not compiled)
            self.training = InnerStep(c.network, SGD(), compiled, traced=c.recipe.outer.steps >= TRACE_FROM)
        self.own = segments
        return sum(self._term(synthetic, step, s) for s in segments) / self.segments

    def work(self, synthetic: Synthetic) -> Work:
        o, c, n = self.settings, self.context, len(synthetic)
        outer, inner = self._loops(synthetic)
        real, batch = min(o.batch_real * c.classes, len(c.data.train)), min(o.batch_train, n)
        passes = (
            Pass(real, min(o.batch_real, -(-len(c.data.train) // c.classes)), gradient=True),
            Pass(n, -(-n // c.classes), gradient=True, second_order=True),
        )
        steps = inner * -(-n // batch) * (outer - 1) / outer  # the network is not trained after its last match
        training = Inner(batch, 0, steps, optimizer=SGD(), augment=self._apart) if steps else None
        return Work(self.segments_per_worker, training, passes)

    def after_step(self, synthetic: Synthetic, step: int) -> None:
        """Train this worker's networks on the updated set; after the last match with them they are dropped."""
        o, c = self.settings, self.context
        outer, inner = self._loops(synthetic)
        before, lr = self.theta.clone(), torch.tensor(o.lr_net, device=self.theta.device)
        self.theta.zero_()
        for s in self.own if (step + 1) % outer else ():
            batches = Batches(synthetic, min(o.batch_train, len(synthetic)), self._apart, c.seed, ("train", step, s))
            state = self.training.optimizer.start(before[s])
            with torch.no_grad():
                for i in range(inner * batches.per_pass):
                    state = self.training.forward(state, *batches(i), lr, i)
            self.theta[s] = state[0]

    def per_worker(self) -> list[Tensor]:
        return [self.theta]

    def _loops(self, synthetic: Synthetic) -> tuple[int, int]:
        return self.settings.loops(len(synthetic) / self.context.classes)

    @property
    def _apart(self) -> recipe.Augment:
        """The augmentation while a network trains: each image has its own draw."""
        return self.settings.augment.model_copy(update={"per_sample": True})

    def _term(self, synthetic: Synthetic, step: int, segment: int) -> Tensor:
        """Sum over classes of the distance between gradients in one network.

        Each class is differentiated on its own, so memory does not grow with their number.
        """
        c, key = self.context, ("gradient", step, segment)
        match, position = divmod(step, self._loops(synthetic)[0])
        if position == 0:
            fresh = c.network.init(rng.generator(c.seed, "gradient network", match, segment))
            self.theta[segment] = fresh.to(self.theta)
        theta, learned = self.theta[segment].clone(), learned_of(synthetic)
        totals, total = [torch.zeros_like(p) for p in learned], 0.0
        items = items_of_classes(synthetic.labels(torch.arange(len(synthetic))))
        for k, members in items.items():
            x, y = self._real_batch(k, key)
            real = self.matching.gradient(theta, x, y)
            with torch.enable_grad():
                x, y = self._synthetic_batch(synthetic, members.cpu(), k, key)
            to_images, distance = self.matching.distance(theta, x, y, real)
            accumulate((x, y), to_images, learned, totals)
            total = total + distance
        # A value of `total` whose gradients are `totals`: the graphs of the classes are already freed.
        linear = sum((p * t).sum() for p, t in zip(learned, totals, strict=True))
        return total + (linear - linear.detach())

    @cached_property
    def _members(self) -> list[Tensor]:
        """The training images of each class."""
        return rows_of_classes(self.context.data.train.y, self.context.classes)

    def _real_batch(self, k: int, key: tuple) -> tuple[Tensor, Tensor]:
        """Up to `batch_real` different random training images of class k, augmented, and their labels."""
        c, train = self.context, self.context.data.train
        rows = some_rows(self._members[k], self.settings.batch_real, rng.generator(c.seed, *key, "real", k))
        return self._siamese(train.x[rows], k, key), F.one_hot(train.y[rows], c.classes).to(train.x)

    def _synthetic_batch(self, synthetic: Synthetic, items: Tensor, k: int, key: tuple) -> tuple[Tensor, Tensor]:
        """Images and labels of the items of class k, with the augmentation of its real images."""
        x, y = synthetic.batch(items, rng.generator(self.context.seed, *key, "draw", k))
        return self._siamese(x, k, key), y

    def _siamese(self, x: Tensor, k: int, key: tuple) -> Tensor:
        shared = self.settings.augment.model_copy(update={"per_sample": False})
        return augment(x, shared, rng.generator(self.context.seed, *key, "augment", k))


class Matching:
    """The gradient of a network's loss, and the distance between two gradients with its derivatives.

    With `compiled`, both are compiled for the first batch size that they see; other sizes run eagerly. With `traced`,
    their operations are recorded and replayed (distill/engine/tracing.py).
    """

    def __init__(self, network: Network, distance: str, compiled: bool = False, traced: bool = False):
        def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(network(theta, x), y)

        def apart(x: Tensor, y: Tensor, theta: Tensor, real: Tensor) -> Tensor:
            synthetic = grad(loss)(theta, x, y)
            return cosine_distance(synthetic, real, network.layout) if distance == "cosine" else l2(synthetic, real)

        record = Traced if traced else (lambda function: function)
        self._gradient = _ForOneSize(record(grad(loss)), compiled)
        self._distance = _ForOneSize(record(grad_and_value(apart, (0, 1))), compiled)

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Gradient (p,) of the mean cross-entropy of images x (n, c, h, w), labels y (n, classes), at theta (p,)."""
        return self._gradient(len(x))(theta, packed(x), y)

    def distance(self, theta: Tensor, x: Tensor, y: Tensor, real: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """((dD/dx, dD/dy), D): the distance between the gradient of x, y and `real` (p,), which is a constant."""
        return self._distance(len(x))(packed(x), y.detach(), theta, real)


class _ForOneSize:
    """A function, compiled for the first batch size it is called with."""

    def __init__(self, function: Callable, compiled: bool):
        self.eager, (self.fast,) = function, compiled_if((function,), compiled)
        self.size: int | None = None

    def __call__(self, size: int) -> Callable:
        self.size = self.size or size
        return self.fast if size == self.size else self.eager


def cosine_distance(a: Tensor, b: Tensor, layout: Layout) -> Tensor:
    """Sum of 1 - cosine over the output channels and units of gradients a and b (p,); DC, equation 10."""
    total = a.new_zeros(())
    for left, right in zip(layout.unflatten(a).values(), layout.unflatten(b).values(), strict=True):
        if left.dim() > 1:  # neither a bias nor the scale and shift of a norm
            rows, others = left.flatten(1), right.flatten(1)
            squares = rows.square().sum(1), others.square().sum(1)
            directed = (squares[0] > 0) & (squares[1] > 0)
            # the inner `where` keeps the roots away from zero, at which their derivative is infinite
            sizes = [torch.where(directed, s, 1.0).sqrt() for s in squares]
            total = total + (1 - torch.where(directed, (rows * others).sum(1) / (sizes[0] * sizes[1]), 0.0)).sum()
    return total


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Squared L2 distance of two gradients (p,)."""
    return (a - b).square().sum()
