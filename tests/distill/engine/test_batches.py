"""Mini-batches: each pass uses every image once, and step i is the same whenever it is asked for."""

import pytest
import torch
from support import small

from distill import synthetic
from distill.engine.batches import Batches, Stacked
from distill.recipe import DSA, Augment


def batches(size, seed=0, key=("student", 0), augment=None):
    made = synthetic.build(small.context("distribution", "synthetic.ipc=3"))
    with torch.no_grad():
        made.x.copy_(torch.arange(float(len(made)))[:, None, None, None].expand_as(made.x))
    return Batches(made, size, augment or Augment(), seed, key)


def used(b, steps):
    return [b(i)[0][:, 0, 0, 0].int().tolist() for i in steps]


@pytest.mark.parametrize("size, lengths", [(0, [9]), (9, [9]), (100, [9]), (4, [4, 4, 1]), (3, [3, 3, 3])])
def test_a_pass_covers_the_set_before_the_next_begins(size, lengths):
    b = batches(size)
    assert b.per_pass == len(lengths)
    for sweep in range(3):
        parts = used(b, range(sweep * len(lengths), (sweep + 1) * len(lengths)))
        assert [len(p) for p in parts] == lengths
        assert sorted(sum(parts, [])) == list(range(9))


def test_passes_trainings_and_seeds_shuffle_differently():
    first, second = used(batches(4), range(3)), used(batches(4), range(3, 6))
    assert first != second
    assert used(batches(4, key=("student", 1)), range(3)) != first
    assert used(batches(4, seed=1), range(3)) != first


def test_a_step_is_the_same_whenever_it_is_asked_for():
    b = batches(4, augment=Augment(strategies=DSA))
    with torch.no_grad():
        b.synthetic.x.normal_()
    forwards = [b(i) for i in range(6)]
    for i in reversed(range(6)):
        for once, again in zip(forwards[i], b(i), strict=True):
            assert torch.equal(once, again)


def test_labels_go_with_their_images():
    b = batches(4)
    for i in range(3):
        x, y = b(i)
        assert torch.equal(y.argmax(1), x[:, 0, 0, 0].long() // 3)


def test_stacked_is_each_training_s_own_batch():
    parts = [batches(4, key=("student", s)) for s in range(2)]
    x, y = Stacked(parts)(1)
    for s in range(2):
        assert torch.equal(x[s], parts[s](1)[0]) and torch.equal(y[s], parts[s](1)[1])
