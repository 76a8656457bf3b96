"""StyleGAN2-ADA's generators, from stylegan2-ada-pytorch, stylegan3 and stylegan-xl, as distill/nets/stylegan2.py."""

from typing import Any

from torch import Tensor

from distill.errors import DataError
from distill.generators.pickles import Part
from distill.nets.stylegan2 import Size, settings

DEFAULTS = {"channel_base": 32768, "channel_max": 512}


def weights_and_settings(generator: Part) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and settings for distill.nets.stylegan2.draw. DataError for another architecture."""
    synthesis, mapping = generator.parts()["synthesis"], generator.parts()["mapping"]
    block = synthesis.parts()["b4"]
    architecture = block.state.get("architecture")
    if architecture != "skip":
        raise DataError(
            f"a StyleGAN2 generator of architecture {str(architecture)[:100]!r}: only 'skip', the published one, is "
            "supported; train it with skip connections"
        )
    layer, first = block.parts()["conv1"], mapping.parts()["fc0"]
    clamp = layer.state.get("conv_clamp")
    size = Size(
        resolution=int(generator.number("img_resolution")),
        channels=int(generator.number("img_channels")),
        classes=int(generator.number("c_dim")),
        z=int(generator.number("z_dim")),
        w=int(generator.number("w_dim")),
        mapping=int(mapping.number("num_layers")),
        base=_argument(generator, "channel_base"),
        most=_argument(generator, "channel_max"),
        lr_multiplier=float(first.number("bias_gain")),
        clamp=None if clamp is None else float(layer.number("conv_clamp")),
    )
    weights = {k: v.float() for k, v in generator.tensors().items() if not k.endswith("resample_filter")}
    return weights, settings(size)


def _argument(generator: Part, name: str) -> int:
    """An argument of the synthesis network, which the older code base keeps in a dictionary of its own."""
    arguments = generator.state.get("_init_kwargs")
    arguments = arguments if isinstance(arguments, dict) else {}
    nested = arguments.get("synthesis_kwargs")
    given = Part("generator", DEFAULTS | arguments | (nested if isinstance(nested, dict) else {}))
    return int(given.number(name))
