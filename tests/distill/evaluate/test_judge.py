"""The judge: networks are fresh and reproducible, the baseline is real, the test part is never used to choose."""

import statistics
import time
from dataclasses import replace

import torch
from support import small
from support.small import plain

from distill import rng, synthetic
from distill.accuracy import accuracy
from distill.data.base import Split
from distill.engine.inner import SGD, InnerStep
from distill.evaluate import Judge, Score, real_set
from distill.loop import Loop, Watcher


def test_a_score_is_mean_and_sample_deviation():
    values = (0.5, 0.7, 0.9)
    score = Score(values)
    assert abs(score.mean - statistics.mean(values)) < 1e-12
    assert abs(score.std - statistics.stdev(values)) < 1e-12
    assert score.as_dict() == {"mean": score.mean, "std": score.std, "n": 3}
    assert Score((0.4,)).std == 0.0


def test_accuracy_is_the_fraction_of_right_answers():
    context = small.context("trajectory")
    step = InnerStep(context.network, SGD())
    theta = context.network.init(rng.generator(0, "x"))
    answers = context.network(theta, context.data.test.x).argmax(1)
    wrong = (answers + 1) % 3
    half = torch.where(torch.arange(len(answers)) % 2 == 0, answers, wrong)
    assert accuracy(step, theta, Split(context.data.test.x, answers)) == 1.0
    assert accuracy(step, theta, Split(context.data.test.x, wrong)) == 0.0
    expected = (len(answers) + 1) // 2 / len(answers)
    assert accuracy(step, theta, Split(context.data.test.x, half), batch=4) == expected


def trained(judge: Judge, images, lr, networks=1, keys=None) -> list[torch.Tensor]:
    """Parameters (s, p) after each length of training."""
    keys = keys or [("key", "network", i) for i in range(networks)]
    lengths = judge.context.recipe.evaluation.lengths(len(images))
    return list(judge._train(judge._batches([images] * len(keys), keys), keys, lr, lengths))


def test_training_follows_the_mtt_protocol():
    """One network trained here is the same as one trained by torch.optim.SGD with the published settings."""
    context = small.context("trajectory", "evaluation.epochs=6")
    images = real_set(context, 2, rng.generator(0, "images"))
    theta = trained(Judge(context), images, 0.05)[-1][0]
    flat = context.network.init(rng.generator(context.seed, "key", "network", 0)).requires_grad_()
    optimizer = torch.optim.SGD([flat], lr=0.05, momentum=0.9, weight_decay=5e-4)
    x, y = plain(images)
    for epoch in range(6):
        optimizer.param_groups[0]["lr"] = 0.05 if epoch < 3 else 0.005
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(context.network(flat, x), y).backward()
        optimizer.step()
    assert torch.allclose(theta, flat, atol=1e-5)


def test_scores_are_reproducible_and_networks_differ():
    context = small.context("trajectory", digits=200)
    images = real_set(context, 2, rng.generator(0, "images"))
    first, second = (Judge(context).score(images, 0.05, context.data.test, 3, "key") for _ in range(2))
    other = Judge(context).score(images, 0.05, context.data.test, 3, "other key")
    assert first == second != other
    assert len(set(first.values)) > 1


def test_networks_side_by_side_are_as_one_after_another():
    context = small.context("trajectory", digits=200)
    images = real_set(context, 2, rng.generator(0, "images"))
    together = trained(Judge(context), images, 0.05, networks=3)[-1]
    for i in range(3):
        alone = trained(Judge(context), images, 0.05, keys=[("key", "network", i)])[-1][0]
        assert torch.allclose(together[i], alone, atol=1e-4)


def test_when_time_is_over_no_further_network_is_begun(monkeypatch):
    context = small.context("trajectory")
    made, test = synthetic.build(context), context.data.test
    monkeypatch.setattr("distill.evaluate.judge.SIDE_BY_SIDE_FLOPS", 0)
    three = Judge(context).score(made, 0.05, test, 3, "a", until=time.monotonic() + 1e6)
    assert three.n == 3 and three == Judge(context).score(made, 0.05, test, 3, "a")
    over = Judge(context).score(made, 0.05, test, 3, "a", until=time.monotonic() - 1)
    assert over.values == three.values[:1]
    monkeypatch.undo()  # networks side by side take the time of one
    assert Judge(context).score(made, 0.05, test, 3, "a", until=time.monotonic() - 1).n == 3


def test_random_real_images_are_training_images_of_their_class():
    context = small.context("trajectory")
    images = real_set(context, 2, rng.generator(0, "images"))
    train = context.data.train
    for x, y in zip(images.x, images.y.argmax(1), strict=True):
        rows = (train.x == x).flatten(1).all(1)
        assert rows.any() and (train.y[rows] == y).all()


def selected(context) -> tuple[int, dict]:
    loop = Loop(context, Watcher())
    best = loop.run()
    return best.step, {name: t.clone() for name, t in best.state.items()}


def test_selection_never_sees_the_test_part_unless_it_says_so():
    """Other test labels change nothing about what is selected on held-out training images."""
    overrides = ("outer.steps=4", "outer.evaluate_every=1", "evaluation.selection_networks=2")
    context = small.context("trajectory", *overrides)
    spoilt = replace(context, data=replace(context.data, test=Split(context.data.test.x, context.data.test.y * 0)))
    (step, state), (other_step, other_state) = selected(context), selected(spoilt)
    assert step == other_step and all(torch.equal(state[k], other_state[k]) for k in state)


def test_selection_uses_the_held_out_part():
    context = small.context("trajectory")
    seen = []

    class Spy(Judge):
        def score(self, synthetic, lr, split, networks, *key):
            seen.append(split)
            return super().score(synthetic, lr, split, networks, *key)

    for selection in ("validation", "best-on-test"):
        loop = Loop(small.context("trajectory", f"evaluation.selection={selection}"), Watcher())
        loop.judge = Spy(loop.context)
        loop._judge()
        expected = loop.context.data.validation if selection == "validation" else loop.context.data.test
        assert torch.equal(seen[-1].x, expected.x)
    assert len(context.data.validation) > 0
