"""What selectors choose by: a trained network's outputs for the training images, each computed on first use.

The network is the first expert of the store at its last epoch. If a run has no experts, a network of the recipe is
trained as its experts would be, for about BRIEF_STEPS steps, and the log says so.
"""

import logging
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from distill import train
from distill.context import Context
from distill.data.base import Split
from distill.errors import RecipeError
from distill.recipe.synthetic_base import FORGETTING_EXPERTS

log = logging.getLogger("stillhouse")

BRIEF_STEPS = 500
CHUNK = 1000  # images per forward pass


class Evidence:
    """Features, predictions and their history for the training part of a context; all of it on the CPU."""

    def __init__(self, context: Context):
        self.context = context

    @property
    def train(self) -> Split:
        return self.context.data.train

    @property
    def source(self) -> str:
        """The network, for the log."""
        experts = self.context.experts
        if experts is not None:
            return f"expert 0 of the store after {experts.epochs[-1]} epochs"
        return f"a network trained for {self._brief_epochs} epochs, as the run has no experts"

    @cached_property
    def features(self) -> Tensor:
        """Inputs of the last linear layer, (n, d)."""
        return self._outputs(self._theta, self.context.network.features)

    @cached_property
    def logits(self) -> Tensor:
        """Logits (n, classes)."""
        return self._outputs(self._theta, self.context.network)

    @cached_property
    def correct(self) -> Tensor:
        """Whether each image is classified correctly, (experts, epochs, n), after each saved epoch but epoch 0.

        Raises RecipeError if there are no experts, whose epochs it needs.
        """
        experts = self.context.experts
        if experts is None:
            raise RecipeError(
                "forgetting needs the epochs of experts, and the store holds none: run `stillhouse experts` first, or "
                "choose another selector"
            )
        network, labels = self.context.network, self.train.y.cpu()

        def correct(expert: int, epoch: int) -> Tensor:
            theta = experts.snapshot(expert, epoch).to(self.train.x.device)
            return self._outputs(theta, network).argmax(1) == labels

        chosen = range(min(experts.count, FORGETTING_EXPERTS))
        return torch.stack([torch.stack([correct(e, epoch) for epoch in experts.epochs[1:]]) for e in chosen])

    @cached_property
    def _theta(self) -> Tensor:
        experts = self.context.experts
        log.info("selectors use %s", self.source)
        if experts is not None:
            return experts.snapshot(0, experts.epochs[-1]).to(self.train.x.device)
        step = train.expert_step(self.context)
        for epoch, theta in train.expert_epochs(self.context, step, 0):
            if epoch == self._brief_epochs:
                return theta
        raise AssertionError("brief training has at most the epochs of an expert")

    @property
    def _brief_epochs(self) -> int:
        experts = self.context.recipe.experts
        return min(experts.epochs, max(1, round(BRIEF_STEPS * experts.batch / len(self.train))))

    def _outputs(self, theta: Tensor, function: Callable[..., Tensor]) -> Tensor:
        """`function` (network or network.features) of all training images, float32."""
        parts = self.train.x.split(CHUNK)
        with torch.no_grad():
            statistics = self.context.network.statistics(theta, parts[:5])
            return torch.cat([function(theta, x, statistics).float().cpu() for x in parts])
