"""Pickles as NVIDIA's and StyleGAN-XL's code writes them, with their class paths, of weights of this project's modules.

    snapshot(stylegan3(network), canary)              # bytes: a module whose source would write the file `canary`

Filters come from SciPy, as theirs do, and not from the networks under test.
"""

import collections
import contextlib
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import scipy.signal
import scipy.special
import torch
from torch import Tensor, nn

from distill.nets.stylegan2 import Generator as StyleGAN2
from distill.nets.stylegan_xl import Layer, StyleGANXL


@contextlib.contextmanager
def their_modules():
    """`torch_utils.persistence` and `dnnlib.util`, for as long as something is written."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    fakes = {persistence.__name__: persistence, util.__name__: util}
    fakes |= {"torch_utils": types.ModuleType("torch_utils"), "dnnlib": types.ModuleType("dnnlib")}
    assert not fakes.keys() & sys.modules.keys()
    sys.modules.update(fakes)
    try:
        yield
    finally:
        for name in fakes:
            del sys.modules[name]


def _reconstruct_persistent_obj(meta):
    exec(meta["module_src"], {})  # as theirs: whoever really loads the pickle runs it
    raise AssertionError("loaded")


class EasyDict(dict):
    pass


for thing, module in ((_reconstruct_persistent_obj, "torch_utils.persistence"), (EasyDict, "dnnlib.util")):
    thing.__module__ = module


class Persistent(nn.Module):
    """A module that is pickled with its source."""

    source = ""

    def __init__(self, kind: str, kwargs: dict, attributes: dict):
        super().__init__()
        self.__dict__ |= attributes | {"_init_args": (), "_init_kwargs": kwargs}
        object.__setattr__(self, "kind", kind)

    def __reduce__(self):
        state = {k: v for k, v in self.__dict__.items() if k != "kind"}
        meta = {"type": "class", "version": 6, "module_src": Persistent.source, "class_name": self.kind, "state": state}
        return _reconstruct_persistent_obj, (meta,), None


def module(kind: str, parameters: dict | None = None, buffers: dict | None = None, modules: dict | None = None,
           kwargs: dict | None = None, **attributes) -> Persistent:  # fmt: skip
    made = Persistent(kind, EasyDict(kwargs or {}), attributes)
    for name, tensor in (parameters or {}).items():
        made.register_parameter(name, nn.Parameter(tensor.clone()))
    for name, tensor in (buffers or {}).items():
        made.register_buffer(name, None if tensor is None else tensor.clone())
    for name, inner in (modules or {}).items():
        made.add_module(name, inner)
    return made


def snapshot(g_ema, canary: Path, protocol: int = 4, **others) -> bytes:
    """The bytes of a snapshot; the modules' source writes `canary`."""
    Persistent.source = f"open({str(canary)!r}, 'w').close()"
    parts = {"G": None, "D": None, "G_ema": g_ema, "augment_pipe": None} | others
    with their_modules():
        return pickle.dumps(parts | {"training_set_kwargs": EasyDict(path="x", resolution=16)}, protocol)


def fully_connected(tensors: dict[str, Tensor], prefix: str, lr: float = 1.0) -> Persistent:
    own = {name: tensors[f"{prefix}.{name}"] for name in ("weight", "bias")}
    gain = lr / np.sqrt(own["weight"].shape[1])
    return module("FullyConnectedLayer", own, weight_gain=gain, bias_gain=lr, activation="lrelu")


# ---------------------------------------------------------------- StyleGAN3, StyleGAN-XL


def stylegan3(network: StyleGANXL, **attributes) -> Persistent:
    """A generator of StyleGAN3, or of StyleGAN-XL if its class embeddings are projected."""
    t = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    source = network.plan[0].source
    parts = {
        "input": module(
            "SynthesisInput", {"weight": t["synthesis.input.weight"]},
            {"transform": torch.eye(3), "freqs": t["synthesis.input.freqs"], "phases": t["synthesis.input.phases"]},
            {"affine": fully_connected(t, "synthesis.input.affine")},
            size=_pair(source.size), sampling_rate=np.float64(source.rate), bandwidth=np.float64(source.cutoff),
        )
    }  # fmt: skip
    for i, layer in enumerate(network.plan):
        parts[f"L{i}_{layer.target.size}_{layer.target.channels}"] = _layer(layer, t, f"synthesis.layers.{i}")
    synthesis = module("SynthesisNetwork", modules=parts, output_scale=0.25, layer_names=list(parts)[1:])
    sizes = {"z_dim": network.z_dim, "c_dim": network.classes, "w_dim": network.w_dim}
    sizes |= {"img_resolution": network.resolution, "img_channels": 3}
    inner = {"synthesis": synthesis, "mapping": _mapping(network, t)}
    return module("Generator", modules=inner, kwargs=sizes, **(sizes | {"num_ws": network.num_ws} | attributes))


