"""CLIP text encoders: what is said without the packages or weights, and what is asked of the packages.

The packages are stood in for by modules with the same calls, so what is tested is this side of them: prompts, padding,
that nothing is fetched or unpickled, and the shape that comes out.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distill.errors import RecipeError
from distill.order.embeddings import distances
from distill.order.embeddings.clip_text import open_clip, transformers_clip

CLASSES = ("pickup_truck", "cat")


@pytest.mark.parametrize("module, source", [("transformers", "clip:some/model"), ("open_clip", "open-clip:M@{}")])
def test_a_package_that_is_not_there_is_named(module, source, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    weights = tmp_path / "w.safetensors"
    weights.touch()
    with pytest.raises(RecipeError, match=f"needs the package {module}.*pip install"):
        distances(CLASSES, source.format(weights))


class Tokenizer:
    asked: dict = {}

    @classmethod
    def from_pretrained(cls, model, local_files_only):
        assert local_files_only
        if model == "absent":
            raise OSError("absent is not a folder\nand more")
        return cls()

    def __call__(self, prompts, **settings):
        Tokenizer.asked = {"prompts": prompts, **settings}
        ids = torch.zeros(len(prompts), 77, dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor([ord(c) for c in prompt])
        return {"input_ids": ids}


class Encoder(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, model, local_files_only, use_safetensors):
        assert local_files_only and use_safetensors
        return cls()

    def forward(self, ids):
        assert not self.training
        return SimpleNamespace(last_hidden_state=ids[:, :, None] * torch.tensor([1.0, 2, 3]))  # (c, 77, 3)


def test_hidden_states_of_the_bare_names_are_flattened(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(CLIPTokenizer=Tokenizer, CLIPTextModel=Encoder))
    x = transformers_clip("some/model", CLASSES)
    assert Tokenizer.asked["prompts"] == ["pickup truck", "cat"] and Tokenizer.asked["padding"] == "max_length"
    assert x.shape == (2, 77 * 3) and x[1, :6].tolist() == [
        ord("c"),
        2 * ord("c"),
        3 * ord("c"),
        *(ord("a") * np.array([1, 2, 3])),
    ]
    with pytest.raises(RecipeError, match="absent is not a folder.*hf download"):
        transformers_clip("absent", CLASSES)


def test_open_clip_takes_safetensors_only(monkeypatch, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.touch()

    class Model(torch.nn.Module):
        def encode_text(self, tokens):
            return tokens.float()

    def create_model(name, pretrained):
        if name != "ViT-B-32":
            raise RuntimeError(f"Model config for {name!r} not found")
        assert pretrained == str(weights)
        return Model()

    fake = SimpleNamespace(
        create_model=create_model,
        get_tokenizer=lambda name: lambda prompts: torch.tensor([[len(p), 1] for p in prompts]),
    )
    monkeypatch.setitem(sys.modules, "open_clip", fake)
    assert open_clip(f"ViT-B-32@{weights}", CLASSES).tolist() == [[12, 1], [3, 1]]
    with pytest.raises(RecipeError, match="ViT-X"):
        open_clip(f"ViT-X@{weights}", CLASSES)
    for wrong in ("ViT-B-32", f"ViT-B-32@{tmp_path}/w.pt", f"ViT-B-32@{tmp_path}/no.safetensors"):
        with pytest.raises(RecipeError, match="MODEL@FILE"):
            open_clip(wrong, CLASSES)
