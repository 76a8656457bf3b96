"""What a page of the gallery shows of one result, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from cluster.results.comparing import Score
from cluster.tracking.metrics import Curve
from distill.published import Published


@dataclass(frozen=True)
class Budget:
    """What must be stored to train on the set."""

    floats: int
    bits: int
    ipc: float
    """The same as images per class."""
    shared_floats: int = 0
    """Numbers that several sets share, such as a frozen generator's; not in `floats`."""


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on the test images of networks of one kind, with what was measured beside it."""

    network: str
    protocol: str
    score: Score
    baselines: dict[str, Score] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    """DD-Ranking's, by name."""


@dataclass(frozen=True)
class Frames:
    """How the set formed: at each step the stored images, or, if the run's pictures are not made of them, pictures."""

    steps: tuple[int, ...] = ()
    shown: tuple[Tensor, ...] = ()
    """As Stored.shown(), one for each step."""
    pictures: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Result:
    """One distilled set with everything that is known of it."""

    slug: str
    """Its folder in the site: [a-z0-9_.-]."""
    title: str
    name: str
    """As the user named it: a run, a model, a folder."""
    dataset: str
    method: str
    published: Published
    budget: Budget
    evaluations: tuple[Evaluation, ...] = ()
    """That of the recipe's own network and protocol first."""
    selection: str = ""
    """The part of the data that chose the step; empty if unknown."""
    curves: dict[str, Curve] = field(default_factory=dict)
    frames: Frames = Frames()
    real: Sequence[Tensor] = ()
    """Real training images (k, c, h, w) in [0, 1], for each class; empty if the data are not at hand."""
    load: str = "synthetic.safetensors"
    """What distill.load() takes."""
    files: dict[str, bytes] = field(default_factory=dict)
    """The published files, by name, exactly as they are stored."""
    notes: tuple[str, ...] = ()
    """What is missing from the page, and why."""

    @property
    def score(self) -> Score | None:
        """Test accuracy with the recipe's own network; None if it is unknown."""
        return self.evaluations[0].score if self.evaluations else None

    @property
    def baselines(self) -> dict[str, Score]:
        """Those of the recipe's own network."""
        return self.evaluations[0].baselines if self.evaluations else {}

    @property
    def shown(self) -> Tensor:
        """The stored images in [0, 1]."""
        published = self.published
        if published.shown is not None:
            return published.shown
        return published.stored.shown(published.preprocess.to_pixels)
