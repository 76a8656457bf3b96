"""Datasets: `load(settings, seed, device)` reads one, splits it, preprocesses it and puts it on a device.

Each `dataset.kind` of a recipe has its reader in `distill/data/<kind>.py`, with

    read(settings, notice) -> Raw            the whole dataset, or a DataError that lists every fault
    sources(settings) -> list[Path]          the files it depends on; empty for a dataset that a library contains
    decode_all(settings, notice) -> DecodedDataset     only of encoded images: every image with its fault
"""

import hashlib
import json
import logging
from importlib import import_module

import torch

from distill.data import cache
from distill.data.base import Dataset, Raw, Split
from distill.data.images import Notice, silent
from distill.data.places import local
from distill.data.preprocess import Preprocess, fit, refuse_large, transform
from distill.data.size import resize_dataset
from distill.data.split import grouped, imbalance, limited, stratified
from distill.data.texts import shown
from distill.recipe import DatasetSettings
from distill.rng import generator

log = logging.getLogger("stillhouse")

__all__ = ["Dataset", "Raw", "Split", "identify", "load", "outline", "read"]


def read(settings: DatasetSettings, notice: Notice = silent) -> Raw:
    """The dataset in its files, at the recipe's size; kept decoded on the local disk (distill/data/cache.py).

    `notice` is called with the progress. What was passed over is logged as a warning. DataError if the dataset is
    missing or damaged.
    """
    reader, settings = import_module(f"distill.data.{settings.kind}"), local(settings, notice)

    def make() -> Raw:
        return resize_dataset(reader.read(settings, notice), settings)

    sources = reader.sources(settings)
    raw = cache.cached(settings, sources, make) if sources else make()
    for note in raw.notes:
        log.warning("%s: %s", shown(str(getattr(settings, "path", settings.kind))), note)
    return raw


def outline(settings: DatasetSettings, seed: int, notice: Notice = silent) -> Dataset:
    """What an estimate needs of a dataset: load() with zeros for images, so that nothing is preprocessed.

    DataError as load().
    """
    raw = _limited(settings, notice)
    train, held = _split(raw, settings, seed)
    refuse_large(settings.preprocess, raw.train_x)

    def split(y: torch.Tensor) -> Split:
        return Split(torch.zeros(()).expand(len(y), *raw.train_x.shape[1:]), y, raw.classes)

    return Dataset(
        train=split(raw.train_y[train]),
        validation=split(raw.train_y[held]),
        test=split(raw.test_y),
        classes=raw.classes,
        fingerprint=_fingerprint(raw, settings, seed),
        preprocess=Preprocess(),
        parts=raw.parts,
    )


def load(settings: DatasetSettings, seed: int, device: torch.device, notice: Notice = silent) -> Dataset:
    """Read, limit, hold out a validation part, preprocess: three float32 splits on `device`.

    The validation part is stratified, or whole groups of images if they have any (Raw.train_group). It depends on
    `seed` alone; the preprocessing is fitted on what remains of the training part.
    DataError if files are missing or damaged, or a class has too few images.
    """
    raw = _limited(settings, notice)
    train, held = _split(raw, settings, seed)
    train_x = raw.train_x[train]
    preprocess = fit(settings.preprocess, train_x, device)

    held_y = raw.train_y[held]
    held_out = tuple(torch.bincount(held_y, minlength=len(raw.classes)).tolist())

    def split(x: torch.Tensor, y: torch.Tensor, held_out: tuple[int, ...] = ()) -> Split:
        return Split(transform(preprocess, x, device), y.to(device), raw.classes, held_out)

    return Dataset(
        train=split(train_x, raw.train_y[train], held_out),
        validation=split(raw.train_x[held], held_y),
        test=split(raw.test_x, raw.test_y),
        classes=raw.classes,
        fingerprint=_fingerprint(raw, settings, seed),
        preprocess=preprocess,
        parts=raw.parts,
    )


def identify(settings: DatasetSettings, seed: int, notice: Notice = silent) -> tuple[dict[str, str], str]:
    """The `parts` and the `fingerprint` that load() would give, without splitting and preprocessing."""
    raw = _limited(settings, notice)
    return raw.parts, _fingerprint(raw, settings, seed)


def _split(raw: Raw, settings: DatasetSettings, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the training and of the held-out images."""
    split_by = settings.validation, raw.classes, generator(seed, "validation split")
    where = getattr(settings, "path", settings.kind)
    if raw.train_group is None:
        return stratified(raw.train_y, *split_by, where)
    return grouped(raw.train_y, raw.train_group, *split_by, where)


def _limited(settings: DatasetSettings, notice: Notice) -> Raw:
    raw = limited(read(settings, notice), settings.limit, settings.limit_test, settings.limit_class)
    if uneven := imbalance(raw.train_y, raw.classes):
        log.warning("%s", uneven)
    return raw


def _fingerprint(raw: Raw, settings: DatasetSettings, seed: int) -> str:
    """SHA-256 over everything that decides what networks see: the raw data within limits, preprocessing, split."""
    ingredients = settings.model_dump(include={"preprocess", "validation"})
    text = json.dumps({"raw": raw.fingerprint, "seed": seed, **ingredients}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
