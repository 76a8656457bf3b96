"""Settings of the networks: one class for each module in distill/nets/."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.settings import Count, Settings


class ConvNet(Settings):
    """[3x3 conv, norm, ReLU, 2x2 average pool] x depth, linear (Gidaris & Komodakis 2018, as DC, DM, MTT use it)."""

    kind: Literal["convnet"] = "convnet"
    depth: Annotated[int, Field(ge=1, le=8)] = 3
    width: Count = 128
    norm: Literal["instance", "batch", "group", "layer", "none"] = "instance"

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it."""
        return f"convnet-d{self.depth}-w{self.width}-{self.norm}"


Network = ConvNet  # a second network makes this Annotated[ConvNet | ..., Field(discriminator="kind")]
