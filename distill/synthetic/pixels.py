"""n images per class, every pixel learned (Wang et al. 2018; DM; MTT)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.data.base import Split
from distill.errors import DataError, RecipeError
from distill.recipe import Outer
from distill.synthetic.base import Synthetic


class Pixels(Synthetic):
    """Images x (classes * ipc, c, h, w), ordered by class, with labels y (n, classes)."""

    def __init__(self, x: Tensor, y: Tensor, labels: recipe.Labels):
        super().__init__()
        self.labels, self.classes = labels, y.shape[1]
        self.x = nn.Parameter(x)
        self.y = nn.Parameter(y, requires_grad=labels.mode == "learned")

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if len(index) == len(self):
            return self.x, self.y
        index = index.to(self.x.device)
        return self.x[index], self.y[index]

    def project(self) -> None:
        with torch.no_grad():
            self.y.clamp_(min=0)

    def parameter_groups(self, outer: Outer) -> list[dict]:
        groups = [{"params": [self.x], "lr": outer.lr_img}]
        return groups + [{"params": [self.y], "lr": self.labels.lr}] if self.y.requires_grad else groups

    def budget_floats(self) -> int:
        return self.x.numel() + (0 if self.labels.mode == "hard" else self.y.numel())


def build(settings: recipe.Pixels, context: Context) -> Pixels:
    """Real images drawn per class, or noise with the data's mean and deviation."""
    data, g = context.data, rng.generator(context.seed, "synthetic init")
    y = torch.arange(context.classes).repeat_interleave(settings.ipc)
    if settings.init == "real":
        x = real_images(data.train, context.classes, settings.ipc, g)
    else:
        x = torch.randn(len(y), *data.shape, generator=g)
        x = (x * data.train.x.std().cpu() + data.train.x.mean().cpu()).to(data.train.x.device)
    return Pixels(x, _labels(settings, context, x, y), settings.labels)


def real_images(split: Split, classes: int, per_class: int, g: torch.Generator) -> Tensor:
    """Random images (classes * per_class, c, h, w), ordered by class. Raises DataError when a class has too few."""
    labels, picks = split.y.cpu(), []
    for c in range(classes):
        rows = (labels == c).nonzero().flatten()
        if len(rows) < per_class:
            raise DataError(
                f"synthetic.ipc = {per_class}: class {c} has only {len(rows)} training images to start from; "
                'lower synthetic.ipc or set synthetic.init = "noise"'
            )
        picks.append(rows[torch.randperm(len(rows), generator=g)[:per_class]])
    return split.x[torch.cat(picks).to(split.x.device)].clone()


def _labels(settings: recipe.Pixels, context: Context, x: Tensor, y: Tensor) -> Tensor:
    hard = F.one_hot(y, context.classes).to(x)
    if settings.labels.mode != "expert":
        return hard
    if context.experts is None:
        raise RecipeError('synthetic.labels.mode = "expert" needs expert trajectories: run `stillhouse experts` first')
    last = context.experts.epochs[-1]
    with torch.no_grad():
        votes = [
            context.network(context.experts.snapshot(e, last).to(x.device), x).softmax(1)
            for e in range(min(context.experts.count, 10))
        ]
    return torch.stack(votes).mean(0)
