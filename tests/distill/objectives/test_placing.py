"""AT-BPTT: probabilities, lengths and stages against hand counts, norms against plain autograd."""

import pytest
import torch
import torch.nn.functional as F
from support import small
from support.plain_unroll import PlainUnroll

from distill import objectives, recipe, rng, synthetic
from distill.engine.batches import Batches
from distill.engine.inner import SGD, Adam
from distill.engine.unroll import Unroll
from distill.errors import RecipeError
from distill.loop import Loop, Watcher
from distill.objectives.placing import EARLY, LATE, MIDDLE, Placing

AUTOMATIC = ("objective.automatic=true", "objective.unroll=10", "objective.window=4", "objective.window_change=2")


def placing(**settings) -> Placing:
    given = {"unroll": 10, "window": 4, "window_change": 2, "automatic": True, **settings}
    return Placing(recipe.Unrolled(**given), seed=0)


def starts(made: Placing, draws: int = 4000) -> torch.Tensor:
    """Shares (unroll,) of the drawn starts, before those too late for the window are moved: d = 0, W = 1."""
    drawn = torch.tensor([made.draw(step, 0)[0] for step in range(draws)])
    return drawn.bincount(minlength=made.settings.unroll) / draws


@pytest.mark.parametrize("stage, sign", [(EARLY, 1), (MIDDLE, 0), (LATE, -1)])
def test_starts_are_drawn_from_a_softmax_of_the_norms_by_stage(stage, sign):
    made = placing(unroll=5, window=1, window_change=0, temperature=2.0)
    made.norms.copy_(torch.tensor([4.0, 2.0, 1.0, 0.0, 3.0]))
    made.stage.fill_(stage)
    weights = [torch.tensor(sign * n / 2.0).exp().item() for n in (4.0, 2.0, 1.0, 0.0, 3.0)]
    expected = torch.tensor(weights) / sum(weights)
    assert (starts(made) - expected).abs().max() < 0.03  # four standard deviations


def test_steps_that_share_a_draw_start_at_the_same_step():
    made = placing(redraw_every=4)
    made.stage.fill_(MIDDLE)
    drawn = [made.draw(step, 0)[0] for step in range(40)]
    assert all(len(set(drawn[i : i + 4])) == 1 for i in range(0, 40, 4)) and len(set(drawn)) > 3


def test_the_length_follows_the_rank_of_the_gradient_s_change():
    """Changes are 0, 8, 1, 2, 3, 0, 0, 0, 0, 0: ranks 0, 9, 6, 7, 8, 0 ...; lengths 2 + 4 * rank / 9."""
    made = placing()
    made.norms.copy_(torch.tensor([9.0, 1.0, 2.0, 4.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0]))
    made.stage.fill_(MIDDLE)
    drawn = {made.draw(step, 0) for step in range(300)}
    assert drawn == {(0, 2), (1, 6), (2, 5), (3, 5), (4, 6), (5, 2), (6, 2), (7, 2), (8, 2)}  # 9 is moved to 8


def test_the_stages_end_after_stalls_in_a_row():
    made = placing(stage_gains=(1.5, 1.0), stage_patience=(2, 3))
    seen = []
    for step, accuracy in enumerate([0.10, 0.11, 0.20, 0.21, 0.22, 0.235, 0.24, 0.23, 0.23, 0.5, 0.9]):
        made.begin(step, lambda: torch.zeros(10))
        seen.append(int(made.stage))
        made.accuracy.fill_(accuracy)
    # gains: 10, 1 (stalled), 9 (not), 1, 1 (two in a row: middle), 1.5 (not), 0.5, -1, 0 (three in a row: late)
    assert seen == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_stalls_of_the_early_stage_do_not_count_in_the_middle_one():
    made, seen = placing(stage_gains=(1.5, 1.0), stage_patience=(2, 3)), []
    for step, accuracy in enumerate([0.50, 0.505, 0.51, 0.515, 0.52, 0.525]):
        made.begin(step, lambda: torch.zeros(10))
        seen.append(int(made.stage))
        made.accuracy.fill_(accuracy)
    assert seen == [0, 0, 0, 1, 1, 1]


def test_draws_norms_and_accuracy_are_those_of_redraw_every_steps():
    made, asked = placing(redraw_every=3, stage_patience=(1, 1)), []
    for step in range(7):
        made.begin(step, lambda step=step: (asked.append(step), torch.arange(10.0))[1])
        made.accuracy.fill_([0.3, 0.0, 0.6][step % 3])
        if step in (2, 5):
            assert made.draw(step, 0) == made.draw(step - 1, 0) == made.draw(step - 2, 0)
    assert asked == [0, 3, 6]
    assert made.accuracy_before.item() == pytest.approx(0.3) and int(made.stage) == MIDDLE  # 30 points, then none
    assert len({made.draw(0, s) for s in range(20)}) > 1


