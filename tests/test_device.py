"""Distilling on a device that is not the CPU: no tensor is left behind on the CPU.

There is no such device: support/device.py pretends. On a real GPU, for every pair: tests/test_cuda.py.
"""

from dataclasses import replace

import pytest
import torch
from support import small
from support.device import DEVICE, Elsewhere, OnTwoDevices
from test_pairs import OBJECTIVES, SETS

from distill import data, load
from distill.context import Context
from distill.loop import Loop, Watcher
from distill.published import write


def there(kind: str, objective: str, *settings: str) -> Context:
    """A run of a pair that finds its data, whitened, on the device; to call within Elsewhere()."""
    others = [] if kind == "pixels" else ["synthetic={}", f"synthetic.kind={kind}"]
    short = ["outer.steps=1", "outer.evaluate_every=1", "evaluation.epochs=1", "dataset.preprocess=zca"]
    context = small.context(objective, *short, *others, *settings, digits=60)
    dataset = data.load(context.recipe.dataset, context.recipe.seed, DEVICE)
    return replace(context, device=DEVICE, data=dataset)


def run_there(tmp_path, *pair_and_settings: str) -> None:
    """A step, a judgement, a checkpoint that is continued, a publication: on the device; a set to load: off it."""
    with Elsewhere():
        context = there(*pair_and_settings)
        assert context.data.train.x.device == DEVICE
        loop = Loop(context, Watcher())
        loop.run()
        again = Loop(context, Watcher())
        again.resume(loop.checkpoint())
        again.step()
        for made in (loop, again):
            tensors = [*made.synthetic.state_dict().values(), *(p.grad for p in made.parameters)]
            assert all(t.device == DEVICE for t in tensors)
        write(loop.published(), tmp_path)
    train = load(tmp_path)
    assert train.images.isfinite().all() and train.images.device.type == "cpu"


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", SETS)
def test_a_pair_is_distilled_judged_continued_and_published(kind, objective, tmp_path):
    run_there(tmp_path, kind, objective)


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
