"""Features of a frozen network: maps of any architecture, weights by path, labels that tell them apart."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from support import small

from distill import features, nets
from distill.errors import DataError, RecipeError


def test_maps_are_the_outputs_of_blocks_and_zero_is_the_image():
    c = small.context("distribution", "network.depth=2")
    chosen, x = features.of("random", c), c.data.train.x[:3]
    image, first, second = chosen.maps(x, (0, 1, 2))
    assert image is x and first.shape == (3, 4, 4, 4) and second.shape == (3, 4, 2, 2)
    assert torch.equal(second.flatten(1), chosen(x)), "a ConvNet's features are its last map"
    assert torch.equal(first.flatten(1), c.network.maps(chosen.theta, x, (1,))[0])
    assert chosen.maps(x, (0,)) == [x] and c.network.blocks(c.data.shape) == 2


def test_tokens_are_maps_of_width_one():
    c = small.context("distribution", "network.kind=vit", "network.dim=12", "network.heads=2", "network.depth=1")
    chosen, x = features.of("random", c), c.data.train.x[:2]
    ((first,), (flat,)) = chosen.maps(x, (1,)), c.network.maps(chosen.theta, x, (1,))
    tokens = first.shape[2]
    assert first.shape == (2, 12, tokens, 1) and tokens > 1
    assert torch.equal(first[..., 0].transpose(1, 2).flatten(1), flat)


def test_weights_by_path_are_those_of_the_module(tmp_path):
    c = small.context("distribution")
    module = nets.build(c.recipe.network, c.data.shape, c.classes).module
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    chosen, x = features.of(f"file:{tmp_path}/weights.safetensors", c), c.data.train.x[:4]
    assert torch.allclose(chosen(x), module(x, features=True), atol=1e-6)
    assert chosen.label.startswith("weights ") and c.recipe.network.label in chosen.label


def test_labels_tell_networks_apart(tmp_path):
    c = small.context("distribution")
    last = c.experts.epochs[-1]
    labels = [features.of("random", c).label, features.of("random", c, 1).label]
    labels += [features.of("experts", c, number).label for number in (0, -1)]
    assert len(set(labels)) == 4 and f"expert 1 of convnet-{c.recipe.experts_id(c.data.fingerprint)}" in labels[3]
    assert torch.equal(features.of("experts", c, -1).theta, c.experts.snapshot(1, last))
    assert not torch.equal(features.of("random", c).theta, features.of("random", c, 1).theta)


def test_what_cannot_be_read_is_named_with_the_fix(tmp_path):
    c = small.context("distribution")
    good = nets.build(c.recipe.network, c.data.shape, c.classes).module.state_dict()
    cases = {
        "missing": (None, "no safetensors file"),
        "damaged": (b"not safetensors", "no safetensors file"),
        "other": ({k: v for k, v in good.items() if k != "classifier.bias"}, "lacks classifier.bias"),
        "wider": (good | {"convs.0.bias": torch.zeros(9)}, r"has convs.0.bias of shape \(9,\).*set network as that"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content:
            save_file(content, path)
        with pytest.raises(DataError, match=message):
            features.of(f"file:{path}", c)
    with pytest.raises(RecipeError, match="train them with `stillhouse experts`"):
        features.of("experts", replace(c, experts=None))
    with pytest.raises(RecipeError, match="network.norm=instance"):
        features.of("random", small.context("distribution", "network.norm=batch"))
