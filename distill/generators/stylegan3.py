"""Generators of StyleGAN3 (configs T and R) and StyleGAN-XL (any stage), as distill/nets/stylegan_xl.py.

Every layer is built from the signals that its module holds, so that stages of StyleGAN-XL, whose arguments name the
file of an earlier stage, need nothing else.
"""

import re
from typing import Any

import torch
from torch import Tensor

from distill.errors import DataError
from distill.generators.pickles import Part
from distill.nets import stylegan_xl
from distill.nets.stylegan_xl import Layer, Signal

FILTER_ERROR = 1e-4
"""Difference of a filter from the designed one, relative to its largest value."""
MOST_CLASSES, MOST_W = 100_000, 4096
LAYER = re.compile(r"L(\d+)_\d+_\d+")


def weights_and_settings(generator: Part) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and settings for distill.nets.stylegan_xl.draw. DataError for another architecture or other filters."""
    synthesis, mapping = generator.parts()["synthesis"], generator.parts()["mapping"]
    names = sorted((n for n in synthesis.parts() if LAYER.fullmatch(n)), key=lambda n: int(LAYER.fullmatch(n)[1]))
    layers = [synthesis.parts()[name] for name in names]
    tensors = {name: tensor.float() for name, tensor in synthesis.tensors().items()}
    weights = {}
    for i, name in enumerate(names):
        for part in ("affine.weight", "affine.bias", "weight", "bias", "magnitude_ema"):
            weights[f"synthesis.layers.{i}.{part}"] = _of(tensors, f"{name}.{part}")
    for part in ("affine.weight", "affine.bias", "weight", "freqs", "phases"):
        weights[f"synthesis.input.{part}"] = _of(tensors, f"input.{part}")
    if synthesis.number("output_scale", stylegan_xl.OUTPUT_SCALE) != stylegan_xl.OUTPUT_SCALE or not layers:
        raise DataError("a StyleGAN3 generator without layers or with another scale of its images: fetch it again")
    plan = [_layer(layer) for layer in layers]
    classes, w_dim = int(generator.number("c_dim")), int(generator.number("w_dim"))
    weights |= _mapping(mapping, classes, w_dim)
    embedding = weights.get("mapping.embedding")
    settings = {
        "layers": [[list(layer.source), list(layer.target), *layer[2:]] for layer in plan],
        "classes": classes,
        "z_dim": int(generator.number("z_dim")),
        "w_dim": w_dim,
        "mapping_layers": int(mapping.number("num_layers")),
        "embedding_dim": 0 if embedding is None else embedding.shape[1],
        "projected": "mapping.projection.weight" in weights,
        "frozen": 0,
        "image": [plan[-1].target.size] * 2,
        "scale": None,
        "shift": None,
    }
    problem = stylegan_xl.fault(weights, settings, classes)
    if not problem and plan[-1].target.size != generator.number("img_resolution"):
        problem = f"its layers make images of {plan[-1].target.size} px, its settings say another number"
    if not problem:
        with torch.device("meta"):
            network = stylegan_xl.build(settings)
        problem = _other_filters(network, names, tensors)
    if problem:
        raise DataError(f"a StyleGAN3 generator that does not fit together: {problem}; fetch it again")
    return weights, settings


def _layer(part: Part) -> Layer:
    source, target = (
        Signal(
            int(part.number(f"{end}_channels")),
            int(part.number(f"{end}_size")),
            int(part.number(f"{end}_sampling_rate")),
            float(part.number(f"{end}_cutoff")),
            float(part.number(f"{end}_half_width")),
        )
        for end in ("in", "out")
    )
    critical, rgb = bool(part.number("is_critically_sampled")), bool(part.number("is_torgb"))
    radial = bool(part.number("down_radial", False))
    return Layer(source, target, critical, rgb, int(part.number("conv_kernel")), radial)


def _mapping(mapping: Part, classes: int, w_dim: int) -> dict[str, Tensor]:
    """Weights of the mapping network. StyleGAN3 learns one vector per class, with the scale of a linear layer;
    StyleGAN-XL projects those of another network."""
    if not 0 <= classes <= MOST_CLASSES or not 0 < w_dim <= MOST_W:
        raise DataError(f"a StyleGAN3 generator with {classes} classes and w of {w_dim}: fetch it again")
    tensors = {name: tensor.float() for name, tensor in mapping.tensors().items()}
    weights, rows = {}, max(classes, 1)
    for i in range(int(mapping.number("num_layers"))):
        for part in ("weight", "bias"):
            weights[f"mapping.layers.{i}.{part}"] = _of(tensors, f"fc{i}.{part}")
    if classes and "embed_proj.weight" in tensors:
        weights["mapping.embedding"] = _of(tensors, "embed.weight", (classes, None))
        weights["mapping.projection.weight"] = tensors["embed_proj.weight"]
        weights["mapping.projection.bias"] = _of(tensors, "embed_proj.bias")
    elif classes:
        embed, bias = _of(tensors, "embed.weight", (None, classes)), _of(tensors, "embed.bias", (None,))
        if len(embed) != len(bias):
            raise DataError("a StyleGAN3 generator whose class embeddings do not fit together: fetch it again")
        weights["mapping.embedding"] = (embed / classes**0.5 + bias[:, None]).T.contiguous()
    center = _of(tensors, "w_avg")
    center = center.repeat(rows, 1) if center.shape == (w_dim,) else center  # StyleGAN3 has one for all classes
    return weights | {"mapping.w_avg": center}


def _other_filters(network: stylegan_xl.StyleGANXL, names: list[str], tensors: dict[str, Tensor]) -> str:
    """The first layer whose filters are not those of the paper; empty if there is none."""
    for layer, name in zip(network.synthesis.layers, names, strict=True):
        for kind in ("up_filter", "down_filter"):
            ours, theirs = getattr(layer, kind), tensors.get(f"{name}.{kind}")
            if (ours is None) != (theirs is None):
                return f"{name} {'lacks' if theirs is None else 'has'} its {kind}"
            if ours is None:
                continue
            if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=FILTER_ERROR * ours.max().item()):
                return f"{name} has another {kind} than the one of its cutoffs"
    return ""


def _of(tensors: dict[str, Tensor], name: str, shape: tuple[int | None, ...] | None = None) -> Tensor:
    """The tensor of that name; `shape`, if given, with None for any length. DataError if there is none."""
    if name not in tensors:
        raise DataError(f"a StyleGAN3 generator without {name}: fetch it again")
    have = tensors[name].shape
    if shape and (len(have) != len(shape) or any(b not in (None, a) for a, b in zip(have, shape, strict=True))):
        raise DataError(f"a StyleGAN3 generator with {name} of shape {tuple(have)}: fetch it again")
    return tensors[name]
