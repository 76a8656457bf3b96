"""Distilling on a device that is not the CPU: no tensor is left behind on the CPU.

There is no such device: support/device.py pretends. On a real GPU, for every pair: tests/test_cuda.py.
"""

import json
from dataclasses import replace

import pytest
import torch
from support import small
from support.device import DEVICE, Elsewhere, OnTwoDevices
from test_pairs import OBJECTIVES, SETS

from distill import data, load, synthetic, train
from distill.context import Context
from distill.evaluate.fid import fid
from distill.evaluate.rows import Rows
from distill.loop import Loop, Watcher
from distill.published import write
from distill.reach import reach
from distill.recipe import DSA
from distill.selectors import SELECTORS

ROWS = ("distilled", "distilled-hard", "distilled-other", "random", *SELECTORS)


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
    published = load(tmp_path)
    assert published.images.isfinite().all() and published.images.device.type == "cpu"


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", SETS)
def test_a_pair_is_distilled_judged_continued_and_published(kind, objective, tmp_path):
    run_there(tmp_path, kind, objective)


ALL_STRATEGIES = f"objective.augment.strategies={json.dumps(DSA)}"
SETTINGS = {
    "stored rounded, labels learned": ("pixels", "trajectory", "synthetic.bits=8", "synthetic.labels.mode=learned"),
    "multi-formation": (
        "pixels", "gradient", "synthetic.ipc=1", "synthetic.factor=2", "objective.distance=l2",
        "objective.inner_loop=2",
    ),
    "labels of experts": ("pixels", "unrolled", "synthetic.labels.mode=learned", "synthetic.labels.init=expert"),
    "labels on the poster, turned": (
        "poster", "unrolled", "synthetic.labels.mode=learned", "synthetic.augment.rotate=15", "synthetic.cyclic=true",
    ),
    "posters of classes": ("poster", "distribution", "synthetic.posters=per-class", "synthetic.init=blend"),
    "order by experts": ("poster", "trajectory", "synthetic.order=optimal", "synthetic.embedding=expert"),
    "penalties": ("canvas", "distribution", "synthetic.tv=0.1", "synthetic.spectrum=0.1", "synthetic.pattern=mirror"),
    "contrast": ("factorized", "gradient", "synthetic.contrast=0.1", "synthetic.critic_lr=0.1", "synthetic.pairs=0"),
    "fitted": ("generator", "distribution", "synthetic.start=real", "synthetic.fit_steps=2"),
    "inverted": (
        "latents", "distribution", "synthetic.space=feature", "synthetic.init=real", "synthetic.invert_steps=2",
        "synthetic.diversity=0.1",
    ),
    "states recomputed": ("pixels", "trajectory", "objective.engine.keep=thin", "objective.distance=l1"),
    "side by side": (
        "pixels", "trajectory", "objective.segments=2", "objective.engine.vectorize=on", "objective.prune=0.1",
        "evaluation.networks=2", "evaluation.selection_networks=2",
    ),
    "windows placed": ("pixels", "unrolled", "objective.automatic=true", "objective.window_change=1"),
    "networks kept": ("pixels", "unrolled", "objective.pool=2", "objective.inner=sgd", "objective.momentum=0.5"),
    "frequencies": ("pixels", "distribution", "objective.distance=ncfm", "objective.features=experts"),
    "layers, augmented": ("pixels", "distribution", "objective.layers=[1]", ALL_STRATEGIES),
    "discriminator of experts": ("generator", "adversarial", "objective.features=experts"),
    "sampled": ("generator", "distribution", "evaluation.sampling.per_class=3", "evaluation.sampling.redraw_every=2"),
    "batch norm": ("pixels", "distribution", "network.norm=batch", "dataset.preprocess=zca-podd"),
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_leave_nothing_on_the_cpu(settings, tmp_path):
    run_there(tmp_path, *settings)


def test_experts_baselines_and_fid_are_computed_on_the_device():
    more = ["experts.epochs=2", "experts.sam_rho=0.1", "experts.ema=0.9", "objective.max_start_epoch=1"]
    with Elsewhere():
        context = there("pixels", "trajectory", *more, "objective.expert_epochs=1")
        step = train.expert_step(context)
        _, expert = train.epochs(context, step, train.begin(context, step, [0, 1]))
        assert expert.theta.device == DEVICE and expert.theta.shape == (2, context.network.layout.size)
        made = synthetic.build(context)
        rows = Rows(context, made.budget().total, made, 0.01, 1)
        rows.use(context.recipe.network)
        for row in ROWS:
            (measured,) = rows.measure(row, 0)
            assert 0 <= measured.accuracy[0] <= 1
        reached = reach(context, made, 0.01, 2, [1])
        assert reached.closest.isfinite().all()
        loop = Loop(context, Watcher())
        loop.run()
        assert fid(loop.published(), context, "experts").value >= 0


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
        for drawn in (lambda g: torch.rand(2, device=DEVICE, generator=g), lambda g: x.clone().normal_(generator=g)):
            with pytest.raises(OnTwoDevices, match="generator of the CPU"):
                drawn(torch.Generator())
        assert (x + torch.tensor(1.0)).device == DEVICE and x[torch.tensor([0, 2])].shape == (2, 2)
        assert x.cpu().device.type == "cpu" and torch.equal(x.cpu() + left, (x + left.to(x)).cpu())
        assert left.copy_(x[0]).device.type == "cpu" and isinstance(x[0, 0].item(), float)


def test_shapes_that_change_in_place_are_those_of_the_numbers():
    with Elsewhere():
        x = torch.arange(6.0).view(2, 3).to(DEVICE)
        assert x[:, :1].squeeze_(1).shape == (2,) and x.clone().t_().tolist() == [[0, 3], [1, 4], [2, 5]]
        assert (x[:, 0] @ x @ x[0]).item() == 0 * 9 + 1 * 12 + 2 * 15


def test_gradients_stay_on_the_device():
    with Elsewhere():
        x = torch.ones(3).to(DEVICE).requires_grad_()
        (x**2).sum().backward()
        assert x.grad.device == DEVICE and x.grad.tolist() == [2, 2, 2]
