"""Unrolled training: a network trained on the synthetic set should have low loss on real images.

Feng et al. 2024 (RaT-BPTT), algorithm 1: the length of training is random and only the last `window` steps are
differentiated. window = unroll is plain BPTT; random = false is truncated BPTT. A pool of networks that continue
training from one outer step to the next is from Zhou et al. 2022 (FRePO). With automatic = true the window is placed as
in Li et al. 2025 (AT-BPTT), see distill/objectives/placing.py.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad_and_value

from distill import recipe, rng
from distill.augment import augment
from distill.context import Context
from distill.engine.batches import Batches
from distill.engine.compiling import engine
from distill.engine.inner import SGD, Adam, compiled_if, cross_entropy, packed
from distill.engine.unroll import Unroll
from distill.objectives import base
from distill.objectives.base import Inner, Pass, Work
from distill.objectives.placing import Placing, gradient_norms
from distill.synthetic.base import Synthetic, learned_of

CHUNK = 1000
"""Real images per forward pass; the loss of a real batch is a sum over chunks, so memory is independent of its size."""
COMPILED_CHUNK = {"cpu": 250, "cuda": 1000}
"""The same for compiled passes, whose images should fit into the caches of a CPU."""


class Objective(base.Objective):
    def __init__(self, settings: recipe.Unrolled, context: Context):
        super().__init__(settings, context)
        self.unroll: Unroll | None = None
        self.compiled, self.real_pass = False, self._real_pass
        self.register_buffer("lr", torch.tensor(settings.lr_inner))
        self.register_buffer("norm", torch.tensor(0.0))
        self.register_buffer("norm_mean", torch.tensor(0.0))
        fresh = [self._fresh("pool", slot) for slot in range(settings.pool)]
        self.register_buffer("pool", torch.stack(fresh) if fresh else torch.zeros(0, context.network.layout.size))
        self.register_buffer("pool_age", torch.zeros(settings.pool, dtype=torch.int64))
        self.placing = Placing(settings, context.seed) if settings.automatic else None

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        if self.unroll is None:
            self.unroll = engine(self.context, self.work(synthetic))
            self.compiled = self.unroll.step.compiled
            (self.real_pass,) = compiled_if((self._real_pass,), self.compiled)
        if self.placing:
            self.placing.begin(step, lambda: self._norms(synthetic, step))
        return sum(self._term(synthetic, step, s) for s in segments) / self.segments

    def work(self, synthetic: Synthetic) -> Work:
        o, real = self.settings, min(self.settings.batch_real, len(self.context.data.train))
        before = 0 if o.pool else (o.unroll - o.window) / (2 if o.random else 1)
        inner = Inner(
            min(o.batch_syn or len(synthetic), len(synthetic)),
            o.window + (o.window_change if o.automatic else 0),
            before + (o.unroll / o.redraw_every if o.automatic else 0),
            optimizer=Adam() if o.inner == "adam" else SGD(o.momentum),
            augment=o.augment,
        )
        return Work(self.segments_per_worker, inner, (Pass(real, min(CHUNK, real), gradient=True),))

    def after_backward(self, parameters: list[nn.Parameter]) -> None:
        """Clip the gradient at `clip` times the running mean of its norm."""
        o, gradients = self.settings, [p.grad for p in parameters if p.grad is not None]
        self.norm = torch.stack([g.norm() for g in gradients]).norm()
        first = not self.norm_mean > 0  # also after a mean of zero or NaN
        self.norm_mean = self.norm if first else o.clip_decay * self.norm_mean + (1 - o.clip_decay) * self.norm
        if o.clip and self.norm > o.clip * self.norm_mean:
            for g in gradients:
                g.mul_(o.clip * self.norm_mean / self.norm)

    def per_worker(self) -> list[Tensor]:
        return [self.placing.accuracy] if self.placing else []

    def metrics(self) -> dict[str, float]:
        stage = {"stage": float(self.placing.stage)} if self.placing else {}
        return {"gradient_norm": self.norm.item()} | stage

    def window(self, step: int, segment: int) -> tuple[int, int]:
        """Number of inner steps before the differentiated window, and its length."""
        if self.placing:
            return self.placing.draw(step, segment)
        return self.before_window(step, segment), self.settings.window

    def before_window(self, step: int, segment: int) -> int:
        """Number of inner steps before a window of fixed length."""
        o = self.settings
        spare = o.unroll - o.window
        if not o.random:
            return spare
        g = rng.generator(self.context.seed, "start", step // o.redraw_every, segment)
        return int(torch.randint(spare + 1, (), generator=g))

    def _term(self, synthetic: Synthetic, step: int, segment: int) -> Tensor:
        """Real loss of one student after its inner training."""
        o, c = self.settings, self.context
        if o.pool:
            slot = int(torch.randint(o.pool, (), generator=rng.generator(c.seed, "pool", step, segment)))
            start, before, window = self.pool[slot].clone(), 0, o.window
        else:
            start = self._fresh("student", step, segment).to(c.device)
            before, window = self.window(step, segment)
        batches = Batches(synthetic, o.batch_syn, o.augment, c.seed, ("student", step, segment))
        theta = self.unroll(start, self.lr, batches, before + window, learned_of(synthetic), window=window)
        if o.pool:
            self._update_pool(slot, theta.detach(), step)
        return self._real_loss(theta, rng.generator(c.seed, "real", step, segment))

    def _update_pool(self, slot: int, theta: Tensor, step: int) -> None:
        """Keep the trained network, or replace it if another window would make it older than `unroll` steps."""
        self.pool_age[slot] += self.settings.window
        old = self.pool_age[slot] + self.settings.window > self.settings.unroll
        self.pool[slot] = self._fresh("pool", slot, step).to(theta.device) if old else theta
        self.pool_age[slot] *= int(not old)

    def _norms(self, synthetic: Synthetic, step: int) -> Tensor:
        """Norms (unroll,) of the gradients while a fresh network trains on the set as it is now."""
        o, c = self.settings, self.context
        key = ("probe", step // o.redraw_every)
        batches = Batches(synthetic, o.batch_syn, o.augment, c.seed, key)
        return gradient_norms(self.unroll.step, self._fresh(*key).to(c.device), self.lr, batches, o.unroll)

    def _fresh(self, *key: str | int) -> Tensor:
        return self.context.network.init(rng.generator(self.context.seed, *key))

    def _real_loss(self, theta: Tensor, g: torch.Generator) -> Tensor:
        """Mean cross-entropy of theta on a real batch; the gradient for theta is accumulated chunk by chunk."""
        train, o = self.context.data.train, self.settings
        rows = torch.randperm(len(train), generator=g)[: o.batch_real].to(train.y.device)
        total, slope, start = 0.0, None, theta.detach()
        for part in rows.split(CHUNK):
            y = F.one_hot(train.y[part], self.context.classes).to(theta)
            x = augment(train.x[part], o.augment, g)
            for x_, y_, count in self._compiled_chunks(x, y, len(rows)) if self.compiled else [(x, y, len(part))]:
                share = torch.full((), len(x_) / len(rows), dtype=theta.dtype, device=theta.device)
                to_theta, (loss, logits) = self.real_pass(start, x_, y_, share)
                total, slope = total + loss, to_theta if slope is None else slope + to_theta
                if self.placing:
                    self.placing.count(logits[:count], y_[:count].argmax(1), len(rows) * self.segments)
        # A value of `total` whose gradient for theta is `slope`: the graphs of the chunks are already freed.
        linear = theta @ slope
        return total + (linear - linear.detach())

    def _real_pass(self, theta: Tensor, x: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The gradient for theta of the mean cross-entropy times `share`; that loss, and the logits (n, classes)."""

        def loss(theta: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.context.network(theta, x)
            return cross_entropy(logits, y) * share, logits

        return grad_and_value(loss, has_aux=True)(theta)

    def _compiled_chunks(self, x: Tensor, y: Tensor, real: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Images and labels in chunks of one size for all of a batch of `real` images, and how many of each count.

        The rest of a chunk is filled up with images without labels, whose loss is zero. Batch norms, for which the
        images of a chunk matter to each other, get all images at once.
        """
        most = COMPILED_CHUNK.get(x.device.type, CHUNK)
        whole = min(CHUNK, real)
        size = len(x) if self.context.network.has_batch_norm else -(-whole // -(-whole // most))
        for x_, y_ in zip(x.split(size), y.split(size), strict=True):
            count, missing = len(x_), size - len(x_)
            if missing:
                x_, y_ = torch.cat((x_, x_[-1:].expand(missing, -1, -1, -1))), F.pad(y_, (0, 0, 0, missing))
            yield packed(x_), y_, count
