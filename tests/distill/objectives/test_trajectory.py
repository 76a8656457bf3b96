"""Trajectory matching against a hand calculation in float64, its schedule, and the student's learning rate."""

import pytest
import torch
from support import small
from support.plain_unroll import PlainUnroll

from distill import objectives, synthetic
from distill.engine.batches import Batches
from distill.engine.inner import SGD
from distill.objectives.trajectory import LEAST_LR


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(*overrides):
    c = small.context("trajectory", "synthetic.labels.mode=learned", *overrides, dtype=torch.float64)
    return c, synthetic.build(c), objectives.build(c)


def plain_loss(c, made, lr, step, segments):
    """The mean over segments of the normalised distance, the graph kept. Ends of segments: what the experts gave."""
    o, asked = c.recipe.objective, c.experts.asked
    total = 0.0
    for s in range(segments):
        (expert, start_epoch), (same, target_epoch) = asked[2 * s : 2 * s + 2]
        assert expert == same and target_epoch == start_epoch + o.expert_epochs
        start, target = c.experts.theta[expert, start_epoch], c.experts.theta[expert, target_epoch]
        batches = Batches(made, o.batch_syn, o.augment, c.seed, ("student", step, s))
        end = PlainUnroll(c.network, SGD())(start, lr, batches, o.syn_steps)
        near, far = end - target, start - target
        if o.prune:
            mask = near.abs().detach() <= o.prune
            assert 0 < mask.sum() < len(mask)
            near, far = near[mask], far[mask]
        power = 1 if o.distance == "l1" else 2
        total = total + near.abs().pow(power).sum() / far.abs().pow(power).sum()
    return total / segments


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("distance, prune", [("l2", 0), ("l1", 0), ("l2", 0.03), ("l1", 0.03)])
def test_loss_and_gradients_equal_the_hand_calculation(distance, prune, segments):
    c, made, objective = build(
        f"objective.distance={distance}", f"objective.prune={prune}", f"objective.segments={segments}"
    )
    loss = objective.loss(made, 4, range(segments))
    leaves = [made.x, made.y, objective.lr]
    ours = torch.autograd.grad(loss, leaves)
    expected = plain_loss(c, made, objective.lr, 4, segments)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(ours, torch.autograd.grad(expected, leaves), strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm()


def test_a_student_that_does_not_move_has_distance_one():
    """The norm is the distance of the segment's two ends, so it reads as the part of the way that is left."""
    _, made, objective = build("objective.lr_teacher=1e-300")
    assert objective.loss(made, 0, [0]).item() == pytest.approx(1.0, rel=1e-12)


def test_segments_side_by_side_equal_one_after_another():
    results = []
    for vectorize in ("on", "off"):
        c, made, objective = build("objective.segments=3", f"objective.engine.vectorize={vectorize}")
        loss = objective.loss(made, 0, range(3))
        results.append((loss, *torch.autograd.grad(loss, [made.x, made.y, objective.lr])))
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm()


@pytest.mark.parametrize("vectorize", ["on", "off"])
def test_segments_of_two_workers_add_up_to_all(vectorize):
    _, made, objective = build("objective.segments=4", f"objective.engine.vectorize={vectorize}")
    whole = objective.loss(made, 2, range(4))
    parts = objective.loss(made, 2, range(0, 4, 2)) + objective.loss(made, 2, range(1, 4, 2))
    assert whole.item() == pytest.approx(parts.item(), rel=1e-12)


# ---------------------------------------------------------------- which segments


def starts(c, objective, step):
    draws = [objective._segment(step, s) for s in range(200)]
    assert {expert for expert, _, _ in draws} == {0, 1}
    assert all(end - start == c.recipe.objective.expert_epochs for _, start, end in draws)
    return {start for _, start, _ in draws}


def test_start_epochs_cover_their_range_and_no_more():
    c, _, objective = build("objective.min_start_epoch=1", "objective.max_start_epoch=4")
    assert starts(c, objective, 0) == {1, 2, 3}


@pytest.mark.parametrize("step, latest", [(0, 1), (4, 1), (5, 2), (10, 3), (14, 3), (15, 4), (99, 4)])
def test_schedule_widens_the_start_epochs(step, latest):
    c, _, objective = build("objective.max_start_epoch=4", "objective.widen_from=1", "objective.widen_steps=15")
    assert starts(c, objective, step) == set(range(latest))


def test_the_next_step_s_snapshots_are_prefetched():
    c, made, objective = build("objective.segments=2")
    objective.loss(made, 0, range(2))
    c.experts.asked.clear()
    objective.loss(made, 1, range(2))
    assert set(c.experts.prefetched[0]) == set(c.experts.asked)


# ---------------------------------------------------------------- the student's learning rate


def test_learned_rate_is_kept_positive():
    _, _, objective = build("objective.lr_lr=1.0")
    optimizer = torch.optim.SGD([p for group in objective.parameter_groups() for p in group.params], lr=1.0)
    objective.lr.grad = torch.tensor(10.0)
    optimizer.step()
    assert objective.lr < 0
    objective.after_step(None, 0)
    assert objective.student_lr == pytest.approx(LEAST_LR) and LEAST_LR > 0


def test_rate_steps_by_its_own_step_size_and_not_at_all_at_zero():
    _, _, learned = build("objective.lr_lr=0.5")
    assert [group.lr for group in learned.parameter_groups()] == [0.5]
    _, made, fixed = build("objective.lr_lr=0")
    assert fixed.parameter_groups() == [] and not fixed.lr.requires_grad
    fixed.loss(made, 0, [0]).backward()
    assert fixed.lr.grad is None and made.x.grad.abs().sum() > 0
