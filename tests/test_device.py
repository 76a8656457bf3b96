"""Distilling on a device that is not the CPU: no tensor is left behind on the CPU.

There is no such device: support/device.py pretends. On a real GPU, for every pair: tests/test_cuda.py.
"""

from dataclasses import replace

import pytest
import torch
from support import small
from support.device import DEVICE, Elsewhere, OnTwoDevices

from distill import load, synthetic
from distill.loop import Loop, Watcher
from distill.published import write


def there(context):
    return replace(context, device=DEVICE, data=context.data.to(DEVICE))


SLOW = pytest.param("pixels", "trajectory", marks=pytest.mark.nightly)
PAIRS = [("pixels", "distribution"), ("pixels", "gradient"), SLOW]


@pytest.mark.parametrize("kind, objective", PAIRS)
def test_a_pair_is_distilled_resumed_judged_and_published(kind, objective, tmp_path):
    others = [] if kind == "pixels" else ["synthetic={}", f"synthetic.kind={kind}"]
    short = ["outer.steps=1", "outer.evaluate_every=1", "evaluation.epochs=1"]
    context = small.context(objective, *short, *others, digits=60)
    with Elsewhere():
        loop = Loop(there(context), Watcher())
        loop.run()
        assert all(p.device == DEVICE for p in synthetic.learned_of(loop.synthetic))
        again = Loop(there(context), Watcher())
        again.resume(loop.checkpoint())
        again.judge.score(again.synthetic, 0.01, again.context.data.test, 1, "test")
        write(loop.published(), tmp_path)
    train = load(tmp_path)
    assert train.images.isfinite().all() and train.images.device.type == "cpu"


def test_what_is_left_on_the_cpu_is_seen():
    """A buffer, a batch, NumPy; numbers, indices and copies may cross, as on a GPU."""
    with Elsewhere():
        x, left = torch.rand(3, 2).to(DEVICE), torch.ones(2)
        assert (x * 2 + x.sum(0)).device == DEVICE and torch.zeros_like(x).device == DEVICE
        for mixed in (lambda: x + left, lambda: torch.cat([x, left[None]]), lambda: torch.where(x > 0, x, left)):
            with pytest.raises(OnTwoDevices, match="of the CPU"):
                mixed()
        with pytest.raises(OnTwoDevices, match="numpy"):
            x.numpy()
        assert (x + torch.tensor(1.0)).device == DEVICE and x[torch.tensor([0, 2])].shape == (2, 2)
        assert x.cpu().device.type == "cpu" and torch.equal(x.cpu() + left, (x + left.to(x)).cpu())
        assert left.copy_(x[0]).device.type == "cpu" and isinstance(x[0, 0].item(), float)


def test_gradients_stay_on_the_device():
    with Elsewhere():
        x = torch.ones(3).to(DEVICE).requires_grad_()
        (x**2).sum().backward()
        assert x.grad.device == DEVICE and x.grad.tolist() == [2, 2, 2]
