"""Wang tiles: square tiles with coloured edges, laid out so that neighbours have the same colour along their edge.

With random colours no layout has a period (Cohen et al. 2003, "Wang tiles for image and texture generation"). A
complete set over k colours has a tile for each combination of its four edges, k^4 tiles. One sheet shows all of them,
each once, as a torus of k^2 x k^2 tiles: row r of the sheet has the colours a[r] above and a[r + 1] below, column c the
colours a[c] at the left and a[c + 1] at the right, where `a` is a cyclic sequence in which each pair of colours occurs
once.
"""

import torch
from torch import Tensor


def pairs(colours: int) -> Tensor:
    """The cyclic sequence a (colours^2,) in which each ordered pair of neighbours occurs once (de Bruijn)."""
    sequence = []
    for first in range(colours):
        sequence.append(first)
        for second in range(first + 1, colours):
            sequence += [first, second]
    return torch.tensor(sequence)


def place_of_pairs(colours: int) -> Tensor:
    """(colours, colours): where in pairs() each ordered pair begins."""
    a = pairs(colours)
    place = torch.empty(colours, colours, dtype=torch.int64)
    place[a, a.roll(-1)] = torch.arange(len(a))
    return place


def lay_out(sheets: Tensor, colours: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Pictures (m, c, height, width) of tiles out of sheets (m, c, k^2 L, k^2 L), edge colours drawn at random.

    The same layout for each sheet; the last tiles are cut off where the size is no multiple of their side.
    """
    side = sheets.shape[2] // colours**2
    down, across = -(-height // side), -(-width // side)
    horizontal = torch.randint(colours, (down + 1, across), generator=generator)  # edges above and below
    vertical = torch.randint(colours, (down, across + 1), generator=generator)
    place = place_of_pairs(colours)
    row, column = place[horizontal[:-1], horizontal[1:]], place[vertical[:, :-1], vertical[:, 1:]]  # (down, across)
    rows = (row[:, None, :, None] * side + torch.arange(side)[:, None, None]).expand(down, side, across, side)
    columns = (column[:, None, :, None] * side + torch.arange(side)).expand(down, side, across, side)
    flat = (rows * sheets.shape[3] + columns).reshape(down * side, across * side)[:height, :width]
    return sheets.flatten(2)[:, :, flat.to(sheets.device)]


def autocorrelation(image: Tensor) -> Tensor:
    """Circular autocorrelation (H, W) of a picture (c, H, W), 1 at no shift."""
    x = image.double() - image.double().mean((1, 2), keepdim=True)
    power = torch.fft.fft2(x).abs().square().sum(0)
    return (torch.fft.ifft2(power).real / x.square().sum()).float()


def strongest_repeat(image: Tensor, least: int) -> float:
    """The largest autocorrelation at shifts of `least` pixels or more along an axis: 1 for a periodic picture."""
    r = autocorrelation(image)
    distance = [torch.minimum(torch.arange(n), n - torch.arange(n)) for n in r.shape]
    far = torch.maximum(distance[0][:, None], distance[1]) >= least
    return float(r[far].max())
