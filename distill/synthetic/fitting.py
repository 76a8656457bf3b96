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
    members = [(y == k).nonzero().flatten() for k in range(made.classes)]
    for step in range(steps):
        g = rng.generator(seed, "generator fit", step)
        target, z, labels = [], [], []
        for k, rows in enumerate(members):
            if not len(rows):
                continue
            chosen = rows[torch.randint(len(rows), (IMAGES,), generator=g).to(rows.device)]
            candidates = made.net.latents(CANDIDATES, g)
            own = torch.full((CANDIDATES,), k, device=x.device)
            with torch.no_grad():
                drawn = made.rendered(candidates, own, None)
            nearest = torch.cdist(x[chosen].flatten(1), drawn.flatten(1)).argmin(1)
            target.append(x[chosen])
            z.append(candidates[nearest])
            labels.append(own[:IMAGES])
        z, labels, target = torch.cat(z), torch.cat(labels), torch.cat(target)
        loss = (made.rendered(z, labels, made.net.noise(len(z), g)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
