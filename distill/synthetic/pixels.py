"""n images per class, every pixel learned (Wang et al. 2018; DM; MTT)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill import recipe, rng
from distill.context import Context
from distill.data.base import Split
from distill.errors import RecipeError
from distill.published.forms import Images
from distill.recipe import Outer
from distill.recipe.synthetic import LABEL_EXPERTS
from distill.selectors import Evidence, members_of, select
from distill.synthetic.base import Budget, Group, Synthetic


class Pixels(Synthetic, kind="pixels"):
    """Images x (classes * ipc, c, h, w), ordered by class, with labels y (n, classes)."""

    def __init__(self, x: Tensor, y: Tensor, labels: recipe.Labels):
        super().__init__()
        self.label_settings, self.classes = labels, y.shape[1]
        self.x = nn.Parameter(x)
        self.y = nn.Parameter(y, requires_grad=labels.mode == "learned")

    @classmethod
    def build(cls, settings: recipe.Pixels, context: Context) -> "Pixels":
        """Real images, random or chosen by a selector, or noise with the data's mean and standard deviation.

        Raises DataError when a class has too few images, and RecipeError when init or labels need experts that are
        missing.
        """
        train, g = context.data.train, rng.generator(context.seed, "synthetic init")
        if settings.init == "noise":
            x = _noise(settings, context)
        elif settings.init == "real":
            x = real_images(train, context.classes, settings.ipc, g)
        else:
            rows = select(settings.init, Evidence(context), [settings.ipc] * context.classes, g)
            x = train.x[rows.to(train.x.device)].clone()
        y = _expert_labels(context, x) if settings.labels.mode == "expert" else _one_hot(settings, context)
        return cls(x, y, settings.labels)

    @classmethod
    def blank(cls, settings: recipe.Pixels, context: Context) -> "Pixels":
        """Noise with one-hot labels. Raises DataError if a class has too few images for the initialisation."""
        for c in range(context.classes) if settings.init != "noise" else ():
            members_of(context.data.train, c, settings.ipc)
        return cls(_noise(settings, context), _one_hot(settings, context), settings.labels)

    def __len__(self) -> int:
        return len(self.x)

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return self.x if len(index) == len(self) else self.x[index.to(self.x.device)]

    def labels(self, index: Tensor) -> Tensor:
        return self.y if len(index) == len(self) else self.y[index.to(self.y.device)]

    def project(self) -> None:
        with torch.no_grad():
            self.y.clamp_(min=0)

    def parameter_groups(self, outer: Outer) -> list[Group]:
        groups = [Group([self.x], outer.lr_img)]
        return groups + [Group([self.y], self.label_settings.lr)] if self.y.requires_grad else groups

    def budget(self) -> Budget:
        hard = self.label_settings.mode == "hard"
        return Budget({"images": self.x.numel()} | ({} if hard else {"labels": self.y.numel()}))

    def stored(self) -> Images:
        return Images(self.x.detach(), self.y.detach())


def real_images(split: Split, classes: int, per_class: int, g: torch.Generator) -> Tensor:
    """Random images (classes * per_class, c, h, w), ordered by class. Raises DataError when a class has too few."""
    members = [members_of(split, c, per_class) for c in range(classes)]
    rows = torch.cat([rows[torch.randperm(len(rows), generator=g)[:per_class]] for rows in members])
    return split.x[rows.to(split.x.device)].clone()


def _noise(settings: recipe.Pixels, context: Context) -> Tensor:
    data, g = context.data, rng.generator(context.seed, "synthetic init")
    x = torch.randn(context.classes * settings.ipc, *data.shape, generator=g)
    return (x * data.train.x.std().cpu() + data.train.x.mean().cpu()).to(data.train.x.device)


def _one_hot(settings: recipe.Pixels, context: Context) -> Tensor:
    classes = torch.arange(context.classes).repeat_interleave(settings.ipc)
    return F.one_hot(classes, context.classes).to(context.data.train.x)


def _expert_labels(context: Context, x: Tensor) -> Tensor:
    """Mean probabilities (n, classes) of up to LABEL_EXPERTS experts after their last epoch."""
    if context.experts is None:
        raise RecipeError('synthetic.labels.mode = "expert" needs expert trajectories: run `stillhouse experts` first')
    last = context.experts.epochs[-1]
    with torch.no_grad():
        probabilities = [
            context.network(context.experts.snapshot(e, last).to(x.device), x).softmax(1)
            for e in range(min(context.experts.count, LABEL_EXPERTS))
        ]
    return torch.stack(probabilities).mean(0)