def _layer(layer: Layer, t: dict[str, Tensor], prefix: str) -> Persistent:
    source, target, rate = layer.source, layer.target, max(layer.source.rate, layer.target.rate)
    rate *= 1 if layer.rgb else 2
    filters = {}
    for name, end in (("up_filter", source), ("down_filter", target)):
        factor, radial = rate // end.rate, name == "down_filter" and layer.radial and not layer.critical
        filters[name] = None if layer.rgb or factor == 1 else their_filter(6 * factor, end, rate, radial)
    ends = {
        f"{side}_{name}": value
        for side, end in (("in", source), ("out", target))
        for name, value in (
            ("channels", end.channels), ("size", _pair(end.size)), ("sampling_rate", end.rate),
            ("cutoff", np.float64(end.cutoff)), ("half_width", np.float64(end.half_width)),
        )
    }  # fmt: skip
    return module(
        "SynthesisLayer",
        {name: t[f"{prefix}.{name}"] for name in ("weight", "bias")},
        {"magnitude_ema": t[f"{prefix}.magnitude_ema"]} | filters,
        {"affine": fully_connected(t, f"{prefix}.affine")},
        is_torgb=layer.rgb, is_critically_sampled=np.bool_(layer.critical), use_fp16=False, conv_clamp=256,
        conv_kernel=1 if layer.rgb else layer.kernel, down_radial=layer.radial and not layer.critical, **ends,
    )  # fmt: skip


def their_filter(taps: int, end, rate: int, radial: bool = False) -> Tensor:
    if not radial:
        return torch.tensor(scipy.signal.firwin(taps, end.cutoff, width=2 * end.half_width, fs=rate)).float()
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    r = np.hypot(x[:, None], x)
    attenuation = scipy.signal.kaiser_atten(taps, 2 * end.half_width / (rate / 2))
    w = np.kaiser(taps, scipy.signal.kaiser_beta(attenuation))
    f = scipy.special.j1(2 * np.pi * end.cutoff * r) / (np.pi * r) * np.outer(w, w)
    return torch.tensor(f / f.sum()).float()


def _mapping(network: StyleGANXL, t: dict[str, Tensor]) -> Persistent:
    count, modules, w_avg = len(network.mapping.layers), {}, t["mapping.w_avg"]
    if network.mapping.projection:
        modules["embed"] = nn.Embedding.from_pretrained(t["mapping.embedding"])
        modules["embed_proj"] = fully_connected(t, "mapping.projection")
    elif network.classes:
        bias = t["mapping.embedding"].mean(0)
        weight = (t["mapping.embedding"] - bias).T * network.classes**0.5
        modules["embed"] = fully_connected({"e.weight": weight, "e.bias": bias}, "e")
    if not network.mapping.projection:
        w_avg = w_avg[0]
    modules |= {f"fc{i}": fully_connected(t, f"mapping.layers.{i}", 0.01) for i in range(count)}
    return module("MappingNetwork", None, {"w_avg": w_avg}, modules, num_layers=count, num_ws=network.num_ws)


def _pair(size: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(size), [2])


# ---------------------------------------------------------------- StyleGAN2-ADA


def stylegan2(network: StyleGAN2, nested: bool = True, **of_blocks) -> Persistent:
    """A generator of stylegan2-ada-pytorch, or of the stylegan3 repository if its arguments are not nested."""
    size, buffers = network.size, dict(network.named_buffers())
    attributes: dict[str, dict] = collections.defaultdict(dict)
    for path, inner in network.named_modules():
        if path.startswith("synthesis.b") and path.count(".") == 1:
            attributes[path] = {"architecture": "skip", "in_channels": 1} | of_blocks
        elif path.split(".")[-1] in ("conv0", "conv1"):
            attributes[path] = {"conv_clamp": size.clamp, "use_noise": True}
        elif hasattr(inner, "lr_multiplier"):
            attributes[path] = {"bias_gain": inner.lr_multiplier, "weight_gain": np.float64(inner.gain)}
    attributes["mapping"] = {"num_layers": size.mapping}
    sizes = {"z_dim": size.z, "c_dim": size.classes, "w_dim": size.w}
    sizes |= {"img_resolution": size.resolution, "img_channels": size.channels}
    arguments = {"channel_base": size.base, "channel_max": size.most, "num_fp16_res": 0, "conv_clamp": size.clamp}
    attributes[""] = sizes

    def made(path: str, inner: nn.Module) -> Persistent:
        below = {name: made(f"{path}.{name}".lstrip("."), child) for name, child in inner.named_children()}
        own = {name: p.detach() for name, p in inner.named_parameters(recurse=False)}
        kept = {name: buffers[f"{path}.{name}"] for name, _ in inner.named_buffers(recurse=False)}
        if path.split(".")[-1] in ("conv0", "conv1") or path.count(".") == 1:
            kept["resample_filter"] = torch.ones(4, 4) / 16
        kwargs = {}
        if not path:
            kwargs = sizes | ({"synthesis_kwargs": EasyDict(arguments)} if nested else arguments)
        return module(type(inner).__name__, own, kept, below, kwargs, **attributes[path])

    return made("", network)
