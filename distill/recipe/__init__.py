"""The recipe: the complete configuration of a run.

A recipe is a TOML file plus dotted overrides (`objective.syn_steps=20`). It is parsed, checked and printed here
without importing torch, so that `--help` is instant. Unknown keys and values out of range are refused, all at once.

The unions at the end of the modules in this folder (`Dataset`, `Network`, `SyntheticSettings`, `ObjectiveSettings`) are
the registries: `kind = "pixels"` selects the module `distill/synthetic/pixels.py`.
"""

from distill.recipe.adversarial import Adversarial
from distill.recipe.dataset import (
    CarRacingFrames,
    Cifar,
    Cub,
    Dataset,
    DatasetSettings,
    Digits,
    Files,
    Folder,
    Idx,
    Npz,
    Parquet,
    TinyImagenet,
)
from distill.recipe.experts import DSA, Augment, Experts, ExpertUse
from distill.recipe.generator import Gan, Generator, GeneratorXL, Latents, Sizing, SizingXL
from distill.recipe.network import VGG, AlexNet, CarRacing, ConvNet, Network, ResNet, ViT
from distill.recipe.objective import Distribution, Gradient, ObjectiveSettings, Trajectory, Unrolled
from distill.recipe.objective_base import Compute, Engine, ObjectiveBase
from distill.recipe.outer import PROTOCOLS, Baseline, Evaluation, Outer, Sampling
from distill.recipe.poster import PatchAugment, Poster, PosterLabels
from distill.recipe.reading import current, load, override, parse, shipped
from distill.recipe.settings import Name, Settings, chosen, dotted, members, portable, slug, with_paths_of
from distill.recipe.synthetic import Canvas, Factorized, Pixels, SyntheticSettings, Wang
from distill.recipe.synthetic_base import Labels, Selector, SyntheticBase
from distill.recipe.whole import Recipe, digest

__all__ = [
    "DSA",
    "PROTOCOLS",
    "VGG",
    "Adversarial",
    "AlexNet",
    "Augment",
    "Baseline",
    "Canvas",
    "CarRacing",
    "CarRacingFrames",
    "Cifar",
    "Compute",
    "ConvNet",
    "Cub",
    "Dataset",
    "DatasetSettings",
    "Digits",
    "Distribution",
    "Engine",
    "Evaluation",
    "ExpertUse",
    "Experts",
    "Factorized",
    "Files",
    "Folder",
    "Gan",
    "Gradient",
    "Generator",
    "GeneratorXL",
    "Idx",
    "Labels",
    "Latents",
    "Name",
    "Network",
    "Npz",
    "ObjectiveBase",
    "ObjectiveSettings",
    "Outer",
    "Parquet",
    "PatchAugment",
    "Pixels",
    "Poster",
    "PosterLabels",
    "Recipe",
    "ResNet",
    "Sampling",
    "Selector",
    "Settings",
    "Sizing",
    "SizingXL",
    "SyntheticBase",
    "SyntheticSettings",
    "TinyImagenet",
    "Trajectory",
    "Unrolled",
    "ViT",
    "Wang",
    "chosen",
    "current",
    "digest",
    "dotted",
    "load",
    "members",
    "override",
    "parse",
    "portable",
    "shipped",
    "slug",
    "with_paths_of",
]
