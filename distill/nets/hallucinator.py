"""Hallucinators, the small networks that turn a base into a training image (HaBa, Liu et al. 2022, section 3.2).

A 3x3 convolution, a scale and a shift of each value of its output, a transposed 3x3 convolution; nothing nonlinear.
This file is stored with every published set of bases and hallucinators, whose images `draw` gives from its weights: it
imports only torch.
"""

import torch
import torch.nn.functional as F

WEIGHTS = ("encoder", "encoder_bias", "scale", "shift", "decoder", "decoder_bias")
"""The weights of n hallucinators, first dimension n: (m, c, 3, 3), (m), (m, h-2, w-2) twice, (m, c', 3, 3), (c')."""


def hallucinate(weights, x, which, size):
    """Images (b, c', h, w) of bases x (b, c, h', w') by the hallucinators `which` (b,), for images of size (h, w).

    Bases that are smaller than an image are enlarged bilinearly first.
    """
    if tuple(x.shape[2:]) != tuple(size):
        x = F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
    order, images = [], []
    for k in torch.unique(which).tolist():  # bases of one hallucinator are one convolution
        own = (which == k).nonzero().flatten().to(x.device)
        encoder, encoder_bias, scale, shift, decoder, decoder_bias = (weights[name][k] for name in WEIGHTS)
        y = F.conv2d(x.index_select(0, own), encoder, encoder_bias)
        images.append(F.conv_transpose2d(scale * y + shift, decoder, decoder_bias))
        order.append(own)
    return torch.cat(images).index_select(0, torch.argsort(torch.cat(order)))


def draw(weights, settings, labels, generator, truncation):
    """Images (n, c', h, w) of the classes `labels` (n,): different pairs of a base and a hallucinator of each class.

    As many labels of a class as it has pairs give each pair once, base by base; fewer give a random choice of them,
    more give all of them repeatedly. `truncation` has no effect.
    """
    count, per_class = len(weights["scale"]), settings["bases_per_class"]
    pairs = torch.empty(len(labels), dtype=torch.long)
    for label in torch.unique(labels).tolist():
        items = (labels == label).nonzero().flatten()
        whole, rest = divmod(len(items), count * per_class)
        some = torch.randperm(count * per_class, generator=generator)[:rest].sort().values
        own = torch.cat([*[torch.arange(count * per_class)] * whole, some])
        pairs[items.cpu()] = label * count * per_class + own
    bases = weights["bases"]
    return hallucinate(weights, bases[(pairs // count).to(bases.device)], pairs % count, settings["size"])
