"""Small sets of experts with known values."""

import torch

from cluster.trajectories import ExpertRecord, SetSpec

LAYOUT = [("conv.weight", (2, 3)), ("conv.bias", (2,)), ("scale", ())]
P = 9  # 2*3 + 2 + 1


def spec_of(dtype: str = "float32", recipe_hash: str = "0123456789abcdef") -> SetSpec:
    return SetSpec(recipe_hash, "f" * 64, {"kind": "convnet", "depth": 3, "width": 128}, LAYOUT, [0, 1, 2, 5], dtype)


def theta_of(expert: int, epoch: int) -> torch.Tensor:
    """(p,) values that every dtype holds exactly and that no two snapshots share."""
    return torch.arange(P) + 16.0 * epoch - 0.5 * expert


def record_of(expert: int, shift: float = 0.0) -> ExpertRecord:
    snapshots = torch.stack([theta_of(expert, epoch) + shift for epoch in spec_of().epochs])
    return ExpertRecord(expert, snapshots, [0.1, 0.2, 0.3, 0.4], [0.1, 0.15, 0.2, expert / 100], seed=3)
