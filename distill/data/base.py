"""What every dataset reader returns (Raw), and what the rest of the project works on (Dataset)."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from distill.data.preprocess import Preprocess


@dataclass(frozen=True)
class Raw:
    """A dataset as read: uint8 images (n, c, h, w), int64 labels (n,), the official train and test parts."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]
    train_group: Tensor | None = None
    """Of each training image, int64 (n,): images of a group, such as the frames of an episode, are not split between
    training and validation. None: each image is by itself."""
    notes: tuple[str, ...] = ()
    """What was passed over and how unusual data were read, for people; no part of the fingerprint."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shapes, pixels, labels, groups if there are any, and class names."""
        h = hashlib.sha256("\x1f".join(self.classes).encode())
        grouped = [] if self.train_group is None else [self.train_group]
        for part in (self.train_x, self.train_y, self.test_x, self.test_y, *grouped):
            h.update(str((part.dtype, tuple(part.shape))).encode())
            h.update(part.contiguous().numpy())
        return h.hexdigest()

    @cached_property
    def parts(self) -> dict[str, str]:
        """SHA-256 of the training part and of the test part, each with the class names."""
        none = self.train_x[:0], self.train_y[:0]
        return {
            "train": replace(self, test_x=none[0], test_y=none[1]).fingerprint,
            "test": replace(self, train_x=none[0], train_y=none[1], train_group=None).fingerprint,
        }


@dataclass(frozen=True)
class Split:
    """Images as networks see them, float32 (n, c, h, w), and int64 labels (n,)."""

    x: Tensor
    y: Tensor
    names: tuple[str, ...] = ()
    """Names of the classes, for messages."""
    held_out: tuple[int, ...] = ()
    """Of the training part: how many images of each class are held out of it, for messages."""

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """A dataset on one device, preprocessed, split three ways."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    """SHA-256 of the raw data, the preprocessing and the split."""
    preprocess: Preprocess
    """What made the splits' images of [0, 1] pixels, and the way back."""
    parts: dict[str, str] = field(default_factory=dict)
    """Of the raw data (Raw.parts): which images a set was distilled from, and which judged it."""

    def to(self, device: torch.device) -> "Dataset":
        """The same on a device; tensors that are there already are shared, not copied."""
        splits = {name: getattr(self, name) for name in ("train", "validation", "test")}
        return replace(self, **{name: replace(s, x=s.x.to(device), y=s.y.to(device)) for name, s in splits.items()})

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of an image."""
        return tuple(self.train.x.shape[1:])
