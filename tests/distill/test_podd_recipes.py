"""The PoDD recipes against the paper: settings of section 5.1, accuracies of table 1, and posters that can be built."""

from dataclasses import replace

import pytest
import torch
from support import small

from distill import recipe, synthetic

# dataset: (classes, side, patches, synthetic batch, real batch, unroll, window, outer rate, size at 0.9 as w x h)
PAPER = {
    "cifar10": (10, 32, (16, 6), 0, 5000, 200, 60, 1e-3, (153, 60)),
    "cifar100": (100, 32, (20, 20), 50, 2000, 300, 100, 1e-3, (303, 303)),
    "cub200": (200, 32, (60, 30), 200, 3000, 200, 60, 1e-3, (610, 302)),
    "tiny-imagenet": (200, 64, (40, 20), 30, 500, 300, 100, 5e-4, (1211, 608)),
}
ACCURACY = {
    "cifar10": {"03": "42.3", "05": "49.5", "09": "58.4", "10": "59.1"},
    "cifar100": {"03": "34.7", "05": "36.0", "09": "37.4", "10": "38.3"},
    "cub200": {"03": "14.8", "05": "15.0", "09": "15.2", "10": "16.2"},
    "tiny-imagenet": {"03": "18.4", "05": "18.7", "09": "19.5", "10": "20.0"},
}
RECIPES = [(name, ipc) for name in PAPER for ipc in ("03", "05", "09", "10")]


@pytest.mark.parametrize("name, ipc", RECIPES)
def test_settings_are_the_papers(name, ipc):
    r = recipe.load(f"podd-{name}-{ipc}")
    s, o = r.synthetic, r.objective
    _, _, patches, syn, real, unroll, window, lr, size = PAPER[name]
    tall_enough = (name, ipc) != ("cifar10", "03")  # 35 pixels high: four rows of positions for patches of 32
    assert (s.patches_x, s.patches_y) == (patches if tall_enough else (16, 4))
    assert (o.batch_syn, o.batch_real, o.unroll, o.window, o.inner, o.clip) == (syn, real, unroll, window, "adam", 2)
    assert (r.outer.optimizer, r.outer.lr_img, r.dataset.preprocess) == ("adam", lr, "zca-podd")
    assert {o.lr_inner, r.evaluation.lr, *([s.labels.lr] if s.labels.mode == "learned" else [])} == {lr}
    assert s.ipc == int(ipc) / 10 and ((s.width, s.height) == size) == (ipc == "09")
    assert s.labels.mode == ("fixed" if name == "cifar10" and s.ipc >= 0.7 else "learned")
    assert o.augment.strategies == ("flip", "rotate") and r.evaluation.protocol == "podd"
    assert r.expected.startswith(ACCURACY[name][ipc] + " ")


@pytest.mark.parametrize("name, ipc", RECIPES)
def test_posters_of_the_recipes_can_be_built(name, ipc):
    """On noise of the dataset's shape: every class has a patch, and the poster keeps to its budget."""
    classes, side, *_ = PAPER[name]
    given = recipe.load(f"podd-{name}-{ipc}", ["synthetic.order=given"])
    data = small.random_data(classes, (3, side, side), n=classes)
    context = replace(small.context("unrolled"), recipe=given, data=data)
    made = synthetic.build(context)
    assert len(made) == given.synthetic.patches_x * given.synthetic.patches_y
    area = made.size[0] * made.size[1]
    assert 0.96 * given.synthetic.ipc * classes * side**2 < area <= given.synthetic.ipc * classes * side**2
    labels = made.labels(torch.arange(len(made)))
    assert torch.allclose(labels.sum(1), torch.ones(len(made)), atol=1e-5)
