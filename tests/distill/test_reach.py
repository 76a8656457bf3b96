"""How far a set reaches: against hand-made experts whose path is known."""

import pytest
import torch
from support import small
from support.small import plain

from distill import synthetic
from distill.engine.inner import SGD, InnerStep
from distill.errors import TrajectoryError
from distill.reach import reach

LR = 0.05


class Followed:
    """An expert that was itself trained on the distilled set: its epoch e is where a student is after 3e steps."""

    count = 1

    def __init__(self, context, made, epochs: int):
        step, rate = InnerStep(context.network, SGD()), torch.tensor(LR)
        x, y = plain(made)
        theta = context.network.init(torch.Generator().manual_seed(1))
        self.epochs, self.kept = list(range(epochs + 1)), [theta]
        state = step.optimizer.start(theta)
        for i in range(3 * epochs):
            state = step.forward(state, x, y, rate, i)
            if i % 3 == 2:
                self.kept.append(state[0].clone())

    def snapshot(self, expert: int, epoch: int) -> torch.Tensor:
        return self.kept[epoch].clone()

    def prefetch(self, wanted) -> None:
        pass


@pytest.fixture
def followed():
    context = small.context("trajectory", "objective.batch_syn=0", "objective.augment.strategies=[]")
    made = synthetic.build(context)
    return context.with_experts(Followed(context, made, 4)), made


def test_a_student_on_the_experts_own_set_lands_on_every_target_at_its_step(followed):
    context, made = followed
    found = reach(context, made, LR, steps=12, ahead=[1, 2, 4])
    assert found.at.tolist() == [[3, 6, 12]]
    torch.testing.assert_close(found.closest, torch.zeros(1, 3), rtol=0, atol=1e-9)


def test_too_few_steps_come_less_close_the_farther_the_target(followed):
    context, made = followed
    found = reach(context, made, LR, steps=3, ahead=[1, 2, 3, 4])
    assert found.at.tolist() == [[3, 3, 3, 3]]
    start = context.experts.snapshot(0, 0)
    by_hand = [
        float((context.experts.snapshot(0, 1) - target).square().sum() / (start - target).square().sum())
        for target in (context.experts.snapshot(0, m) for m in (1, 2, 3, 4))
    ]
    torch.testing.assert_close(found.mean, torch.tensor(by_hand), rtol=1e-4, atol=1e-7)
    assert sorted(by_hand) == by_hand


def test_a_student_that_only_moves_away_is_closest_at_the_start(followed):
    context, made = followed
    found = reach(context, made, -LR, steps=5, ahead=[2])
    assert found.closest.tolist() == [[1.0]] and found.at.tolist() == [[0]]


def test_targets_start_where_the_students_start(followed):
    context, made = followed
    found = reach(context, made, LR, steps=6, ahead=[1, 2], start=2)
    assert found.at.tolist() == [[3, 6]]


def test_targets_beyond_the_experts_are_refused(followed):
    context, made = followed
    with pytest.raises(TrajectoryError, match="epoch 2 \\+ 3 is beyond the 4 epochs"):
        reach(context, made, LR, steps=1, ahead=[3], start=2)
