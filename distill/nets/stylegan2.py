"""StyleGAN2's generator (Karras et al. 2020), in the form of StyleGAN2-ADA, at any size: 30 k floats or 30 million.

    size = fit(30_720, resolution=32, channels=3, classes=10)           # the largest generator within a budget
    generator = Generator(size)
    generator.initialise(torch.Generator().manual_seed(0))
    x = generator(z, labels, generator.noise(len(z), g))                # (n, c, r, r)

Plain PyTorch: twice differentiable, and compiles with fullgraph=True. It imports only torch and the standard library,
because this file is stored with every published set whose images it draws (`draw` below).

Parameters and buffers are named and shaped as in the published StyleGAN2-ADA generators, with r = 4, 8, ... resolution:

    mapping.embed.{weight,bias}  mapping.fc{i}.{weight,bias}  mapping.w_avg
    synthesis.b4.const  synthesis.b{r}.conv{0,1}.{affine.weight,affine.bias,weight,bias,noise_strength,noise_const}
    synthesis.b{r}.torgb.{affine.weight,affine.bias,weight,bias}

Their `resample_filter` buffers have no counterpart: the filter is always the one of resample(), [1, 3, 3, 1] / 8.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-8
SLOPE, GAIN = 0.2, math.sqrt(2)
"""Leaky ReLU, and the factor after it that keeps the variance."""
MOST_CODE, MOST_CHANNELS = 512, 4096
MOST_RESOLUTION = 1024
CHUNK = 100
"""Images that draw() computes at once."""
AVERAGED = 1000
"""Latents per class whose mean w is the centre of truncation, if the weights contain no w_avg."""


@dataclass(frozen=True)
class Size:
    """What determines the shapes of all weights; as JSON, the first part of the settings of draw()."""

    resolution: int
    """A power of two, from 4."""
    channels: int
    """Of an image."""
    classes: int
    """0: unconditional."""
    z: int
    w: int
    mapping: int
    """Layers of the mapping network."""
    base: int
    """Feature maps at side r: base / r, at most `most`."""
    most: int
    lr_multiplier: float = 0.01
    """Learning rate of the mapping network, as a factor."""
    clamp: float | None = None
    """Bound of activations; published generators have 256."""

    @property
    def sides(self) -> list[int]:
        return [2**i for i in range(2, self.resolution.bit_length())]

    def maps(self, side: int) -> int:
        """Number of feature maps at a resolution."""
        return max(1, min(self.base // side, self.most))

    @property
    def styles(self) -> int:
        """Number of w that one image uses: one per convolution, and one for the last to-RGB."""
        return 2 * len(self.sides)

    def floats(self) -> int:
        """Number of learned values."""
        with torch.device("meta"):
            return sum(p.numel() for p in Generator(self).parameters())


def fit(
    budget: int, resolution: int, channels: int, classes: int, w: int = 0, z: int = 0, mapping: int = 2,
    base: int = 0, lr_multiplier: float = 0.01,
) -> Size:  # fmt: skip
    """The largest generator with at most `budget` learned floats.

    First the number of feature maps is raised as far as it goes, with w twice as large (if it is not given), then w
    uses the rest. z is as large as w if not given; without a base all resolutions have the same number of maps.
    Raises ValueError, with the smallest possible number of floats, if the budget is below it.
    """

    def sized(most: int, width: int) -> Size:
        width = w or min(width, MOST_CODE)
        maps = base or most * resolution
        return Size(resolution, channels, classes, z or width, width, mapping, maps, most, lr_multiplier)

    if (smallest := sized(1, 2).floats()) > budget:
        raise ValueError(f"a budget of {budget:,} floats: the smallest generator has {smallest:,}")
    most = _largest(lambda m: sized(m, 2 * m).floats() <= budget, 1, MOST_CHANNELS)
    width = _largest(lambda v: sized(most, v).floats() <= budget, 2 * most, MOST_CODE)
    return sized(most, width)


def _largest(fits, low: int, high: int) -> int:
    """The largest number from `low`, which fits, to `high` that fits."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


