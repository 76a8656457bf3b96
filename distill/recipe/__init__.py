"""What a run is, written down: the recipe.

A recipe is a TOML file plus dotted overrides (`objective.syn_steps=20`). It is parsed, checked and printed here
without importing torch, so that `--help` is instant. Unknown keys and values out of range are refused, all at once.

The unions that end the modules of this folder (`Dataset`, `Network`, `SyntheticSettings`, `ObjectiveSettings`) are the
registries: `kind = "pixels"` means the module `distill/synthetic/pixels.py`.
"""

from distill.recipe.dataset import Dataset, DatasetSettings, Digits, Parquet
from distill.recipe.experts import DSA, Augment, Experts
from distill.recipe.network import VGG, AlexNet, CarRacing, ConvNet, Network, ResNet, ViT
from distill.recipe.objective import Distribution, Engine, ObjectiveSettings, Trajectory, Unrolled
from distill.recipe.outer import Evaluation, Outer
from distill.recipe.reading import load, override, parse, shipped
from distill.recipe.settings import Name, Settings, members
from distill.recipe.synthetic import Labels, PatchAugment, Pixels, Poster, PosterLabels, SyntheticSettings
from distill.recipe.whole import Recipe, digest

__all__ = [
    "DSA",
    "VGG",
    "AlexNet",
    "Augment",
    "CarRacing",
    "ConvNet",
    "Dataset",
    "DatasetSettings",
    "Digits",
    "Distribution",
    "Engine",
    "Evaluation",
    "Experts",
    "Labels",
    "Name",
    "Network",
    "ObjectiveSettings",
    "Outer",
    "Parquet",
    "PatchAugment",
    "Pixels",
    "Poster",
    "PosterLabels",
    "Recipe",
    "ResNet",
    "Settings",
    "SyntheticSettings",
    "Trajectory",
    "Unrolled",
    "ViT",
    "digest",
    "load",
    "members",
    "override",
    "parse",
    "shipped",
]