# ---------------------------------------------------------------- in the objective


def build(*overrides):
    c = small.context("unrolled", *AUTOMATIC, *overrides, dtype=torch.get_default_dtype())
    return c, synthetic.build(c), objectives.build(c)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("inner", ["adam", "sgd"])
def test_norms_are_those_of_plain_training(float64, inner):
    c, made, objective = build(f"objective.inner={inner}", "objective.augment.strategies=[]", "network.norm=none")
    objective.loss(made, 0, [0])
    batches = Batches(made, 4, c.recipe.objective.augment, c.seed, ("probe", 0))
    start, plain = (
        c.network.init(rng.generator(c.seed, "probe", 0)),
        PlainUnroll(c.network, Adam() if inner == "adam" else SGD()),
    )
    for t, norm in enumerate(objective.placing.norms):
        theta = plain(start, objective.lr, batches, t).detach().requires_grad_()
        x, y = batches(t)
        loss = F.cross_entropy(c.network(theta, x), y)
        assert norm.item() == pytest.approx(torch.autograd.grad(loss, theta)[0].norm().item(), rel=1e-9)


def test_the_loss_is_that_of_the_drawn_window(float64, monkeypatch):
    seen, call = [], Unroll.__call__
    monkeypatch.setattr(
        Unroll, "__call__", lambda s, *a, window: (seen.append((a[3] - window, window)), call(s, *a, window=window))[1]
    )
    _, made, objective = build()
    drawn = []
    for step in range(8):
        objective.loss(made, step, [0]).backward()
        drawn.append(objective.placing.draw(step, 0))
        objective.after_step(made, step)
    assert seen == drawn and len(set(drawn)) > 2


def test_accuracy_is_that_on_the_real_batch(float64):
    c, made, objective = build("objective.batch_real=1000", "objective.augment.strategies=[]", "objective.segments=2")
    loss = objective.loss(made, 0, [0, 1])
    shares = []
    for s in range(2):
        before, window = objective.placing.draw(0, s)
        batches = Batches(made, 4, c.recipe.objective.augment, c.seed, ("student", 0, s))
        theta = PlainUnroll(c.network, Adam())(
            c.network.init(rng.generator(c.seed, "student", 0, s)), objective.lr, batches, before + window
        )
        shares.append((c.network(theta, c.data.train.x).argmax(1) == c.data.train.y).double().mean().item())
    assert objective.placing.accuracy.item() == pytest.approx(sum(shares) / 2) and loss > 0
    assert objective.per_worker()[0] is objective.placing.accuracy


def test_a_resumed_run_ends_at_the_same_bytes():
    """With stages that end within the run, and a checkpoint between two draws."""
    settings = [
        *AUTOMATIC, "objective.redraw_every=2", "objective.stage_patience=[1, 1]", "objective.stage_gains=[99, 99]",
        "outer.steps=7", "outer.checkpoint_every=3", "outer.lr_img=0.1",
    ]  # fmt: skip

    class Keeper(Watcher):
        def __init__(self):
            self.saved = []

        def save(self, checkpoint):
            self.saved.append(type(checkpoint).decode(checkpoint.encode(), "test"))

    whole, rest = Keeper(), Keeper()
    loop = Loop(small.context("unrolled", *settings), whole)
    loop.run()
    assert int(loop.objective.placing.stage) == LATE and loop.objective.metrics()["stage"] == 2.0
    again = Loop(small.context("unrolled", *settings), rest)
    again.resume(whole.saved[0])
    assert again.done == 3
    again.run()
    assert rest.saved[-1].encode() == whole.saved[-1].encode()


def test_without_it_nothing_is_added_to_the_state():
    c = small.context("unrolled")
    assert set(objectives.build(c).state_dict()) == {"lr", "norm", "norm_mean", "pool", "pool_age"}
    assert objectives.build(c).per_worker() == []


def test_work_is_of_the_longest_window_and_counts_the_probe():
    _, made, objective = build("objective.redraw_every=5")
    inner = objective.work(made).inner
    assert (inner.differentiated, inner.plain) == (6, (10 - 4) / 2 + 10 / 5)


@pytest.mark.parametrize(
    "settings, named",
    [
        (["objective.window_change=4"], "window_change"),
        (["objective.window=9"], "window_change"),
        (["objective.pool=2"], "objective.pool"),
        (["objective.random=false"], "random"),
    ],
)
def test_what_cannot_be_placed_is_refused(settings, named):
    with pytest.raises(RecipeError, match=named):
        small.context("unrolled", *AUTOMATIC, *settings)