# ---------------------------------------------------------------- parts


class Linear(nn.Module):
    """A linear layer with equalised learning rate: weights of unit variance, scaled when used."""

    def __init__(self, inputs: int, outputs: int, start: float = 0.0, lr_multiplier: float = 1.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(outputs, inputs)), nn.Parameter(torch.zeros(outputs))
        self.start, self.lr_multiplier = start, lr_multiplier
        self.gain = lr_multiplier / math.sqrt(inputs)

    def draw(self, g: torch.Generator) -> None:
        self.weight.copy_(torch.randn(self.weight.shape, generator=g) / self.lr_multiplier)
        self.bias.fill_(self.start)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.lr_multiplier)


def activate(x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Leaky ReLU times sqrt(2) times `gain`, clamped to +-clamp * gain."""
    x = F.leaky_relu(x, SLOPE) * (GAIN * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def normalised(x: Tensor) -> Tensor:
    """Rows of x (n, d) with a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + EPS).rsqrt()


def resample(x: Tensor, before: int, after: int, gain: float = 1.0) -> Tensor:
    """x (n, c, h, w), padded with zeros, filtered by [1, 3, 3, 1] / 8 along both axes, times `gain` along each."""
    x = F.pad(x, (before, after, before, after))
    for axis in (2, 3):
        n = x.shape[axis] - 3
        a, b, c, d = (x.narrow(axis, k, n) for k in range(4))
        x = (a + d + 3 * (b + c)) * (gain / 8)
    return x


def upsampled(x: Tensor) -> Tensor:
    """x (n, c, h, w) at twice the resolution: zeros between the pixels, then the filter."""
    n, c, h, w = x.shape
    x = F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).reshape(n, c, 2 * h, 2 * w)
    return resample(x, 2, 1, gain=2)


def modulated(x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool = True, up: bool = False) -> Tensor:
    """Convolution of x (n, i, h, w) with each image's own weights, weight (o, i, k, k) times its styles (n, i).

    Demodulation divides the weights of each output map by their norm (StyleGAN2, equation 3). Scaling the maps before
    and after one shared convolution is the same and needs no weights per image. `up` doubles the resolution.
    """
    x = x * styles[:, :, None, None]
    if up:
        x = resample(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, 1, gain=2)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
    if demodulate:
        squares = styles.square() @ weight.square().sum((2, 3)).T  # (n, o)
        x = x * (squares + EPS).rsqrt()[:, :, None, None]
    return x


# ---------------------------------------------------------------- the generator


class Mapping(nn.Module):
    """From latents z (n, z) and classes (n,) to w (n, w); with z = 0, of classes alone (the discriminator's)."""

    def __init__(self, z: int, classes: int, w: int, layers: int, lr_multiplier: float = 0.01):
        super().__init__()
        self.classes, self.layers = classes, layers
        if classes:
            self.embed = Linear(classes, w)
        for i in range(layers):
            inputs = w if i else z + w * bool(classes)
            setattr(self, f"fc{i}", Linear(inputs, w, lr_multiplier=lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(w))

    def forward(self, z: Tensor | None, labels: Tensor | None, truncation: float = 1.0) -> Tensor:
        """`w_avg` is the centre of truncation: (w,), or (classes, w) with one for each class."""
        parts = [] if z is None else [normalised(z)]
        if self.classes:
            parts.append(normalised(self.embed(F.one_hot(labels, self.classes).to(self.embed.weight))))
        x = torch.cat(parts, 1)
        for i in range(self.layers):
            x = activate(getattr(self, f"fc{i}")(x))
        if truncation == 1:
            return x
        centre = self.w_avg if self.w_avg.ndim == 1 else self.w_avg[labels]
        return centre + truncation * (x - centre)


class Conv(nn.Module):
    """A modulated convolution, noise, bias and activation."""

    def __init__(self, inputs: int, outputs: int, side: int, size: Size, up: bool):
        super().__init__()
        self.side, self.up, self.clamp = side, up, size.clamp
        self.affine = Linear(size.w, inputs, start=1.0)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.zeros(side, side))

    def draw(self, g: torch.Generator) -> None:
        self.weight.copy_(torch.randn(self.weight.shape, generator=g))
        self.noise_const.copy_(torch.randn(self.noise_const.shape, generator=g))
        self.bias.zero_()
        self.noise_strength.zero_()

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        x = modulated(x, self.weight, self.affine(w), up=self.up)
        x = x if noise is None else x + noise * self.noise_strength
        return activate(x + self.bias[:, None, None], clamp=self.clamp)


