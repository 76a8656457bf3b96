"""Settings of the outer loop and of the evaluation."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from distill.recipe.experts import DSA, Augment
from distill.recipe.settings import Count, Positive, Settings
from distill.recipe.synthetic_base import Selector

ELASTIC = re.compile(r"([1-9]\d*)\.\.([1-9]\d*)")


def _workers(value: Any) -> int | str:
    found = ELASTIC.fullmatch(value) if isinstance(value, str) else None
    if found and int(found[1]) < int(found[2]) or (type(value) is int and value >= 1):
        return value
    raise ValueError("use a number of workers, 1 or more, or from..to as in 1..8")


Workers = Annotated[int | str, BeforeValidator(_workers)]
"""A number, or "from..to": as many as there is room for."""


class Outer(Settings):
    """The outer loop: optimisation of the synthetic set."""

    steps: Count = 5000
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr_img: Positive = 100.0
    """Learning rate of the synthetic set (images, canvases, codes, weights)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Momentum of SGD."""
    evaluate_every: Count = 500
    """Steps between evaluations on the held-out images, which select the set that is published; a run with fewer steps
    is evaluated after each fifth of them."""
    checkpoint_every: Count = 100
    """Steps between checkpoints. After two minutes without one, one is made in any case."""
    picture_every: Count = 500
    """Steps between pictures logged to the tracker."""
    workers: Workers = 1
    """Ray Train workers, which divide the segments of each step among them. "1..8": as many as the cluster has room
    for; if a node is lost or added, those that there are then go on from the last checkpoint."""

    @property
    def worker_range(self) -> tuple[int, int]:
        """The least and the greatest number of workers."""
        if isinstance(self.workers, int):
            return self.workers, self.workers
        least, most = ELASTIC.fullmatch(self.workers).groups()
        return int(least), int(most)

    def check_segments(self, segments: int) -> None:
        """Raise ValueError if the segments of a step cannot be divided among the workers."""
        least, most = self.worker_range
        if least == most and segments % most:
            raise ValueError(f"objective.segments must be a multiple of outer.workers = {most}")
        if segments < most:
            raise ValueError(f"objective.segments must be at least {most}: outer.workers = {self.workers}")

    @property
    def brief_every(self) -> int:
        """Steps between the evaluations of a run with fewer steps than `evaluate_every`; 0 for all others."""
        return max(1, self.steps // 5) if self.steps < self.evaluate_every else 0


PROTOCOLS: dict[str, dict[str, Any]] = {
    "mtt": {},  # the defaults of Evaluation
    "podd": {
        "networks": 8, "optimizer": "adam", "lr": 1e-3, "learned_lr": False, "momentum": 0.0, "weight_decay": 0.0,
        "batch": 0, "epochs": 0, "steps": (300, 600, 1000, 2000), "decay": "none",
        "augment": {"strategies": ("flip", "rotate")},
    },
    "steps-1000": {"epochs": 0, "steps": (1000,)},
}  # fmt: skip
"""The settings of each protocol; all others have the defaults of Evaluation."""

REPLACED = {
    "protocol": ("networks", "optimizer", "lr", "learned_lr", "momentum", "weight_decay", "batch", "epochs", "steps",
                 "decay", "augment"),
    "optimizer": ("momentum", "weight_decay"),
    "epochs": ("steps",),
    "steps": ("epochs",),
}  # fmt: skip
"""Settings that fall back to their defaults when an override changes the key."""


class Sampling(Settings):
    """Training images drawn from a set that can give more of them than it stores (canvases, generators)."""

    per_class: Annotated[int, Field(ge=0)] = 0
    """Images per class, drawn once for each network (0: fresh draws for every batch, as in distillation, or all that
    there are, as the pairs of a factorized set)."""
    redraw_every: Annotated[int, Field(ge=0)] = 0
    """Passes over these images before new ones are drawn (0: never)."""
    truncation: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Truncation of a generator's latents: below 1, images are closer to the mean of their class and to each other."""

    @model_validator(mode="after")
    def _agrees(self):
        if self.redraw_every and not self.per_class:
            raise ValueError("redraw_every needs per_class: without it every batch is a fresh draw already")
        return self


Baseline = Literal["random", "full"] | Selector


