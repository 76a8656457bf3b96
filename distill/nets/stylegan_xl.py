"""StyleGAN-XL's generator: StyleGAN3 layers without aliasing, class embeddings, stages of growing resolution.

    stem = StyleGANXL(plan(16, 10), classes=10, generator=torch.Generator().manual_seed(0))
    images = stem(z, labels, truncation=0.7)           # (n, 3, 16, 16), in about [-1, 1]
    full = grow(stem, 32, 7, generator)                # the layers of the stem are kept and frozen

Karras et al. 2021, "Alias-Free Generative Adversarial Networks" (equations and appendices below are theirs), and Sauer
et al. 2022, "StyleGAN-XL". Each layer's signal is continuous and stands for samples at a rate s with no content above
s/2; a layer that would add such content (the leaky ReLU) runs at twice the rate, between two low-pass filters.
Plain operations throughout, so that gradients of gradients exist. Only torch and the standard library are imported,
because this source is stored with published sets.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST_CUTOFF, FIRST_STOPBAND = 2.0, 2.0**2.1
"""f_c0 and f_t0 of the Fourier features, in cycles per image (appendix C.2)."""
LAST_STOPBAND = 2.0**0.3
"""f_tN of the last layer relative to its cutoff."""
CRITICAL = 2
"""Layers at the end whose cutoff is s/2: they give the image its finest detail, and a next stage replaces them."""
MARGIN = 10
"""Samples of each feature map beyond each border of the image, so that borders carry no position."""
TAPS = 6
"""Length n of a filter, in samples of the lower of its two rates."""
OUTPUT_SCALE, CLAMP, EPS = 0.25, 256.0, 1e-8
CHUNK = 50
"""Images that draw() computes at once."""
MOST, MOST_SIDE = 100_000, 4096
"""Of any number in a file; of samples along a side."""


class Signal(NamedTuple):
    """A feature map: its channels, samples along a side, sampling rate s, cutoff f_c and half-width f_h of the
    transition band, both in cycles per image."""

    channels: int
    size: int
    rate: int
    cutoff: float
    half_width: float


class Layer(NamedTuple):
    """What a layer maps to what. Config T has 3x3 kernels and separable filters, config R 1x1 and radial ones."""

    source: Signal
    target: Signal
    critical: bool
    rgb: bool = False
    kernel: int = 3
    radial: bool = False


def plan(
    resolution: int,
    layers: int,
    channel_base: int = 32768,
    channel_max: int = 512,
    colours: int = 3,
    start: Signal | None = None,
) -> list[Layer]:
    """`layers` layers and the one to RGB, with cutoffs and stopbands in geometric progression (section 3.2).

    They begin at the Fourier features, or at the signal `start` of an earlier stage. ValueError if the resolution is
    no power of two of at least 8, or for fewer than three layers.
    """
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(f"resolution {resolution}: must be a power of two of at least 8")
    if layers <= CRITICAL:
        raise ValueError(f"{layers} layers: must be at least {CRITICAL + 1}, as the last {CRITICAL} sample critically")
    first_cutoff, first_stopband = FIRST_CUTOFF, FIRST_STOPBAND
    if start:
        first_cutoff, first_stopband = start.cutoff, start.cutoff + start.half_width
    signals = []
    for i in range(layers + 1):
        progress = min(i / (layers - CRITICAL), 1)
        cutoff = first_cutoff * (resolution / 2 / first_cutoff) ** progress
        stopband = first_stopband * (resolution / 2 * LAST_STOPBAND / first_stopband) ** progress
        rate = 2 ** math.ceil(round(math.log2(min(2 * stopband, resolution)), 9))
        size = resolution if i >= layers - 1 else rate + 2 * MARGIN
        channels = colours if i == layers else round(min(channel_base / 2 / cutoff, channel_max))
        signals.append(Signal(channels, size, rate, cutoff, max(stopband, rate / 2) - cutoff))
    signals[0] = start or signals[0]
    sources = [signals[0], *signals[:-1]]
    return [
        Layer(source, target, critical=i >= layers - CRITICAL, rgb=i == layers)
        for i, (source, target) in enumerate(zip(sources, signals, strict=True))
    ]


# ---------------------------------------------------------------- filters


def low_pass(taps: int, cutoff: float, half_width: float, rate: float, radial: bool = False) -> Tensor:
    """A low-pass filter with a Kaiser window, float32 (taps,) with sum 1 (appendix C.1); radial: jinc, (taps, taps).

    Its response is 1/2 at the cutoff, and falls from 1 to 0 from cutoff - half_width to cutoff + half_width.
    """
    attenuation = 2.285 * (taps - 1) * math.pi * 4 * half_width / rate + 7.95  # dB, equation 7
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    on_cpu = {"dtype": torch.float64, "device": "cpu"}  # also for a module without storage, which may be loaded later
    window = torch.kaiser_window(taps, periodic=False, beta=beta, **on_cpu)
    t = (torch.arange(taps, **on_cpu) - (taps - 1) / 2) / rate  # in images
    if not radial:
        f = torch.sinc(2 * cutoff * t) * window
    else:
        r = torch.hypot(t[:, None], t)
        f = torch.special.bessel_j1(2 * math.pi * cutoff * r) / r * window[:, None] * window  # taps is even: r > 0
    return (f / f.sum()).float()


def upsample(x: Tensor, f: Tensor | None, up: int, before: int, after: int) -> Tensor:
    """x (n, c, h, w) with up - 1 zeros behind each sample, padded at both ends (negative: cropped), filtered by f."""
    if f is None:
        return F.pad(x, (before, after, before, after))
    c, taps = x.shape[1], len(f)
    ends = (before - taps + 1, after + up - taps)  # of all positions where f meets a sample
    f = up * f.to(x.dtype)
    x = F.conv_transpose2d(x, f.view(1, 1, -1, 1).expand(c, 1, -1, 1), stride=(up, 1), groups=c)
    x = F.conv_transpose2d(F.pad(x, (0, 0, *ends)), f.expand(c, 1, 1, -1), stride=(1, up), groups=c)
    return F.pad(x, ends)


def downsample(x: Tensor, f: Tensor | None, down: int) -> Tensor:
    """x (n, c, h, w) filtered by f, (taps,) or (taps, taps), and every `down`-th sample of it, without padding."""
    if f is None:
        return x
    c, f = x.shape[1], f.to(x.dtype)
    if f.ndim == 2:
        return F.conv2d(x, f.expand(c, 1, -1, -1), stride=down, groups=c)
    x = F.conv2d(x, f.view(1, 1, -1, 1).expand(c, 1, -1, 1), stride=(down, 1), groups=c)
    return F.conv2d(x, f.expand(c, 1, 1, -1), stride=(1, down), groups=c)


# ---------------------------------------------------------------- mapping network


def normal(g: torch.Generator | None, *shape: int) -> Tensor:
    """Standard normal values, or without a generator zeros, to be loaded."""
    return torch.zeros(shape) if g is None else torch.randn(shape, generator=g)


class Dense(nn.Module):
    """A linear layer whose stored weights have unit variance, with an optional leaky ReLU scaled by sqrt(2)."""

    def __init__(self, inputs: int, outputs: int, g: torch.Generator | None, activate: bool = False, lr: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(normal(g, outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.lr, self.activate = lr, activate

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * (self.lr / math.sqrt(self.weight.shape[1])), self.bias * self.lr)
        return F.leaky_relu(x, 0.2) * math.sqrt(2) if self.activate else x


def normalize(x: Tensor) -> Tensor:
    """Rows of x (n, d) with a mean square of 1."""
    return x * (x.square().mean(1, keepdim=True) + EPS).rsqrt()


class Mapping(nn.Module):
    """z (n, z_dim) and labels (n,) to w (n, w_dim).

    Classes enter as frozen embeddings (classes, e), from a network trained on other images, through a learned
    projection to z_dim values (Sauer et al. 2022, section 3.1); without the projection, as they are.
    """

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        classes: int,
        layers: int,
        embedding_dim: int,
        projected: bool,
        g: torch.Generator | None,
    ):
        super().__init__()
        class_dim = 0
        if classes:
            self.register_buffer("embedding", normal(g, classes, embedding_dim))
            class_dim = z_dim if projected else embedding_dim
        self.projection = Dense(embedding_dim, z_dim, g, activate=True) if classes and projected else None
        widths = [z_dim + class_dim] + layers * [w_dim]
        self.layers = nn.ModuleList(
            Dense(a, b, g, activate=True, lr=0.01) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.classes, self.z_dim = classes, z_dim
        self.register_buffer("w_avg", torch.zeros(max(classes, 1), w_dim))

    def forward(self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        x, center = normalize(z), self.w_avg
        if self.classes:
            y = self.embedding[labels]
            y = self.projection(y) if self.projection else y
            x, center = torch.cat([x, normalize(y)], 1), self.w_avg[labels]
        for layer in self.layers:
            x = layer(x)
        return x if truncation == 1 else center + truncation * (x - center)

    @torch.no_grad()
    def track(self, w: Tensor, labels: Tensor | None = None, beta: float = 0.998) -> None:
        """Move the mean w of each class, which truncation pulls to, toward those of a training batch."""
        rows = torch.zeros(len(w), dtype=torch.long, device=w.device) if labels is None else labels
        count = torch.zeros_like(self.w_avg[:, :1]).index_add_(0, rows, torch.ones_like(w[:, :1]))
        mean = torch.zeros_like(self.w_avg).index_add_(0, rows, w) / count.clamp(min=1)
        self.w_avg.lerp_(mean, 1 - beta**count)  # as one step per image

    @torch.no_grad()
    def measure(self, per_class: int, generator: torch.Generator) -> None:
        """Set the mean w of each class to that of `per_class` draws: for weights that were trained without `track`."""
        z = torch.randn(per_class, self.z_dim, generator=generator).to(self.w_avg)
        for row in range(len(self.w_avg)):
            self.w_avg[row] = self(z, torch.full((per_class,), row, device=z.device)).mean(0)


# ---------------------------------------------------------------- synthesis network


class FourierInput(nn.Module):
    """Fixed sine waves on a plane that w rotates and shifts, mixed by a learned matrix (section 3.1, appendix F)."""

    def __init__(self, signal: Signal, w_dim: int, g: torch.Generator | None):
        super().__init__()
        c, self.signal = signal.channels, signal
        radius, angle, phases = torch.zeros(3, c) if g is None else torch.rand(3, c, generator=g)
        direction = torch.stack([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()], 1)
        self.register_buffer("freqs", signal.cutoff * radius.sqrt()[:, None] * direction)  # uniform over a disc
        self.register_buffer("phases", phases - 0.5)
        self.weight = nn.Parameter(normal(g, c, c))
        self.affine = Dense(w_dim, 4, g)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias[0] = 1  # no rotation

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """Features (n, c, h, w); transform (3, 3) maps positions in the image, in [-0.5, 0.5], before w does."""
        t = self.affine(w)
        cos, sin, x, y = (t / t[:, :2].square().sum(1, keepdim=True).sqrt()).unbind(1)
        rotation = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
        shift = -(rotation @ torch.stack([x, y], 1)[:, :, None])  # (n, 2, 1)
        if transform is not None:
            transform = transform.to(w)
            rotation, shift = rotation @ transform[:2, :2], shift + rotation @ transform[:2, 2:]
        phases = self.phases + (self.freqs @ shift)[:, :, 0]  # (n, c)
        freqs = self.freqs @ rotation  # (n, c, 2)
        size, rate, cutoff = self.signal.size, self.signal.rate, self.signal.cutoff
        above = (freqs.square().sum(2) + 1e-12).sqrt() - cutoff  # a transform that shrinks may exceed the band
        amplitudes = (1 - above / (rate / 2 - cutoff)).clamp(0, 1)
        positions = (torch.arange(size, device=w.device, dtype=w.dtype) + 0.5 - size / 2) / rate
        cycles = freqs[:, :, :1, None] * positions + freqs[:, :, 1:, None] * positions[:, None]  # (n, c, h, w)
        waves = torch.sin(2 * math.pi * (cycles + phases[:, :, None, None])) * amplitudes[:, :, None, None]
        return torch.einsum("oc,nchw->nohw", self.weight / math.sqrt(len(self.weight)), waves)


class SynthesisLayer(nn.Module):
    """A modulated convolution, then a leaky ReLU between two filters, then the target's rate (figure 4b)."""

    def __init__(self, layer: Layer, w_dim: int, g: torch.Generator | None):
        super().__init__()
        source, target, rgb, kernel = layer.source, layer.target, layer.rgb, 1 if layer.rgb else layer.kernel
        self.rgb = rgb
        self.affine = Dense(w_dim, source.channels, g)
        nn.init.ones_(self.affine.bias)
        self.weight = nn.Parameter(normal(g, target.channels, source.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(target.channels))
        self.register_buffer("magnitude_ema", torch.ones(()))
        rate = max(source.rate, target.rate) * (1 if rgb else 2)
        self.up, self.down = rate // source.rate, rate // target.rate
        up_taps, down_taps = (1 if rgb or factor == 1 else TAPS * factor for factor in (self.up, self.down))
        up_filter = low_pass(up_taps, source.cutoff, source.half_width, rate) if up_taps > 1 else None
        radial = layer.radial and not layer.critical
        down_filter = low_pass(down_taps, target.cutoff, target.half_width, rate, radial) if down_taps > 1 else None
        self.register_buffer("up_filter", up_filter, persistent=False)
        self.register_buffer("down_filter", down_filter, persistent=False)
        # How many more samples at the high rate the target and both filters need than there are. The two grids share
        # their centre; up - 1 zeros follow each sample, so that the first of them is half of that off (appendix C.3).
        needed = (target.size - 1) * self.down + up_taps + down_taps - 1
        missing = needed - (source.size + kernel - 1) * self.up
        self.before = (missing + self.up) // 2
        self.after = missing - self.before

    def forward(self, x: Tensor, w: Tensor, beta: float | None = None) -> Tensor:
        """x (n, c, h, w); beta: keep this share of the mean square of inputs, and take the rest from x."""
        if beta is not None:
            with torch.no_grad():
                self.magnitude_ema.lerp_(x.square().mean().to(self.magnitude_ema), 1 - beta)
        style, weight = self.affine(w), self.weight
        if self.rgb:
            style, demodulation = style / math.sqrt(weight.shape[1]), None
        else:  # equation 3 of StyleGAN2, over weights and styles of unit size
            weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
            style = style * style.square().mean(1, keepdim=True).rsqrt()
            demodulation = (style.square() @ weight.square().sum((2, 3)).T + EPS).rsqrt()
        x = x * (style * self.magnitude_ema.rsqrt())[:, :, None, None]
        x = F.conv2d(x, weight, padding=weight.shape[2] - 1)
        x = x if demodulation is None else x * demodulation[:, :, None, None]
        x = upsample(x + self.bias[:, None, None], self.up_filter, self.up, self.before, self.after)
        x = x if self.rgb else F.leaky_relu(x, 0.2) * math.sqrt(2)
        return downsample(x.clamp(-CLAMP, CLAMP), self.down_filter, self.down)


class Synthesis(nn.Module):
    """w (n, w_dim), or one for the input and each layer (n, num_ws, w_dim), to images (n, colours, h, w)."""

    def __init__(self, layers: Sequence[Layer], w_dim: int, g: torch.Generator | None):
        super().__init__()
        self.input = FourierInput(layers[0].source, w_dim, g)
        self.layers = nn.ModuleList(SynthesisLayer(layer, w_dim, g) for layer in layers)
        self.num_ws = len(layers) + 1

    def forward(self, w: Tensor, transform: Tensor | None = None, beta: float | None = None) -> Tensor:
        first, *rest = w.unbind(1) if w.ndim == 3 else [w] * self.num_ws
        x = self.input(first, transform)
        for layer, w in zip(self.layers, rest, strict=True):
            x = layer(x, w, beta)
        return x * OUTPUT_SCALE


class StyleGANXL(nn.Module):
    """The generator; its weights are zero without a random `generator`, until they are loaded.

    If `frozen` is not zero, that many layers, the input and the mapping network are not trained.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        classes: int = 0,
        z_dim: int = 64,
        w_dim: int = 512,
        mapping_layers: int = 2,
        embedding_dim: int = 320,
        projected: bool = True,
        frozen: int = 0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.plan = list(layers)
        self.classes, self.z_dim, self.w_dim, self.frozen = classes, z_dim, w_dim, frozen
        self.resolution = self.plan[-1].target.size
        self._mapping = {"mapping_layers": mapping_layers, "embedding_dim": embedding_dim, "projected": projected}
        self.synthesis = Synthesis(self.plan, w_dim, generator)
        self.num_ws = self.synthesis.num_ws
        self.mapping = Mapping(z_dim, w_dim, classes, mapping_layers, embedding_dim, projected, generator)
        if frozen:
            for part in (self.mapping, self.synthesis.input, *self.synthesis.layers[:frozen]):
                part.requires_grad_(False)

    def forward(self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Images (n, colours, h, w), in about [-1, 1], of latents z (n, z_dim) and classes `labels` (n,)."""
        return self.synthesis(self.mapping(z, labels, truncation))

    def settings(
        self,
        image: tuple[int, int] | None = None,
        scale: list[float] | None = None,
        shift: list[float] | None = None,
    ) -> dict[str, Any]:
        """JSON settings of draw(): images are cropped in the middle to `image` (h, w), and multiplied and shifted per
        channel so that they are as networks see them."""
        layers = [[list(part) if isinstance(part, Signal) else part for part in layer] for layer in self.plan]
        sizes = {"classes": self.classes, "z_dim": self.z_dim, "w_dim": self.w_dim, "frozen": self.frozen}
        after = {"image": list(image or (self.resolution,) * 2), "scale": scale, "shift": shift}
        return {"layers": layers} | sizes | self._mapping | after


def grow(
    network: StyleGANXL,
    resolution: int,
    layers: int = 7,
    generator: torch.Generator | None = None,
    channel_base: int = 32768,
    channel_max: int = 512,
) -> StyleGANXL:
    """The next stage: critical layers and the one to RGB are dropped, `layers` and one to RGB added, the rest frozen.

    Sauer et al. 2022, section 3.2. ValueError if the resolution is no larger power of two.
    """
    if resolution <= network.resolution:
        raise ValueError(f"resolution {resolution}: a next stage must be larger than {network.resolution} px")
    kept = [layer for layer in network.plan if not layer.critical]
    colours = network.plan[-1].target.channels
    added = plan(resolution, layers, channel_base, channel_max, colours, start=kept[-1].target)
    style = {"kernel": kept[-1].kernel, "radial": kept[-1].radial}
    added = [layer._replace(**style) for layer in added]
    sizes = {"classes": network.classes, "z_dim": network.z_dim, "w_dim": network.w_dim}
    grown = StyleGANXL(kept + added, **sizes, **network._mapping, frozen=len(kept), generator=generator)
    grown.mapping.load_state_dict(network.mapping.state_dict())
    grown.synthesis.input.load_state_dict(network.synthesis.input.state_dict())
    for old, new in zip(network.synthesis.layers, grown.synthesis.layers[: len(kept)], strict=False):
        new.load_state_dict(old.state_dict())
    return grown


# ---------------------------------------------------------------- published sets


def build(settings: dict[str, Any]) -> StyleGANXL:
    """The generator that settings() describes, with weights of zero."""
    layers = [Layer(Signal(*source), Signal(*target), *rest) for source, target, *rest in settings["layers"]]
    others = {k: v for k, v in settings.items() if k not in ("layers", "image", "scale", "shift")}
    return StyleGANXL(layers, **others)


def loaded(weights: dict[str, Tensor], settings: dict[str, Any]) -> StyleGANXL:
    """The generator with these weights, on their device."""
    with torch.device("meta"):
        network = build(settings)
    network.load_state_dict(weights, assign=True)
    return network.to(weights["synthesis.input.weight"].device)


def draw(
    weights: dict[str, Tensor],
    settings: dict[str, Any],
    labels: Tensor,
    generator: torch.Generator,
    truncation: float = 1.0,
) -> Tensor:
    """Images (n, c, h, w) of the classes `labels` (n,) as networks see them, with fresh latents."""
    network, device = loaded(weights, settings), weights["synthesis.input.weight"].device
    parts = []
    with torch.no_grad():
        for own in labels.split(CHUNK):
            z = torch.randn(len(own), network.z_dim, generator=generator).to(device)
            parts.append(finished(network(z, own.to(device), truncation), settings))
    return torch.cat(parts)


def between(
    weights: dict[str, Tensor],
    settings: dict[str, Any],
    labels: Tensor,
    seeds: tuple[int, int],
    frames: int,
    truncation: float = 1.0,
) -> Tensor:
    """Images (frames, n, c, h, w) of the classes `labels` (n,), from the first seed's to the second's: w changes
    evenly. All classes share the latent of a seed."""
    network, device = loaded(weights, settings), weights["synthesis.input.weight"].device
    labels = labels.to(device)
    with torch.no_grad():
        z = [torch.randn(1, network.z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        first, last = (network.mapping(one.to(device).expand(len(labels), -1), labels, truncation) for one in z)
        ws = [first + (last - first) * (i / max(1, frames - 1)) for i in range(frames)]
        return torch.stack([finished(network.synthesis(w), settings) for w in ws])


def finished(x: Tensor, settings: dict[str, Any]) -> Tensor:
    """Images as networks see them, from the generator's."""
    (h, w), side = settings["image"], x.shape[2]
    top, left = (side - h) // 2, (side - w) // 2
    x = x[:, :, top : top + h, left : left + w]
    if settings.get("scale"):
        scale, shift = (torch.tensor(settings[name]).to(x)[:, None, None] for name in ("scale", "shift"))
        x = x * scale + shift
    return x


def fault(weights: dict[str, Tensor], settings: dict[str, Any], classes: int) -> str:
    """What is wrong with weights and settings from a file of a set of `classes` classes; empty if draw() can use them.

    Allocates nothing.
    """
    try:
        if problem := _fault_of_sizes(settings, classes) or _fault_of_finish(settings):
            return problem
        with torch.device("meta"):
            expected = {name: tuple(t.shape) for name, t in build(settings).state_dict().items()}
    except (TypeError, KeyError, ValueError, IndexError, RuntimeError, OverflowError) as error:
        return f"the settings of its generator are damaged ({str(error)[:200]})"
    if different := sorted(expected.keys() ^ weights.keys()):
        return f"its generator lacks or does not have {different[0]}"
    for name, tensor in weights.items():
        if tuple(tensor.shape) != expected[name] or not tensor.is_floating_point():
            return f"{name} {tuple(tensor.shape)} does not fit its generator: {expected[name]}"
    return ""


def _fault_of_sizes(settings: dict[str, Any], classes: int) -> str:
    """What is out of range."""
    layers = settings["layers"]
    numbers = [settings[name] for name in ("classes", "z_dim", "w_dim", "mapping_layers", "embedding_dim")]
    signals = [Signal(*signal) for layer in layers for signal in layer[:2]]
    whole = numbers + [n for signal in signals for n in signal[:3]]
    if not all(type(n) is int and 0 <= n <= MOST for n in whole) or numbers[3] > 16 or len(layers) > 100:
        return f"a size of its generator is no number from 0 to {MOST}"
    if settings["classes"] not in (0, classes):
        return f"its generator is of {settings['classes']} classes, the set of {classes}"
    for s in signals:
        positive = s.channels and s.rate and 0 < s.cutoff < MOST and 0 < s.half_width < MOST
        if not positive or not 0 < s.size <= MOST_SIDE:
            return f"a layer of its generator has the impossible signal {list(s)}"
    for before, after in zip(layers, layers[1:], strict=False):
        if list(before[1][:3]) != list(after[0][:3]):
            return f"a layer of its generator takes {after[0][:3]}, the one before makes {before[1][:3]}"
    for layer in layers:
        rates = [signal[2] for signal in layer[:2]]
        if max(rates) / min(rates) not in (1, 2, 4, 8, 16) or Layer(*layer).kernel not in (1, 3):
            return f"a layer of its generator has impossible rates or kernel, {rates} and {layer[4:5]}"
    return ""


def _fault_of_finish(settings: dict[str, Any]) -> str:
    """What is wrong with the crop, or with scale and shift."""
    (h, w), (channels, size, *_) = settings["image"], settings["layers"][-1][1]
    if not (type(h) is type(w) is int and 1 <= h <= size and 1 <= w <= size):
        return f"images of {h}x{w} are not within its generator's resolution, {size}"
    scale, shift = settings.get("scale"), settings.get("shift")
    for values in (scale, shift) if scale or shift else ():
        if not isinstance(values, list) or [type(v) for v in values] != [float] * channels:
            return "scale and shift of its generator are not one number for each channel"
    return ""
