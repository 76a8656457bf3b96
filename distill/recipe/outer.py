"""Settings of the outer loop and of the judgement."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distill.recipe.experts import DSA, Augment
from distill.recipe.settings import Count, Positive, Settings
from distill.recipe.synthetic import Selector


class Outer(Settings):
    """The outer loop: steps on the synthetic set."""

    steps: Count = 5000
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr_img: Positive = 100.0
    """Step size of what is learned (images, canvases, codes, weights)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    evaluate_every: Count = 500
    """Steps between evaluations on the held-out part, which choose the set that is published."""
    checkpoint_every: Count = 100
    picture_every: Count = 500
    """Steps between pictures sent to the tracker."""
    workers: Count = 1
    """Ray Train workers that share the segments of each step."""


PROTOCOLS: dict[str, dict[str, Any]] = {
    "mtt": {},  # the defaults of Evaluation
    "podd": {
        "networks": 8, "optimizer": "adam", "lr": 1e-3, "learned_lr": False, "momentum": 0.0, "weight_decay": 0.0,
        "batch": 0, "epochs": 0, "steps": (300, 600, 1000, 2000), "decay": "none",
        "augment": {"strategies": ("flip", "rotate")},
    },
    "steps-1000": {"epochs": 0, "steps": (1000,)},
}  # fmt: skip
"""What each protocol sets; the rest is as the fields of Evaluation have it."""

REPLACED = {
    "protocol": ("networks", "optimizer", "lr", "learned_lr", "momentum", "weight_decay", "batch", "epochs", "steps",
                 "decay", "augment"),
    "optimizer": ("momentum", "weight_decay"),
    "epochs": ("steps",),
    "steps": ("epochs",),
}  # fmt: skip
"""Settings that take their defaults again where a recipe is overridden with another value of the key."""

class Sampling(Settings):
    """The training images of a network, where a set can give more of them than it stores (canvases, generators)."""

    per_class: Annotated[int, Field(ge=0)] = 0
    """Images per class, drawn once for each network (0: drawn anew for every batch, as while distilling)."""
    redraw_every: Annotated[int, Field(ge=0)] = 0
    """Passes over these images after which others are drawn (0: never)."""

    @model_validator(mode="after")
    def _agrees(self):
        if self.redraw_every and not self.per_class:
            raise ValueError("redraw_every needs per_class: without it every batch is drawn anew")
        return self


Baseline = Literal["random", "full"] | Selector


class Evaluation(Settings):
    """Fresh networks trained on the synthetic set, judged on images never trained on."""

    protocol: Literal["mtt", "podd", "steps-1000"] = "mtt"
    """Gives the settings below their defaults. mtt: as they stand here. podd: 8 networks, Adam 1e-3, the whole set each
    step, 300, 600, 1000 and 2000 steps, flip and rotate (RaT-BPTT, PoDD). steps-1000: 1000 gradient steps, the rest as
    mtt (generative thesis, section 4.2)."""
    networks: Count = 5
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 0.01
    """Learning rate for sets that carry none, such as the baselines."""
    learned_lr: bool = True
    """Sets that carry a learned rate are trained at it; false: everything is trained at evaluation.lr."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD. Adam has none, and no weight decay."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    batch: Annotated[int, Field(ge=0)] = 256
    """Images per step; sets with fewer are used whole (0: always whole)."""
    epochs: Annotated[int, Field(ge=0)] = 1000
    """Length of the training in passes over the set (0: counted in steps)."""
    steps: tuple[Count, ...] = ()
    """Length in steps. Of several, each is reported, and the one that does best on the held-out part of the training
    images is the headline; best on the test images where selection = "best-on-test"."""
    decay: Literal["half", "none"] = "half"
    """half: the rate falls to a tenth after half of the training."""
    augment: Augment = Augment(strategies=DSA)
    sampling: Sampling = Sampling()
    selection: Literal["validation", "best-on-test"] = "validation"
    """Which part chooses the published step. best-on-test is the published way and flatters the figure."""
    selection_networks: Count = 2
    """Fresh networks per evaluation while distilling."""
    baselines: tuple[Baseline, ...] = ("random", "full")
    """What `stillhouse evaluate` sets beside the result: random real images of the same budget, real images chosen by
    a selector (as in synthetic.init), all training images."""
    bf16: bool = False
    """Networks under bfloat16 autocast, their parameters float32: faster where a device multiplies it in hardware, but
    another arithmetic, so that it is off in every protocol and named wherever figures are shown."""
    workers: Count = 1
    """Ray workers that share the networks of `stillhouse evaluate`."""

    @model_validator(mode="before")
    @classmethod
    def _by_protocol(cls, given: Any) -> Any:
        """Fill in what the protocol says, where nothing else was asked for."""
        if not isinstance(given, dict):
            return given
        values = dict(PROTOCOLS.get(given.get("protocol", "mtt"), {}))
        values |= {"steps": ()} if "epochs" in given else {}
        values |= {"epochs": 0} if "steps" in given else {}
        if given.get("optimizer") == "sgd":
            values = {key: value for key, value in values.items() if key not in REPLACED["optimizer"]}
        elif "optimizer" in given:
            values |= dict.fromkeys(REPLACED["optimizer"], 0.0)
        return values | given

    @model_validator(mode="after")
    def _agrees(self):
        if bool(self.epochs) == bool(self.steps):
            raise ValueError("the length of training is given by epochs or by steps: set one, and not the other")
        if len(self.steps) > 1 and self.decay != "none":
            raise ValueError('several steps are lengths of one training: they need decay = "none"')
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must rise")
        if self.optimizer == "adam" and (self.momentum or self.weight_decay):
            raise ValueError("momentum and weight_decay are of SGD: leave them out or set them to 0")
        return self

    @property
    def label(self) -> str:
        """The protocol beside a figure: its name, and where training is of another length or kind than it says."""
        own, named = type(self)(protocol=self.protocol), [self.protocol]
        if (self.epochs, self.steps) != (own.epochs, own.steps):
            named.append(f"{self.epochs} epochs" if self.epochs else f"{'/'.join(map(str, self.steps))} steps")
        if self.optimizer != own.optimizer:
            named.append(self.optimizer)
        return ", ".join(named + (["bfloat16"] if self.bf16 else []))

    def batch_of(self, images: int) -> int:
        """Batch size for a set of `images` images."""
        return min(self.batch or images, images)

    def lengths(self, images: int) -> tuple[int, ...]:
        """Steps after which networks are judged, for a set of `images` images."""
        return self.steps or (self.epochs * -(-images // self.batch_of(images)),)
