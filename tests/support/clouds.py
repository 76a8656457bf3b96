"""A sampler's module, as distill.published.forms.Sampler names one: noise round a mean image of each class."""

import torch


def draw(weights, settings, labels, generator, truncation):
    """Images (n, 1, side, side) of the classes `labels` (n,)."""
    noise = torch.randn(len(labels), 1, settings["side"], settings["side"], generator=generator)
    return weights["mean"][labels] + truncation * weights["scale"] * noise
