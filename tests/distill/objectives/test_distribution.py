"""Distribution matching against explicit per-class means, with the same augmentation on both sides."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support import small

from distill import nets, objectives, recipe, rng, synthetic
from distill.augment import Draw, apply, draw
from distill.cost.memory import PeakMemory
from distill.data.base import Split
from distill.errors import RecipeError
from distill.objectives.distribution import CHUNK, items_of_classes


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(*overrides, **more):
    c = small.context("distribution", *overrides, dtype=torch.float64, **more)
    return c, synthetic.build(c), objectives.build(c)


def by_hand(c, made, step, rows_of=None):
    """The loss of a step, image by image and class by class; `rows_of(k)` are the real images of class k [all]."""
    o, key = c.recipe.objective, (c.seed, "distribution", step, 0)
    theta = c.network.init(rng.generator(*key, "network"))
    g = rng.generator(*key, "frequencies")
    rows_of = rows_of or (lambda k: (c.data.train.y == k).nonzero().flatten().tolist())
    x, y = made.x, made.y
    frequencies = [torch.randn(o.frequencies, len(f), generator=g) for f in embeddings(c, theta, x[:1])]
    total = 0.0
    for k in range(c.classes):
        items = [j for j in range(len(y)) if y[j, k] > 0 and y[j, k] == y[j].max()]
        items = items or [j for j in range(len(y)) if y[j, k] > 0 and y[j, k] == y[:, k].max()]
        if not items:
            continue
        weights = y[items, k] / y[items, k].sum()
        real = embedded(c, theta, c.data.train.x, rows_of(k), rng.generator(*key, "augment", k))
        ours = embedded(c, theta, x, items, rng.generator(*key, "augment", k))
        for r, s, t in zip(real, ours, frequencies, strict=True):
            even = torch.full((len(r),), 1 / len(r))
            total = total + apart(o, r, even, s, weights, t)
    return total


def embedded(c, theta, images, rows, g):
    """For each layer the embeddings (n, d) of some images, one at a time, with their augmentation."""
    drawn = draw(c.recipe.objective.augment, len(rows), g)
    each = [Draw(drawn.strategy, drawn.u[min(i, len(drawn.u) - 1) :][:1], drawn.settings) for i in range(len(rows))]
    maps = [embeddings(c, theta, apply(images[r : r + 1], d)) for r, d in zip(rows, each, strict=True)]
    return [torch.stack(layer) for layer in zip(*maps, strict=True)]


def embeddings(c, theta, x):
    """Of one image, in plain operations: [convolution, GroupNorm as the published codes have it, ReLU, pool]."""
    values, maps = c.network.layout.unflatten(theta), []
    for i in range(c.recipe.network.depth):
        x = F.conv2d(x, values[f"convs.{i}.weight"], values[f"convs.{i}.bias"], padding=1)
        x = F.group_norm(x, x.shape[1], values[f"norms.{i}.weight"], values[f"norms.{i}.bias"])
        x = F.avg_pool2d(F.relu(x), 2)
        maps.append(x.flatten())
    return [maps[layer - 1] for layer in c.recipe.objective.layers] or maps[-1:]


def apart(o, real, even, ours, weights, t):
    """The distance of one class in one layer, by its definition."""
    if o.distance == "ncfm":
        p, q = (
            (w[:, None] * torch.exp(1j * (f / f.norm(dim=1, keepdim=True)) @ t.T.to(torch.complex128))).sum(0)
            for f, w in ((real, even), (ours, weights))
        )
        phase = 2 * p.abs() * q.abs() * (1 - torch.cos(p.angle() - q.angle()))
        return (o.amplitude * (p.abs() - q.abs()) ** 2 + (1 - o.amplitude) * phase).sqrt().mean()
    a, b = even @ real, weights @ ours
    if o.distance == "cosine":
        return 1 - (a @ b) / (a.norm() * b.norm())
    return ((a - b).abs() if o.distance == "l1" else (a - b).pow(2)).sum()


def agree(c, made, loss, step=0, rel=1e-10, of="x", rows_of=None):
    """Loss and gradient equal those by hand."""
    expected = by_hand(c, made, step, rows_of)
    assert loss.item() == pytest.approx(expected.item(), rel=rel)
    ours, theirs = (torch.autograd.grad(v, getattr(made, of), retain_graph=True)[0] for v in (loss, expected))
    assert (ours - theirs).norm() <= 10 * rel * theirs.norm() and theirs.norm() > 0


ALL = "objective.batch_real=1000"
"""All real images of a class are used, so which are drawn does not matter."""


@pytest.mark.parametrize("step, distance", [(0, "l2"), (1, "l2"), (2, "l1"), (0, "cosine")])
def test_loss_and_gradient_equal_explicit_class_means(step, distance):
    c, made, objective = build(ALL, f"objective.distance={distance}")
    agree(c, made, objective.loss(made, step, [0]), step)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_ncfm_equals_complex_characteristic_functions(alpha):
    """The constant under the root, for its derivative at 0, is the difference."""
    settings = ["objective.distance=ncfm", "objective.frequencies=16", f"objective.amplitude={alpha}"]
    c, made, objective = build(ALL, *settings)
    agree(c, made, objective.loss(made, 0, [0]), rel=1e-3)


def test_ncfm_of_equal_images_is_nothing_and_has_a_gradient():
    _, made, objective = build(ALL, "synthetic.ipc=15", "objective.distance=ncfm")
    loss = objective.loss(made, 0, [0])
    assert loss.item() < 1e-3 and torch.autograd.grad(loss, made.x)[0].isfinite().all()


@pytest.mark.parametrize("layers", ["[1]", "[2]", "[1, 2]"])
def test_chosen_layers_are_the_outputs_of_blocks(layers):
    c, made, objective = build(ALL, "network.depth=2", f"objective.layers={layers}")
    loss = objective.loss(made, 0, [0])
    agree(c, made, loss)
    last = build(ALL, "network.depth=2")[2].loss(made, 0, [0])
    assert (loss == last) == (layers == "[2]")


def test_layers_that_a_network_does_not_have_are_refused():
    with pytest.raises(RecipeError, match=r"layers = \[1, 3\]: this network has 2 blocks"):
        build("network.depth=2", "objective.layers=[1, 3]")


def test_every_image_may_have_its_own_augmentation():
    c, made, objective = build(ALL, "objective.augment.per_sample=true")
    for step in range(4):
        rows = [objective._real_rows(k, ("distribution", step, 0)).tolist() for k in range(3)]
        agree(c, made, objective.loss(made, step, [0]), step, rows_of=rows.__getitem__)


def unbalanced(c):
    """The same context with 15, 4 and 1 real images of its classes."""
    x, y = c.data.train.x, c.data.train.y
    few = [row for k, n in enumerate((15, 4, 1)) for row in (y == k).nonzero().flatten().tolist()[:n]]
    return replace(c, data=replace(c.data, train=Split(x[few], y[few])))


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_classes_of_different_sizes_in_chunks_of_any_size(chunk, monkeypatch):
    """Chunks cut through classes and through runs of one augmentation."""
    monkeypatch.setitem(CHUNK, "cpu", chunk)
    for settings in ([], ["objective.distance=ncfm", "objective.frequencies=8"]):
        c, made, _ = build(ALL, "synthetic.labels.mode=learned", *settings)
        c = unbalanced(c)
        with torch.no_grad():  # classes have 3, 1 and 2 images
            made.y.copy_(torch.eye(3)[[0, 0, 0, 1, 2, 2]] * 0.7 + 0.1)
        loss = objectives.build(c).loss(made, 1, [0])
        agree(c, made, loss, 1, rel=1e-3 if settings else 1e-10)


def test_memory_depends_neither_on_images_nor_on_segments(monkeypatch):
    monkeypatch.setitem(CHUNK, "cpu", 6)

    def peak(ipc, segments):
        c, made, objective = build(ALL, f"synthetic.ipc={ipc}", f"objective.segments={segments}", "network.width=32")
        objective.loss(made, 0, [0])
        with PeakMemory() as memory:
            objective.loss(made, 0, range(segments)).backward()
        images = made.x.nbytes * (6 + segments)  # the set, its augmentations and their gradients
        return memory.peak - images

    assert peak(6, 1) < 1.2 * peak(2, 1) and peak(2, 4) < 1.2 * peak(2, 1)


def test_batch_norm_sees_the_images_of_all_classes_at_once(monkeypatch):
    monkeypatch.setitem(CHUNK, "cpu", 4)
    c, made, objective = build("network.norm=batch")
    assert embedded_sizes(monkeypatch, c, lambda: objective.loss(made, 0, [0])) == [3 * 8, len(made)]
    assert [p.chunk or p.images for p in objective.work(made).passes] == [len(made), 3 * 8]


def test_compiling_is_refused_with_batch_norm():
    with pytest.raises(RecipeError, match="objective.engine.compile"):
        build("network.norm=batch", "objective.engine.compile=on")


def embedded_sizes(monkeypatch, c, run):
    """The numbers of images of the passes in `run`."""
    sizes, features = [], type(c.network).features
    monkeypatch.setattr(type(c.network), "features", lambda self, t, x: (sizes.append(len(x)), features(self, t, x))[1])
    run()
    return sizes


def test_experts_embed_at_saved_epochs_within_the_range():
    c, made, objective = build(
        "objective.features=experts", "objective.min_epoch=2", "objective.max_epoch=5", "experts.save_every=2"
    )
    assert c.recipe.expert_use == "required" and c.recipe.experts_needed == 2
    c.experts.epochs = c.recipe.experts.saved_epochs
    for step in range(30):
        objective.loss(made, step, [0])
    assert {e for _, e in c.experts.asked} == {2, 4} and {i for i, _ in c.experts.asked} == {0, 1}
    assert [w for [w] in c.experts.prefetched[:-1]] == c.experts.asked[1:]


def test_the_parameters_of_an_expert_embed():
    c, made, objective = build(ALL, "objective.features=experts", "objective.min_epoch=6", "experts.count=1")
    theta = c.experts.snapshot(0, 6)
    key = (c.seed, "distribution", 0, 0)
    expected = 0.0
    for k in range(3):
        rows = (c.data.train.y == k).nonzero().flatten().tolist()
        (real,) = embedded(c, theta, c.data.train.x, rows, rng.generator(*key, "augment", k))
        (ours,) = embedded(c, theta, made.x, [2 * k, 2 * k + 1], rng.generator(*key, "augment", k))
        expected = expected + (real.mean(0) - ours.mean(0)).square().sum()
    assert objective.loss(made, 0, [0]).item() == pytest.approx(expected.item(), rel=1e-10)


def test_random_networks_need_no_experts_and_ranges_without_a_saved_epoch_are_refused():
    assert build()[0].recipe.expert_use == "none"
    with pytest.raises(RecipeError, match="no epoch from objective.min_epoch = 3 to objective.max_epoch = 3"):
        build("objective.features=experts", "objective.min_epoch=3", "objective.max_epoch=3", "experts.save_every=2")


def test_a_named_set_of_experts_without_an_epoch_in_the_range_is_refused():
    _, made, objective = build("objective.features=experts", "objective.trajectories=other", "objective.min_epoch=7")
    with pytest.raises(RecipeError, match="none of them from objective.min_epoch = 7"):
        objective.loss(made, 0, [0])


def test_bfloat16_embeddings_are_close():
    torch.set_default_dtype(torch.float32)  # autocast leaves float64 as it is
    c = small.context("distribution")
    made, objective = synthetic.build(c), objectives.build(c)
    half = nets.build(c.recipe.network, c.data.shape, c.classes, bf16=True)
    loss = objectives.build(replace(c, network=half)).loss(made, 0, [0])
    exact = objective.loss(made, 0, [0])
    assert loss != exact and loss.item() == pytest.approx(exact.item(), rel=0.05)
    r = recipe.override(c.recipe.model_dump(mode="json"), ["objective.engine.bf16=true"], "test")
    assert r.objective.bf16 and not c.recipe.objective.bf16


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it, and hides the warning elsewhere
def test_compiled_steps_equal_eager_ones():
    """Of sets whose chunks are not a multiple of what compiled ones are."""
    settings = [ALL, "synthetic.ipc=3", "network.depth=2"]
    c, made, objective = build(*settings, "objective.engine.compile=on")
    assert objective.loss(made, 0, [0]) is not None and objective.compiled
    agree(c, made, objective.loss(made, 0, [0]), rel=1e-9)


def test_learned_labels_weigh_their_images():
    c, made, objective = build("objective.batch_real=1000", "synthetic.labels.mode=learned")
    with torch.no_grad():
        made.y.copy_(torch.rand(made.y.shape, generator=rng.generator(0, "labels")))
    loss = objective.loss(made, 0, [0])
    agree(c, made, loss, of="y")
    agree(c, made, loss)


def test_each_image_is_embedded_once_for_its_most_likely_class(monkeypatch):
    c, made, objective = build("objective.batch_real=8", "synthetic.labels.mode=learned")
    with torch.no_grad():
        made.y.copy_((5 * made.y).softmax(1))  # some of every class in every label
    assert sum(embedded_sizes(monkeypatch, c, lambda: objective.loss(made, 0, [0]))) == len(made) + 3 * 8


def test_items_stand_for_their_most_likely_class_ties_for_both_and_no_class_goes_without():
    y = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0], [0.7, 0.1, 0.2, 0.0]])
    items = {k: i.tolist() for k, i in items_of_classes(y).items()}
    assert items == {0: [0, 1, 2], 1: [1], 2: [2]}  # class 2 is nobody's first: the item that holds most of it


def test_a_class_that_learned_labels_left_out_is_left_out():
    c, made, objective = build("objective.batch_real=1000", "synthetic.labels.mode=learned")
    whole = objective.loss(made, 0, [0])
    with torch.no_grad():
        made.y[:, 1] = 0
    loss = objective.loss(made, 0, [0])
    assert 0 < loss < whole and torch.autograd.grad(loss, made.x)[0].isfinite().all()


def test_a_real_batch_has_batch_real_different_images_of_its_class():
    c, made, objective = build("objective.batch_real=4")
    seen = []
    for step in range(20):
        rows = objective._real_rows(1, (step,)).tolist()
        assert len(set(rows)) == 4 and all(c.data.train.y[r] == 1 for r in rows)
        seen += rows
    assert len(set(seen)) == 15


def test_a_set_equal_to_the_real_one_has_no_loss():
    c, made, objective = build("objective.batch_real=1000", "synthetic.ipc=15")
    assert objective.loss(made, 0, [0]).item() < 1e-20


def test_each_step_has_its_own_network():
    _, made, objective = build()
    assert objective.loss(made, 0, [0]) == objective.loss(made, 0, [0])
    assert objective.loss(made, 0, [0]) != objective.loss(made, 1, [0])
