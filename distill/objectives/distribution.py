"""Distribution matching: real and synthetic images of a class should have the same embeddings, in many networks.

Zhao & Bilen 2023 (DM), equation 5: their means in random networks. L1 distance: Generative Dataset Distillation,
section 3. Characteristic functions instead of means: Wang et al. 2025 (NCFM); their frequencies are drawn from a normal
distribution, the network that learns where to draw them is left out. It needs no inner training.

The images of all classes pass through the network in chunks of one size, and the gradient for the synthetic images is
computed chunk by chunk: memory depends neither on the number of images nor on that of segments.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from distill import recipe, rng
from distill.augment import Draw, apply_runs, draw, runs
from distill.context import Context
from distill.discrepancy import Discrepancy
from distill.engine.compiling import compiles
from distill.errors import RecipeError
from distill.objectives import base
from distill.objectives.base import Pass, Work
from distill.objectives.by_class import items_of_classes, rows_of_classes, some_rows
from distill.synthetic.base import Synthetic

CHUNK = {"cpu": 64, "cuda": 1024}
"""Images per forward pass: enough to fill the device, few enough for the caches of a CPU."""
ROUNDED = 8
"""Compiled chunks have a multiple of this many images: otherwise learned labels, which change how many images stand for
a class, would compile a size for each number."""


class Objective(base.Objective):
    def __init__(self, settings: recipe.Distribution, context: Context):
        super().__init__(settings, context)
        context.network.check_layers(context.data.shape, settings.layers)
        # Batch norm's statistics are those of all classes together, as in the code of DM: one pass, never in chunks.
        self.whole = context.network.has_batch_norm
        self.chunk = CHUNK.get(context.device.type, CHUNK["cuda"])
        self.embed: Callable | None = None

    def loss(self, synthetic: Synthetic, step: int, segments: Sequence[int]) -> Tensor:
        if self.embed is None:
            self.compiled = compiles(self.context, self.work(synthetic))
            self.embed = torch.compile(self._maps, fullgraph=True, dynamic=False) if self.compiled else self._maps
        if self.settings.features == "experts":  # read from the store while this step computes
            self.context.experts.prefetch([self._expert(step + 1, s) for s in segments])
        return sum(self._term(synthetic, step, s) for s in segments) / self.segments

    def work(self, synthetic: Synthetic) -> Work:
        counts = {k: len(i) for k, i in items_of_classes(synthetic.labels(torch.arange(len(synthetic)))).items()}
        real = sum(min(self.settings.batch_real, len(self._members[k])) for k in counts)
        largest = max((sum(group) for group in self._groups(list(counts.values()))), default=0)
        passes = (
            Pass(sum(counts.values()), largest, gradient=True, features=True),
            Pass(real, 0 if self.whole else min(self.chunk, real), features=True),
        )
        return Work(self.segments_per_worker, passes=passes)

    def _term(self, synthetic: Synthetic, step: int, segment: int) -> Tensor:
        """Sum over classes of the discrepancy between real and synthetic images, in one network."""
        c, key = self.context, ("distribution", step, segment)
        y = synthetic.labels(torch.arange(len(synthetic)))
        items = items_of_classes(y)
        if not items:
            return 0 * y.sum()
        classes, counts = list(items), [len(i) for i in items.values()]
        theta = self._theta(step, segment).to(c.device)
        between = Discrepancy(self.settings, rng.generator(c.seed, *key, "frequencies"))
        real = self._real_means(theta, between, classes, key)

        rows = torch.cat(list(items.values()))
        shown, place = rows.unique(return_inverse=True)  # each item is rendered once
        x = synthetic.images(shown.cpu(), rng.generator(c.seed, *key, "draw"))
        x = x if torch.equal(rows, shown) else x[place]  # (n, c, h, w), ordered by class
        owner = _owners(counts, x.device)
        share = y[rows, torch.tensor(classes, device=y.device)[owner]]
        share = share / torch.zeros_like(share[: len(classes)]).index_add(0, owner, share)[owner]
        # For each chunk: the discrepancy of its classes, whose graph is freed with its gradient
        drawn, losses, gradients, first = self._draws(classes, counts, key), [], [], 0
        size = max(map(sum, self._groups(counts)))
        for group in self._groups(counts):
            start, last = sum(counts[:first]), first + len(group)
            part = slice(start, start + sum(group))
            leaves = [t[part].detach().requires_grad_() for t in (x, share)]
            with torch.enable_grad():
                statistics = between.statistics(self._embedded(theta, apply_runs(leaves[0], drawn, start), size))
                weights = F.one_hot(owner[part] - first, len(group)).T * leaves[1]  # (classes, images)
                apart = between([r[first:last] for r in real], [weights @ s for s in statistics])
            losses.append(apart.detach())
            gradients.append(torch.autograd.grad(apart, leaves))
            first = last
        to_x, to_share = (torch.cat(g) for g in zip(*gradients, strict=True))
        # A value of the sum whose gradients for x and share are those
        linear = (x * to_x).sum() + (share * to_share).sum()
        return torch.stack(losses).sum() + (linear - linear.detach())

    @torch.no_grad()
    def _real_means(self, theta: Tensor, between: Discrepancy, classes: list[int], key: tuple) -> list[Tensor]:
        """Means (classes, s), for each layer, of the statistics of a real batch of each class."""
        train, batches = self.context.data.train, [self._real_rows(k, key) for k in classes]
        rows, counts = torch.cat(batches), [len(b) for b in batches]
        owner, drawn = _owners(counts, theta.device), self._draws(classes, counts, key)
        share = 1 / torch.tensor(counts, dtype=theta.dtype, device=theta.device)[owner]
        chunks = 1 if self.whole else -(-len(rows) // self.chunk)
        size, sums = -(-len(rows) // chunks), []
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            x = apply_runs(train.x[rows[part]], drawn, start)
            weights = F.one_hot(owner[part], len(classes)).T * share[part]
            sums.append([weights @ s for s in between.statistics(self._embedded(theta, x, size))])
            sums = [[sum(layer) for layer in zip(*sums, strict=True)]]
        return sums[0]

    def _embedded(self, theta: Tensor, x: Tensor, size: int) -> list[Tensor]:
        """Embeddings (n, d) of images x (n, c, h, w), for each layer; compiled for chunks of `size` images."""
        n, missing = len(x), -(-size // ROUNDED) * ROUNDED - len(x) if self.compiled else 0
        x = torch.cat((x, x[-1:].detach().expand(missing, -1, -1, -1))) if missing else x
        maps = self.embed(theta, x.contiguous(memory_format=torch.channels_last))
        return [f[:n] for f in maps]

    def _maps(self, theta: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        network, layers = self.context.network, self.settings.layers
        return network.maps(theta, x, layers) if layers else (network.features(theta, x),)

    def _groups(self, counts: list[int]) -> Iterator[list[int]]:
        """The counts of synthetic images of classes, in groups of about a chunk; a class is never divided."""
        chunks = 1 if self.whole else -(-sum(counts) // self.chunk)
        classes = -(-len(counts) // max(chunks, 1))
        return (counts[i : i + classes] for i in range(0, len(counts), max(classes, 1)))

    # ------------------------------------------------------------ what is drawn

    def _draws(self, classes: list[int], counts: list[int], key: tuple) -> list[tuple[Draw, int]]:
        """The augmentation of counts[i] images of classes[i]; real and synthetic images share it (siamese)."""
        settings, seed = self.settings.augment, self.context.seed
        each = zip(classes, counts, strict=True)
        return runs([draw(settings, n, rng.generator(seed, *key, "augment", k)) for k, n in each], counts)

    def _real_rows(self, k: int, key: tuple) -> Tensor:
        """Up to `batch_real` different random training images of class k."""
        g = rng.generator(self.context.seed, *key, "real", k)
        return some_rows(self._members[k], self.settings.batch_real, g)

    @cached_property
    def _members(self) -> list[Tensor]:
        """The training images of each class."""
        return rows_of_classes(self.context.data.train.y, self.context.classes)

    def _theta(self, step: int, segment: int) -> Tensor:
        """Parameters (p,) of the network that embeds: fresh ones, or those of an expert."""
        if self.settings.features == "experts":
            return self.context.experts.snapshot(*self._expert(step, segment))
        g = rng.generator(self.context.seed, "distribution", step, segment, "network")
        return self.context.network.init(g)

    def _expert(self, step: int, segment: int) -> tuple[int, int]:
        """(expert, epoch), drawn from all saved epochs within the range of the settings."""
        g = rng.generator(self.context.seed, "distribution", step, segment, "expert")
        epochs = self.settings.epochs(self.context.experts.epochs)
        if not epochs:  # of a set of experts that the recipe names
            raise RecipeError(
                f"the experts are saved at the epochs {self.context.experts.epochs}, none of them from "
                f"objective.min_epoch = {self.settings.min_epoch} to objective.max_epoch = {self.settings.max_epoch}"
            )
        expert = int(torch.randint(self.context.recipe.experts.count, (), generator=g))
        return expert, epochs[int(torch.randint(len(epochs), (), generator=g))]


def _owners(counts: list[int], device: torch.device) -> Tensor:
    """For each image (n,) the number of its class among those with these counts."""
    return torch.arange(len(counts), device=device).repeat_interleave(torch.tensor(counts, device=device))
