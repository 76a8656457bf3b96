"""The comparison with published codes, on a program that stands for one of them."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import peers

SLOW = """
import argparse
import torch
from torchvision import transforms
from torchvision.datasets import CIFAR10
from utils import get_network

images = CIFAR10("nowhere", transform=transforms.Compose([transforms.ToTensor()]))
parser = argparse.ArgumentParser()
for name in ("ipc", "batch_real", "eval_mode", "Iteration"):
    parser.add_argument("--" + name)
arguments = parser.parse_args()
assert len(images) == 10 * int(arguments.batch_real) and images[11][0].shape == (3, 32, 32) and images[11][1] == 1
for step in range(int(arguments.Iteration)):
    assert get_network().cuda() == 7
    print("step", step)
    if step == 2:
        raise SystemExit("all is lost")
    filled = torch.ones(30_000_000)
    for _ in range(60 * step):
        filled.add_(1)
    del filled
"""
UTILS = """
import torch

def get_network():
    return torch.tensor(7)
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    (tmp_path / "main_DM.py").write_text(SLOW)
    (tmp_path / "utils.py").write_text(UTILS)
    return tmp_path


def test_a_foreign_loop_takes_one_step_at_a_time_and_each_is_measured(checkout):
    rival = peers.Rival("dm", "theirs", checkout)
    first, second = rival.step(), rival.step()
    assert second["cpu_seconds"] > first["cpu_seconds"] > 0 and second["seconds"] > 0
    assert first["mib"] > 120e6 / 2**20 and second["mib"] > 120e6 / 2**20
    with pytest.raises(RuntimeError, match="all is lost"):
        rival.step()
    rival.close()


def test_what_cannot_be_measured_is_said_with_the_way_out(checkout, monkeypatch):
    o = argparse.Namespace(mtt=None, dm=checkout, rat=checkout)
    assert peers.why_not("dm", o) is None
    assert "--mtt PATH" in peers.why_not("mtt-100", o)
    assert "has no main.py" in peers.why_not("rat", o)
    (checkout / "main.py").touch()
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert "pip install higher" in peers.why_not("rat", o)


def test_without_checkouts_every_case_is_skipped(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["peers.py", "--json", str(tmp_path / "rows.json")])
    peers.main()
    assert capsys.readouterr().out.count("skipped, no checkout given") == len(peers.CASES)
    assert (tmp_path / "rows.json").read_text() == "[]\n"
