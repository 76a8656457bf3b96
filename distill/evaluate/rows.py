"""The rows of an evaluation: the training sets that are compared, by name.

distilled            the set
random               random real images of the same budget, a different draw for each network
herding, ...         real images of the same budget chosen by a selector (distill/selectors/)
distilled-hard       the set, with the most likely class of each image as its label
distilled-other, random-other   with augmentation if the protocol has none, without if it has some

The last three are for the scores in distill/evaluate/robustness.py.
"""

from dataclasses import replace

import torch
from torch import Tensor

from distill import nets, rng
from distill.context import Context
from distill.errors import DataError
from distill.evaluate.budget import image_counts, real_set, set_of
from distill.evaluate.judge import Judge, TrainedNetwork
from distill.evaluate.score import Measured
from distill.recipe import DSA, Augment, Sampling, Settings
from distill.selectors import Evidence, select
from distill.synthetic.base import Budget, Synthetic

OTHER, HARD = "-other", "-hard"


class Rows:
    """Measures rows for one network architecture after another; `context` has the experts that selectors use, if any.

    `pixels` is the budget of real images in values (Budget.pixels); `lr` is the set's learned rate; `trainings` is the
    number of networks that compiling must pay off for.
    """

    def __init__(self, context: Context, pixels: int, synthetic: Synthetic | None, lr: float | None, trainings: int):
        self.context, self.pixels, self.synthetic, self.lr, self.trainings = context, pixels, synthetic, lr, trainings
        self.evidence = Evidence(context)
        self.rows: dict[str, Tensor] = {}
        self.judges: dict[bool, Judge] = {}

    def use(self, network: Settings) -> None:
        """From now on train networks of this kind."""
        torch.compiler.reset()  # frees what was compiled for the previous kind
        recipe = self.context.recipe.model_copy(update={"network": network})
        built = nets.build(network, self.context.data.shape, self.context.classes)
        plain = replace(self.context, recipe=recipe, network=built)
        other = replace(plain, recipe=_other_augmentation(recipe))
        self.judges = {False: Judge(plain, self.trainings), True: Judge(other, self.trainings)}

    def measure(self, row: str, i: int) -> list[Measured]:
        """Network i of a row, or all of them if they are trained side by side: then i = 0 gives all, other i give none.

        Raises DataError and RecipeError, with the reason, if a row is impossible.
        """
        judge, base = self.judges[row.endswith(OTHER)], row.removesuffix(OTHER)
        networks = range(i, self.context.recipe.evaluation.networks)
        if not judge.together(self.training_set(base, i)):
            networks = [i]
        elif i:
            return []
        sets = [self.training_set(base, k) for k in networks]
        measured = judge.measure(sets, self.lr if base.startswith("distilled") else None, self.context.data.test,
                                 [_key(base, k) for k in networks])  # fmt: skip
        self.judges[not row.endswith(OTHER)].step = judge.step  # both judges train alike: compile once
        return measured

    def trained(self, row: str) -> list[TrainedNetwork]:
        """All networks of a row, as measure() trains them. Raises DataError and RecipeError as measure() does."""
        judge, base = self.judges[row.endswith(OTHER)], row.removesuffix(OTHER)
        networks = range(self.context.recipe.evaluation.networks)
        lr = self.lr if base.startswith("distilled") else None
        return judge.trained([self.training_set(base, k) for k in networks], lr, [_key(base, k) for k in networks])

    def training_set(self, row: str, i: int) -> Synthetic:
        """The set that network i of a row is trained on."""
        if row == "distilled":
            return self.synthetic
        if row == f"distilled{HARD}":
            return Hard(self.synthetic)
        if row == "random":
            g = rng.generator(self.context.seed, "random real", i)
            return real_set(self.context, self._counts(g), g)
        if row not in self.rows:
            g = rng.generator(self.context.seed, "baseline", row)
            self.rows[row] = select(row, self.evidence, self._counts(g), g)
        return set_of(self.context, self.rows[row])

    def _counts(self, g: torch.Generator) -> list[int]:
        counts = image_counts(self.context, self.pixels, g)
        if not any(counts):
            raise DataError(f"the budget of {self.pixels} pixel values is less than one real image")
        return counts


class Hard(Synthetic):
    """A set with hard labels: the most likely class of each image."""

    def __init__(self, soft: Synthetic):
        super().__init__()
        self.soft = soft

    def __len__(self) -> int:
        return len(self.soft)

    def images(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return self.soft.images(index, generator)

    def labels(self, index: Tensor) -> Tensor:
        y = self.soft.labels(index)
        return torch.nn.functional.one_hot(y.argmax(1), y.shape[1]).to(y)

    def sampled(self, settings: Sampling, generator: torch.Generator) -> Synthetic:
        return Hard(self.soft.sampled(settings, generator))

    def budget(self) -> Budget:
        return self.soft.budget()


def _key(row: str, i: int) -> tuple:
    """Key of a network's initialisation. Rows share it, except random, so that they differ only in the training set."""
    if row == "random":
        return ("random real", i, "network", 0)
    return ("evaluate", "network", i)


def _other_augmentation(recipe):
    """The recipe without the protocol's augmentation, or with DSA if it has none."""
    e = recipe.evaluation
    other = e.augment.model_copy(update={"strategies": ()}) if e.augment.strategies else Augment(strategies=DSA)
    return recipe.model_copy(update={"evaluation": e.model_copy(update={"augment": other})})
