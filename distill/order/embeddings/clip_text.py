"""CLIP text embeddings of the class names, from weights on this machine. Nothing is fetched or unpickled.

transformers and open_clip are optional: the user installs the one that the embedding needs.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from distill.errors import RecipeError


def prompts(classes: Sequence[str]) -> list[str]:
    """The bare class names, underscores as spaces, as PoDD gives them to CLIP."""
    return [name.replace("_", " ") for name in classes]


def transformers_clip(model: str, classes: Sequence[str]) -> np.ndarray:
    """Hidden states of the last layer at all 77 positions, flattened (c, 77 * width), as the paper's code has them.

    `model` is a folder, or a name such as openai/clip-vit-base-patch32 in the cache of Hugging Face.
    Raises RecipeError if transformers is missing, or the weights as safetensors.
    """
    transformers = _package("transformers", f"clip:{model}", "transformers")
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(model, local_files_only=True)
        encoder = transformers.CLIPTextModel.from_pretrained(model, local_files_only=True, use_safetensors=True)
    except OSError as error:
        raise RecipeError(
            f"clip:{model}: no model.safetensors of that name or folder on this machine "
            f"({str(error).partition(chr(10))[0]}): fetch it with `hf download {model}`, or give the folder that holds "
            "it; if only a .bin is published, convert it, as nothing is unpickled"
        ) from None
    tokens = tokenizer(prompts(classes), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder.eval()(tokens["input_ids"]).last_hidden_state  # (c, 77, width)
    return hidden.flatten(1).double().numpy()


def open_clip(model: str, classes: Sequence[str]) -> np.ndarray:
    """Pooled text embeddings (c, width) of an open_clip model; `model` is NAME@FILE, e.g. ViT-B-32@clip.safetensors.

    Raises RecipeError if open_clip or the file is missing, or the file is not safetensors.
    """
    name, _, path = model.partition("@")
    file = Path(path).expanduser()
    if not file.is_file() or file.suffix != ".safetensors":
        raise RecipeError(
            f"open-clip:{model}: write it as open-clip:MODEL@FILE, the file being its weights as .safetensors"
        )
    package = _package("open_clip", f"open-clip:{model}", "open_clip_torch")
    try:
        encoder = package.create_model(name, pretrained=str(file))
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # of open_clip: unknown model, weights of another
        raise RecipeError(
            f"open-clip:{model}: name a model of open_clip and the file of its own weights ({str(error)[:300]})"
        ) from None
    with torch.no_grad():
        return encoder.eval().encode_text(package.get_tokenizer(name)(prompts(classes))).double().numpy()


def _package(module: str, source: str, distribution: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"embedding {source!r} needs the package {distribution}, which is not installed ({error}): "
            f"`pip install {distribution}`, or use clip-table, file:PATH or an embedding from the images"
        ) from None
