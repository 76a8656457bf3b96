"""What the contract of a set promises the loop: frozen parts, own optimisers, a penalty, fixed sets that are drawn."""

import pytest
import torch
from support import small
from torch import nn

from distill import rng
from distill.checkpoint import unpack
from distill.evaluate import Judge
from distill.loop import Loop, Watcher
from distill.recipe import Labels, Sampling
from distill.synthetic.base import Budget, Group, Synthetic
from distill.synthetic.pixels import Pixels


class Decoded(Synthetic):
    """Codes of a frozen decoder; the codes are learned by Adam, and a penalty draws them to zero."""

    def __init__(self, context, strength=0.0):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        c, h, w = context.data.shape
        self.classes, self.shape, self.strength = context.classes, context.data.shape, strength
        self.codes = nn.Parameter(torch.randn(context.classes * 2, 4, generator=g))
        self.decoder = nn.Parameter(torch.randn(4, c * h * w, generator=g), requires_grad=False)
        self.penalties = []

    def __len__(self):
        return len(self.codes)

    def images(self, index, generator):
        return (self.codes[index] @ self.decoder).view(-1, *self.shape)

    def labels(self, index):
        return nn.functional.one_hot(index // 2, self.classes).float()

    def penalty(self, step, generator):
        self.penalties.append((step, torch.rand((), generator=generator).item()))
        return self.strength * self.codes.square().sum()

    def parameter_groups(self, outer):
        return [Group([self.codes], 0.1, "adam")]

    def learned_state(self):
        return {"codes": self.codes}

    def load_learned_state(self, state):
        with torch.no_grad():
            self.codes.copy_(state["codes"])

    def budget(self):
        return Budget({"codes": self.codes.numel()}, {"decoder": self.decoder.numel()})

    def sampled(self, settings, generator):
        if not settings.per_class:
            return self
        y = torch.arange(self.classes).repeat_interleave(settings.per_class)
        x = torch.randn(len(y), *self.shape, generator=generator)
        return Pixels(x, nn.functional.one_hot(y, self.classes).float(), Labels())


@pytest.fixture
def loop(monkeypatch):
    def of(*overrides, strength=0.0):
        monkeypatch.setattr("distill.synthetic.build", lambda context: Decoded(context, strength))
        return Loop(small.context("trajectory", "objective.lr_lr=0.01", *overrides), Watcher())

    return of


def test_each_group_has_the_optimiser_it_names_and_the_rest_the_recipes(loop):
    run = loop("outer.optimizer=sgd")
    assert {kind: type(o) for kind, o in run.optimizers.items()} == {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    (codes,), (rate,) = (run.optimizers[kind].param_groups[0]["params"] for kind in ("adam", "sgd"))
    assert codes is run.synthetic.codes and rate is run.objective.lr
    before = codes.detach().clone()
    run.run()
    moved = (codes - before).abs().max()
    assert 0.1 < moved < 0.35, "three steps of Adam at 0.1"


def test_two_optimisers_resume_to_the_same_bytes(loop):
    whole, saved = loop("outer.steps=4", "outer.checkpoint_every=2"), []
    whole.watcher.save = lambda checkpoint: saved.append(checkpoint.encode())
    whole.run()
    half = loop("outer.steps=4", "outer.checkpoint_every=2")
    half.resume(type(whole.checkpoint()).decode(saved[0], "half"))
    half.run()
    assert half.checkpoint().encode() == whole.checkpoint().encode()


def test_a_frozen_part_is_in_no_checkpoint(loop):
    run = loop()
    run.run()
    checkpoint = run.checkpoint()
    assert set(unpack("synthetic", checkpoint.tensors)) == set(unpack("best", checkpoint.tensors)) == {"codes"}


def test_the_penalty_is_added_once_and_draws_from_its_own_generator(loop):
    def first_loss(strength, **workers):
        run = loop("outer.steps=1", "objective.segments=2", strength=strength)
        losses = []
        run.watcher.step = lambda step, metrics: losses.append(metrics["loss"])
        for name, value in workers.items():
            setattr(run, name, value)
        run.run()
        return losses[0], run.synthetic.penalties

    plain, drawn = first_loss(0.0)
    penalised, again = first_loss(0.5)
    codes = Decoded(small.context("trajectory")).codes
    assert penalised - plain == pytest.approx(0.5 * codes.square().sum().item(), rel=1e-4)
    assert drawn == again == [(0, torch.rand((), generator=rng.generator(3, "penalty", 0)).item())]
    assert first_loss(0.5, rank=1)[1] == [], "one worker adds it"


def test_an_objective_is_called_after_each_step_with_its_number_and_the_updated_set(loop):
    run, called = loop("outer.steps=3"), []
    codes = [run.synthetic.codes.detach().clone()]

    def after_step(synthetic, step):
        called.append(step)
        codes.append(synthetic.codes.detach().clone())

    run.objective.after_step = after_step
    run.run()
    assert called == [0, 1, 2] and all(not torch.equal(a, b) for a, b in zip(codes, codes[1:], strict=False))


def test_budgets_count_shared_parts_apart_and_fewer_bits_as_fewer_floats():
    budget = Budget({"images": 1000, "labels": 10}, {"generator": 5000}, {"images": 8})
    assert (budget.total, budget.bytes, budget.bits_per_class(10)) == (260, 1040, 832.0)
    assert Budget({"images": 7}).bytes == 28


@pytest.mark.parametrize("redraw, distinct", [(0, 1), (1, 4), (2, 2)])
def test_a_network_is_trained_on_images_drawn_for_it_and_drawn_again_when_asked(redraw, distinct):
    sampling = f"evaluation.sampling={{per_class=3, redraw_every={redraw}}}"
    context = small.context("trajectory", sampling, "evaluation.epochs=4", "evaluation.batch=5")
    one, two = Judge(context)._batches([Decoded(context)] * 2, [("a", 0), ("a", 1)])
    assert len(one) == 9 and one.per_pass == 2
    passes = [torch.cat([one(i)[0] for i in (2 * p, 2 * p + 1)]) for p in range(4)]
    sums = {round(x.square().sum().item(), 4) for x in passes}
    assert len(sums) == distinct
    assert not torch.equal(one(0)[0], two(0)[0]), "each network has its own"
    assert torch.equal(one(7)[0], one(7)[0])


def test_a_set_of_pixels_gives_itself():
    context = small.context("trajectory", "evaluation.sampling={per_class=3}")
    made = Pixels(torch.zeros(6, 3, 8, 8), torch.eye(3).repeat_interleave(2, 0), Labels())
    assert made.sampled(context.recipe.evaluation.sampling, torch.Generator()) is made
    assert made.sampled(Sampling(), torch.Generator()) is made
