"""Fitting a generator to images before it is distilled: implicit maximum likelihood (Li & Malik 2018).

Each image pulls the closest of a few drawn images of its class towards it, by squared distance of values. Unlike plain
regression on random latents, whose best answer is the mean image of a class, every image is near some latent; unlike a
GAN there is no second network.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill import rng

if TYPE_CHECKING:
    from distill.synthetic.generator import Generator

IMAGES, CANDIDATES = 8, 24
"""Images of each class per step, and drawn images among which each finds the closest."""


def fit(made: "Generator", x: Tensor, y: Tensor, steps: int, lr: float, seed: int) -> None:
    """Move the weights of a set towards images x (n, c, h, w) of the classes y (n,), `steps` times, with Adam."""
    optimizer = torch.optim.Adam(made.net.parameters(), lr)
    members = {k: rows for k in range(made.classes) if len(rows := (y == k).nonzero().flatten())}
    own = torch.tensor(list(members), device=x.device)
    for step in range(steps):
        g = rng.generator(seed, "generator fit", step)
        rows = [r[torch.randint(len(r), (IMAGES,), generator=g).to(r.device)] for r in members.values()]
        target = x[torch.stack(rows)]  # (classes, IMAGES, c, h, w)
        candidates = made.net.latents(len(own) * CANDIDATES, g)
        with torch.no_grad():
            drawn = made.rendered(candidates, own.repeat_interleave(CANDIDATES), None)
        apart = torch.cdist(target.flatten(2), drawn.flatten(1).unflatten(0, (len(own), CANDIDATES)))
        nearest = apart.argmin(2) + CANDIDATES * torch.arange(len(own), device=x.device)[:, None]
        z, labels, target = candidates[nearest.flatten()], own.repeat_interleave(IMAGES), target.flatten(0, 1)
        loss = (made.rendered(z, labels, made.net.noise(len(z), g)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