class Evaluation(Settings):
    """Evaluation: accuracy, on images never trained on, of fresh networks trained on the synthetic set."""

    protocol: Literal["mtt", "podd", "steps-1000"] = "mtt"
    """Sets the defaults of the settings below. mtt: as listed here. podd: 8 networks, Adam 1e-3, the whole set in each
    step, 300, 600, 1000 and 2000 steps, flip and rotate (RaT-BPTT, PoDD). steps-1000: 1000 steps, otherwise as mtt
    (generative thesis, section 4.2)."""
    networks: Count = 5
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 0.01
    """Learning rate for sets without a learned one, such as the baselines."""
    learned_lr: bool = True
    """Train on a set at its learned learning rate, if it has one; false: always at evaluation.lr."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD. Adam uses neither momentum nor weight decay."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    batch: Annotated[int, Field(ge=0)] = 256
    """Images per step; a smaller set is used whole (0: always the whole set)."""
    epochs: Annotated[int, Field(ge=0)] = 1000
    """Length of training in passes over the set (0: given in steps)."""
    steps: tuple[Count, ...] = ()
    """Length of training in steps. With several, each is reported; the headline is the one with the best accuracy on
    the held-out training images, or on the test images if selection = "best-on-test"."""
    decay: Literal["half", "none"] = "half"
    """half: divide the learning rate by 10 after half of the training."""
    augment: Augment = Augment(strategies=DSA)
    sampling: Sampling = Sampling()
    selection: Literal["validation", "best-on-test"] = "validation"
    """Images that select the published step: held-out training images, or the test images. best-on-test is what the
    papers do; it inflates the accuracy."""
    selection_networks: Count = 2
    """Fresh networks per evaluation during distillation."""
    baselines: tuple[Baseline, ...] = ("random", "full")
    """Baselines of `stillhouse evaluate`. random: random real images of the same budget; full: all training images; or
    real images of the same budget chosen by a selector (as in synthetic.init)."""
    bf16: bool = False
    """bfloat16 autocast of the networks, with float32 parameters: faster if the hardware multiplies bfloat16. It
    changes the results slightly, so no protocol uses it and every reported accuracy mentions it."""
    workers: Count = 1
    """Ray workers, which divide the networks of `stillhouse evaluate` among them."""

    @model_validator(mode="before")
    @classmethod
    def _by_protocol(cls, block: Any) -> Any:
        """Fill in the protocol's settings that the recipe does not set itself."""
        if not isinstance(block, dict):
            return block
        values = dict(PROTOCOLS.get(block.get("protocol", "mtt"), {}))
        values |= {"steps": ()} if "epochs" in block else {}
        values |= {"epochs": 0} if "steps" in block else {}
        if block.get("optimizer") == "sgd":
            values = {key: value for key, value in values.items() if key not in REPLACED["optimizer"]}
        elif "optimizer" in block:
            values |= dict.fromkeys(REPLACED["optimizer"], 0.0)
        return values | block

    @model_validator(mode="after")
    def _agrees(self):
        if bool(self.epochs) == bool(self.steps):
            raise ValueError("set the length of training either by epochs or by steps, not both")
        if len(self.steps) > 1 and self.decay != "none":
            raise ValueError('several steps are measured within one training, which needs decay = "none"')
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must be in ascending order")
        if self.optimizer == "adam" and (self.momentum or self.weight_decay):
            raise ValueError("momentum and weight_decay are for SGD only: leave them out or set them to 0")
        return self

    @property
    def label(self) -> str:
        """The protocol as shown with an accuracy: its name, and any departure from its length, optimiser or dtype."""
        default, named = type(self)(protocol=self.protocol), [self.protocol]
        if (self.epochs, self.steps) != (default.epochs, default.steps):
            named.append(f"{self.epochs} epochs" if self.epochs else f"{'/'.join(map(str, self.steps))} steps")
        if self.optimizer != default.optimizer:
            named.append(self.optimizer)
        return ", ".join(named + (["bfloat16"] if self.bf16 else []))

    def batch_of(self, images: int) -> int:
        """Batch size for a set of `images` images."""
        return min(self.batch or images, images)

    def lengths(self, images: int) -> tuple[int, ...]:
        """Steps after which networks are evaluated, for a set of `images` images."""
        return self.steps or (self.epochs * -(-images // self.batch_of(images)),)