class ToRGB(nn.Module):
    """A 1x1 convolution to image channels, modulated but not demodulated, without activation."""

    def __init__(self, inputs: int, size: Size):
        super().__init__()
        self.clamp, self.gain = size.clamp, 1 / math.sqrt(inputs)
        self.affine = Linear(size.w, inputs, start=1.0)
        self.weight = nn.Parameter(torch.zeros(size.channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(size.channels))

    def draw(self, g: torch.Generator) -> None:
        self.weight.copy_(torch.randn(self.weight.shape, generator=g))
        self.bias.zero_()

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated(x, self.weight, self.affine(w) * self.gain, demodulate=False) + self.bias[:, None, None]
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class Block(nn.Module):
    """All layers at one resolution; the first starts from a learned constant and has one convolution, not two."""

    def __init__(self, side: int, size: Size):
        super().__init__()
        maps, self.first = size.maps(side), side == 4
        if self.first:
            self.const = nn.Parameter(torch.zeros(maps, side, side))
        else:
            self.conv0 = Conv(size.maps(side // 2), maps, side, size, up=True)
        self.conv1 = Conv(maps, maps, side, size, up=False)
        self.torgb = ToRGB(maps, size)

    def draw(self, g: torch.Generator) -> None:
        if self.first:
            self.const.copy_(torch.randn(self.const.shape, generator=g))

    @property
    def convs(self) -> list[Conv]:
        return [self.conv1] if self.first else [self.conv0, self.conv1]

    def forward(self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: list[Tensor | None]):
        """Feature maps and image after this block, from those before it; w (n, convs + 1, w)."""
        x = self.const.expand(len(w), -1, -1, -1) if self.first else x
        for i, conv in enumerate(self.convs):
            x = conv(x, w[:, i], noise[i])
        rgb = self.torgb(x, w[:, -1])
        return x, rgb if image is None else upsampled(image) + rgb


class Synthesis(nn.Module):
    """From w to images: a block for each resolution, whose to-RGB layers add up (skip generator)."""

    def __init__(self, size: Size):
        super().__init__()
        self.size = size
        for side in size.sides:
            setattr(self, f"b{side}", Block(side, size))

    def blocks(self) -> list[tuple[int, Block]]:
        """(resolution, block), the smallest first."""
        return [(side, getattr(self, f"b{side}")) for side in self.size.sides]

    def forward(
        self,
        w: Tensor,
        noise: list[Tensor] | None = None,
        start: int = 4,
        x: Tensor | None = None,
        image: Tensor | None = None,
        stop: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """(feature maps, images) after the block of resolution `stop`, or after the last one.

        w is (n, w), or (n, styles, w) with one for each layer. `noise` lists a map (n, 1, r, r) or (r, r) per
        convolution. With `start` above 4, x and image are what the block before that resolution gave.
        """
        w = w[:, None].expand(-1, self.size.styles, -1) if w.ndim == 2 else w
        at = 0  # convolutions before this block
        for side, block in self.blocks():
            n = len(block.convs)
            if start <= side <= (stop or side):
                own = [None] * n if noise is None else noise[at : at + n]
                x, image = block(x, image, w[:, at : at + n + 1], own)
            at += n
        return x, image


class Generator(nn.Module):
    """Mapping and synthesis. Weights are zero until initialise() or load_state_dict()."""

    def __init__(self, size: Size):
        super().__init__()
        self.size = size
        self.mapping = Mapping(size.z, size.classes, size.w, size.mapping, size.lr_multiplier)
        self.synthesis = Synthesis(size)

    def initialise(self, g: torch.Generator) -> "Generator":
        """Random weights as in the paper."""
        with torch.no_grad():
            for module in self.modules():
                if hasattr(module, "draw"):
                    module.draw(g)
        return self

    def forward(
        self, z: Tensor, labels: Tensor | None, noise: list[Tensor] | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Images (n, c, r, r) of latents z (n, z) and classes (n,)."""
        return self.synthesis(self.mapping(z, labels, truncation), noise)[1]

    def latents(self, n: int, g: torch.Generator) -> Tensor:
        """Random z (n, z), drawn on the CPU."""
        const = self.synthesis.b4.const
        return torch.randn(n, self.size.z, generator=g).to(const)

    def noise(self, n: int, g: torch.Generator) -> list[Tensor]:
        """Random noise for n images, for the synthesis network; drawn on the CPU."""
        const, convs = self.synthesis.b4.const, [c for _, b in self.synthesis.blocks() for c in b.convs]
        return [torch.randn(n, 1, c.side, c.side, generator=g).to(const) for c in convs]

    def constant_noise(self) -> list[Tensor]:
        """The noise that published generators store, (r, r) per convolution."""
        return [c.noise_const for _, b in self.synthesis.blocks() for c in b.convs]

    def mean_w(self) -> Tensor:
        """Mean w of each class (classes, w), or (w,) without classes; always of the same latents."""
        z = self.latents(AVERAGED, torch.Generator().manual_seed(0))
        with torch.no_grad():
            if not self.size.classes:
                return self.mapping(z, None).mean(0)
            labels = torch.arange(self.size.classes, device=z.device)
            return torch.stack([self.mapping(z, k.expand(len(z))).mean(0) for k in labels])


# ---------------------------------------------------------------- published sets


def settings(
    size: Size, image: tuple[int, int] | None = None, scale: list[float] | None = None, shift: list[float] | None = None
) -> dict:
    """JSON settings of draw(): images are cropped in the middle to `image` (h, w), and multiplied and shifted per
    channel so that they are as networks see them."""
    return {**asdict(size), "image": list(image or (size.resolution,) * 2), "scale": scale, "shift": shift}


def loaded(weights: dict[str, Tensor], settings: dict) -> Generator:
    """The generator with these weights; parameters must be complete, buffers may be missing."""
    size = Size(**{k: v for k, v in settings.items() if k in Size.__dataclass_fields__})
    with torch.device("meta"):
        generator = Generator(size)
    buffers = {name: torch.zeros(b.shape) for name, b in generator.named_buffers()}
    device = next(iter(weights.values())).device
    if "mapping.w_avg" in weights:  # of all classes together, or one for each
        generator.mapping.register_buffer("w_avg", torch.empty_like(weights["mapping.w_avg"], device="meta"))
    generator.load_state_dict({**buffers, **weights}, assign=True)
    return generator.to(device)


def finished(x: Tensor, settings: dict) -> Tensor:
    """Images as networks see them, from the generator's."""
    (h, w), side = settings["image"], x.shape[2]
    top, left = (side - h) // 2, (side - w) // 2
    x = x[:, :, top : top + h, left : left + w]
    if settings.get("scale"):
        scale, shift = (torch.tensor(settings[name]).to(x)[:, None, None] for name in ("scale", "shift"))
        x = x * scale + shift
    return x


def draw(
    weights: dict[str, Tensor], settings: dict, labels: Tensor, generator: torch.Generator, truncation: float = 1.0
) -> Tensor:
    """Images (n, c, h, w) of the classes `labels` (n,) as networks see them, with fresh latents and noise.

    Truncation moves w towards the mean w of its class (or of all, if the weights contain that): at 0, all images of a
    class are alike but for their noise.
    """
    net = loaded(weights, settings)
    if truncation != 1 and "mapping.w_avg" not in weights:
        net.mapping.w_avg = net.mean_w()
    parts = []
    with torch.no_grad():
        for own in labels.split(CHUNK):
            z, noise = net.latents(len(own), generator), net.noise(len(own), generator)
            parts.append(finished(net(z, own.to(z.device), noise, truncation), settings))
    return torch.cat(parts)


def between(
    weights: dict[str, Tensor], settings: dict, labels: Tensor, seeds: tuple[int, int], frames: int, truncation: float
) -> Tensor:
    """Images (frames, n, c, h, w) of the classes `labels` (n,), from the first seed's to the second's: w changes
    evenly, without noise. All classes share the latent of a seed."""
    net = loaded(weights, settings)
    if truncation != 1 and "mapping.w_avg" not in weights:
        net.mapping.w_avg = net.mean_w()
    with torch.no_grad():
        z = [net.latents(1, torch.Generator().manual_seed(seed)).expand(len(labels), -1) for seed in seeds]
        first, last = (net.mapping(one, labels.to(one.device), truncation) for one in z)
        ws = [first + (last - first) * (i / max(1, frames - 1)) for i in range(frames)]
        return torch.stack([finished(net.synthesis(w)[1], settings) for w in ws])


def fault(weights: dict[str, Tensor], settings: dict) -> str:
    """What is wrong with weights and settings from a file; empty if draw() can use them. Allocates nothing."""
    try:
        size = Size(**{k: v for k, v in settings.items() if k not in ("image", "scale", "shift")})
        if problem := _fault_of(size, settings):
            return problem
        with torch.device("meta"):
            expected = {name: tuple(p.shape) for name, p in Generator(size).named_parameters()}
            allowed = expected | {name: tuple(b.shape) for name, b in Generator(size).named_buffers()}
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        return f"the settings of its generator are damaged ({error})"
    if missing := sorted(expected.keys() - weights.keys()):
        return f"its generator lacks {missing[0]}"
    for name, tensor in weights.items():
        shapes = [allowed.get(name)] + [(size.classes, size.w)] * (name == "mapping.w_avg")
        if tuple(tensor.shape) not in shapes or not tensor.is_floating_point():
            return f"{name} {tuple(tensor.shape)} does not fit its generator"
    return ""


def _fault_of(size: Size, settings: dict) -> str:
    """What is out of range."""
    limits = {
        "resolution": (4, MOST_RESOLUTION), "channels": (1, 4), "classes": (0, 100_000), "z": (1, 4 * MOST_CODE),
        "w": (1, 4 * MOST_CODE), "mapping": (1, 16), "base": (1, 2**20), "most": (1, MOST_CHANNELS),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        value = getattr(size, name)
        if type(value) is not int or not low <= value <= high:
            return f"{name} of its generator is {value!r}, not a number from {low} to {high}"
    if size.resolution & (size.resolution - 1):
        return f"the resolution of its generator, {size.resolution}, is not a power of two"
    if not 0 < size.lr_multiplier <= 1 or not (size.clamp is None or size.clamp > 0):
        return "lr_multiplier or clamp of its generator is out of range"
    h, w = settings["image"]
    if not (type(h) is type(w) is int and 1 <= h <= size.resolution and 1 <= w <= size.resolution):
        return f"images of {h}x{w} are not within its generator's resolution, {size.resolution}"
    scale, shift = settings.get("scale"), settings.get("shift")
    for values in (scale, shift) if scale or shift else ():
        if not isinstance(values, list) or [type(v) for v in values] != [float] * size.channels:
            return "scale and shift of its generator are not one number for each channel"
    return ""
