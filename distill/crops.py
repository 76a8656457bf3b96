"""Windows of larger images: cutting them out, also rotated and scaled, and joining them again.

    x = cut(poster, corners, (32, 32))       # (n, c, 32, 32), differentiable; overlapping windows add their gradients
    again = join(x, corners, poster.shape)   # the mean of all windows over a pixel

`corners` (n, 3) holds for each window the index of its large image, its top and its left. Windows wrap around at the
edges.
"""

import torch
from torch import Tensor


def cut(sources: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows (n, c, h, w) of sources (m, c, H, W) at corners (n, 3)."""
    return look_up(sources, _flat(corners, size, sources.shape[2:]))


def cut_grid(sources: Tensor, source: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Windows (n, c, h, w): rows (n, h) crossed with columns (n, w) of the sources (m, c, H, W) numbered `source` (n,).

    Whole rows are copied first and columns picked from them, which is faster than picking single pixels.
    """
    m, c, height, width = sources.shape
    (n, h), w = rows.shape, columns.shape[1]
    channel = torch.arange(c, device=rows.device)[:, None]
    lines = (source[:, None, None] * c + channel) * height + rows[:, None, :]  # (n, c, h)
    picked = sources.reshape(m * c * height, width).index_select(0, lines.flatten()).view(n, c * h, width)
    return picked.gather(2, columns[:, None, :].expand(n, c * h, w)).view(n, c, h, w)


def join(windows: Tensor, corners: Tensor, shape: tuple[int, ...], weight: Tensor | None = None, empty: float = 0.0):
    """Sources of `shape` (m, c, H, W): each pixel is the mean of the windows (n, c, h, w) that cover it.

    `weight` (h, w) weighs the pixels of a window; a pixel that no window covers is `empty`.
    """
    return join_at(windows, _flat(corners, windows.shape[2:], shape[2:]), shape, weight, empty)


def join_at(windows: Tensor, flat: Tensor, shape: tuple[int, ...], weight: Tensor | None = None, empty: float = 0.0):
    """The same for windows whose pixels are at flat (n, h, w), indices into all pixels of the sources."""
    m, c, height, width = shape
    n, _, h, w = windows.shape
    weight = windows.new_ones(h, w) if weight is None else weight
    flat = flat.flatten()
    total = windows.new_zeros(m * height * width, c)
    total.index_add_(0, flat, (windows * weight).permute(0, 2, 3, 1).reshape(-1, c))
    cover = windows.new_zeros(m * height * width).index_add_(0, flat, weight.expand(n, h, w).flatten())[:, None]
    mean = torch.where(cover > 0, total / cover.clamp(min=torch.finfo(cover.dtype).tiny), empty)
    return mean.view(m, height, width, c).permute(0, 3, 1, 2).contiguous()


def warp(sources: Tensor, corners: Tensor, size: tuple[int, int], matrix: Tensor, cyclic: bool = False) -> Tensor:
    """Windows (n, c, h, w) sampled bilinearly at the positions of cut(), rotated and scaled about each window's centre.

    `matrix` (n, 2, 2) maps offsets (row, column) from the centre. Positions outside of the window read the source
    around it; beyond the source's edges they read the nearest pixel or, if cyclic, wrap around.
    """
    (h, w), (height, width) = size, sources.shape[2:]
    rows, columns = (torch.arange(k, device=sources.device, dtype=sources.dtype) - (k - 1) / 2 for k in (h, w))
    offset = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)  # (h, w, 2)
    centre = corners[:, 1:].to(sources.dtype) + offset.new_tensor([(h - 1) / 2, (w - 1) / 2])  # (n, 2)
    position = torch.einsum("nij,hwj->nhwi", matrix.to(sources.dtype), offset) + centre[:, None, None]  # (n, h, w, 2)
    low = position.floor()
    part = position - low
    image, out = corners[:, 0, None, None], 0.0
    for down in (0, 1):
        for right in (0, 1):
            row, column = low[..., 0].long() + down, low[..., 1].long() + right
            row, column = (
                (row % height, column % width) if cyclic else (row.clamp(0, height - 1), column.clamp(0, width - 1))
            )
            share = (part[..., 0] if down else 1 - part[..., 0]) * (part[..., 1] if right else 1 - part[..., 1])
            out = out + share[:, None] * look_up(sources, (image * height + row) * width + column)
    return out


def _flat(corners: Tensor, size: tuple[int, int], large: tuple[int, int]) -> Tensor:
    """(n, h, w): index of each window's pixels among the pixels of all sources."""
    (h, w), (height, width) = size, large
    rows = (corners[:, 1, None] + torch.arange(h, device=corners.device)) % height  # (n, h)
    columns = (corners[:, 2, None] + torch.arange(w, device=corners.device)) % width  # (n, w)
    return (corners[:, 0, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]


def look_up(sources: Tensor, flat: Tensor) -> Tensor:
    """Pixels (n, c, h, w) of sources at flat (n, h, w). The gradient of gather is deterministic on the CPU."""
    c = sources.shape[1]
    pixels = sources.transpose(0, 1).reshape(c, -1)  # (c, m * H * W)
    return pixels.gather(1, flat.reshape(1, -1).expand(c, -1)).view(c, *flat.shape).transpose(0, 1)
