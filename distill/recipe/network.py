"""Settings of the networks: one class for each module in distill/nets/."""

from typing import Annotated, Literal

from pydantic import Field

from distill.recipe.settings import Count, Settings, by_default

Norms = Literal["instance", "batch", "group", "layer", "none"]


class ConvNet(Settings):
    """[3x3 conv, norm, ReLU, 2x2 average pool] x depth, linear (Gidaris & Komodakis 2018, as DC, DM, MTT use it)."""

    kind: Literal["convnet"] = "convnet"
    depth: Annotated[int, Field(ge=1, le=8)] = 3
    width: Count = 128
    norm: Norms = "instance"

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it."""
        return f"convnet-d{self.depth}-w{self.width}-{self.norm}"


class ResNet(Settings):
    """ResNet-18 (He et al. 2016) with a 3x3 stem for small images; shortcut = "avgpool" is the field's ResNet18AP."""

    kind: Literal["resnet"] = "resnet"
    width: Count = 64
    """Channels of the first stage; the other three have 2, 4 and 8 times as many."""
    shortcut: Literal["conv", "avgpool"] = "conv"
    """conv: strided convolutions and global average pooling; avgpool: 2x2 average pooling instead of strides, and the
    last feature map flattened."""
    norm: Norms = "instance"

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it."""
        return f"resnet18{'ap' * (self.shortcut == 'avgpool')}-w{self.width}-{self.norm}"


class VGG(Settings):
    """VGG-11 (Simonyan & Zisserman 2015) with one linear layer, as the field uses it. Needs images of 28 px or more."""

    kind: Literal["vgg"] = "vgg"
    width: Count = 64
    """Channels of the first convolution; later ones have up to 8 times as many."""
    norm: Norms = "instance"

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it."""
        return f"vgg11-w{self.width}-{self.norm}"


class AlexNet(Settings):
    """AlexNet (Krizhevsky et al. 2012) in the field's small form: five convolutions, three max pools, linear."""

    kind: Literal["alexnet"] = "alexnet"
    width: Count = 64
    """The convolutions have 2, 3, 4, 3 and 3 times this many channels."""
    norm: Norms = "instance"
    """The code of MTT and DC uses none in this network."""

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it."""
        return f"alexnet-w{self.width}-{self.norm}"


class ViT(Settings):
    """Vision transformer (Dosovitskiy et al. 2021), pre-norm, mean pooling over tokens before the linear layer."""

    kind: Literal["vit"] = "vit"
    patch: Annotated[int, Field(ge=0)] = 0
    """Patch side in pixels, which must divide the image side; 0: 4 at 28 and 32 px, 8 at 64 px, 16 at 128 px."""
    dim: Count = 192
    """Width of a token; must be a multiple of `heads`."""
    depth: Count = 6
    """Transformer blocks; the hidden layer of their MLP is four times as wide as a token."""
    heads: Count = 3

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it."""
        return f"vit-p{self.patch or 'auto'}-d{self.dim}-l{self.depth}-h{self.heads}"


class CarRacing(Settings):
    """Three [conv, ReLU] blocks and three linear layers: the driver of the generative thesis, section 4.2."""

    kind: Literal["carracing"] = "carracing"
    width: Count = 32
    """Channels of the first block; the next two have twice as many. The thesis gives no widths."""
    hidden: Count = 128
    """Width of the first two linear layers."""

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it."""
        return f"carracing-w{self.width}-h{self.hidden}"


Network = Annotated[
    ConvNet | ResNet | VGG | AlexNet | ViT | CarRacing,
    Field(discriminator="kind"),
    by_default("convnet"),
]
