"""Every pair of a set and an objective on a GPU: the same losses and gradients as on the CPU, judged and published.

python -m pytest tests/test_cuda.py
"""

from dataclasses import replace

import pytest
import torch
from support import small
from test_pairs import OBJECTIVES, SETS

from distill import load, objectives, synthetic
from distill.context import Context
from distill.engine import replay
from distill.loop import Loop, Watcher
from distill.published import write

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")


def on_cuda(context: Context) -> Context:
    return replace(context, device=CUDA, data=context.data.to(CUDA))


@pytest.fixture(params=[(s, o) for s in SETS for o in OBJECTIVES], ids="-".join)
def context(request) -> Context:
    kind, objective = request.param
    others = [] if kind == "pixels" else ["synthetic={}", f"synthetic.kind={kind}"]
    return small.context(objective, "outer.steps=2", "outer.evaluate_every=1", "outer.lr_img=0.1", *others, digits=120)


@pytest.fixture(autouse=True)
def exact_products():
    """TF32 products have ten bits: they would hide what differs."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_losses_and_gradients_are_those_of_the_cpu(context):
    results = []
    for c in (context, on_cuda(context)):
        made, objective = synthetic.build(c), objectives.build(c)
        loss = objective.loss(made, 0, range(objective.segments))
        loss.backward()
        results.append([loss, *(p.grad for p in synthetic.learned_of(made))])
        assert all(t.device.type == c.device.type for t in results[-1])
    for here, there in zip(*results, strict=True):
        assert torch.allclose(here, there.cpu(), rtol=1e-3, atol=1e-3 * here.abs().max().item())


def test_a_pair_is_distilled_resumed_published_and_loaded(context, tmp_path):
    loop = Loop(on_cuda(context), Watcher())
    loop.run()
    again = Loop(on_cuda(context), Watcher())
    again.resume(loop.checkpoint())
    sets = loop.synthetic.parameters(), again.synthetic.parameters()
    assert all(torch.equal(a, b) for a, b in zip(*sets, strict=True))
    write(loop.published(), tmp_path)
    train = load(tmp_path)
    assert train.images.isfinite().all() and len(train.images) == len(train.labels)


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # PyTorch advises it while it compiles
@pytest.mark.parametrize("objective", ["trajectory", "unrolled"])
def test_compiled_steps_have_the_losses_of_eager_ones(objective):
    losses = []
    for choice in ("off", "on"):
        c = on_cuda(small.context(objective, f"objective.engine.compile={choice}", digits=120))
        made, built = synthetic.build(c), objectives.build(c)
        losses.append(built.loss(made, 0, [0]).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("objective", ["trajectory", "unrolled"])
def test_steps_whose_kernels_are_launched_together_have_the_same_bits(objective, monkeypatch):
    """Segments side by side, and several calls with other images: what a replay was captured with must not stay."""
    found = []
    torch.backends.cudnn.deterministic = True
    for at_once in (False, True):
        monkeypatch.setattr(replay, "MOST_KINDS", 8 if at_once else 0)
        c = on_cuda(small.context(objective, "objective.segments=2", digits=120))
        made, built = synthetic.build(c), objectives.build(c)
        for step in range(3):
            loss = built.loss(made, step, [0, 1])
            loss.backward()
        found.append([loss, *(p.grad for p in synthetic.learned_of(made))])
        assert any(r.captured for pair in built.unroll.step._launched for r in pair) == at_once
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
