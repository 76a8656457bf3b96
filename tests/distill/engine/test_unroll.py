"""The engine against plain autograd, against central differences, and against itself kept and computed other ways."""

import pytest
import torch
from support.pairs import all_pairs
from support.plain_unroll import PlainUnroll
from torch import nn

from distill import nets, recipe, rng
from distill.augment import augment
from distill.cost.memory import PeakMemory
from distill.engine import unroll
from distill.engine.inner import SGD, Adam, InnerStep
from distill.engine.unroll import Unroll

OPTIMIZERS = {"sgd": SGD(), "momentum": SGD(0.9, 5e-2), "adam": Adam()}
STEPS, WINDOW = 3, 2


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Problem:
    """Leaves, the batches made of them, and a scalar of where training on these batches ends."""

    def __init__(self, norm="instance", rates=False, soft=False, augmented=False, decoded=False, width=8, depth=2):
        g = rng.generator(0, "problem")
        self.network = nets.build(recipe.ConvNet(depth=depth, width=width, norm=norm), (3, 8, 8), 3)
        self.theta = self.network.init(g).requires_grad_()
        self.lr = (0.05 + 0.01 * torch.arange(float(STEPS)) if rates else torch.tensor(0.05)).requires_grad_()
        self.y = (torch.randn(6, 3, generator=g) if soft else 9 * torch.eye(3).repeat(2, 1)).softmax(1)
        self.y.requires_grad_(soft)
        self.source = torch.randn(6, 5, generator=g) if decoded else torch.randn(6, 3, 8, 8, generator=g)
        self.source.requires_grad_()
        self.decoder = Decoder(g) if decoded else nn.Identity()
        self.settings = recipe.Augment(strategies=recipe.DSA if augmented else ())
        self.target = self.theta.detach() + 0.1 * torch.randn(self.theta.shape, generator=g)

    @property
    def learned(self):
        return [self.source, *self.decoder.parameters()] + [self.y] * self.y.requires_grad

    def batch(self, i):
        rows = slice(i % 2, None, 2)
        x = augment(self.decoder(self.source[rows]), self.settings, rng.generator(1, "augment", i))
        return x, self.y[rows]

    def run(self, train, steps=STEPS, window=None):
        """(end, scalar, gradients of lr, of what batches are made of, and of theta without a window)."""
        end = train(self.theta, self.lr, self.batch, steps, self.learned, window)
        loss = (end - self.target).square().sum()
        leaves = [self.lr, *self.learned] + [self.theta] * (window is None)
        return end.detach(), loss.detach(), torch.autograd.grad(loss, leaves)


class Decoder(nn.Module):
    """Codes (n, 5) to images (n, 3, 8, 8): linear, smooth, convolution."""

    def __init__(self, g):
        super().__init__()
        self.linear, self.conv = nn.Linear(5, 4 * 64), nn.Conv2d(4, 3, 3, padding=1)
        for p in self.parameters():
            p.data = 0.4 * torch.randn(p.shape, generator=g)

    def forward(self, z):
        return self.conv(self.linear(z).tanh().view(-1, 4, 8, 8))


def engine(problem, optimizer, keep="device", compiled=False):
    return Unroll(InnerStep(problem.network, optimizer, compiled), keep)


def assert_close(ours, other, tolerance=1e-10):
    for a, b in zip(ours, other, strict=True):
        assert b.norm() > 0
        assert (a - b).norm() <= tolerance * b.norm()


# ---------------------------------------------------------------- against plain autograd

OFF_AND_ON = (False, True)
CASES = all_pairs(OPTIMIZERS, ["instance", "batch", "group", "layer", "none"], *[OFF_AND_ON] * 5)


@pytest.mark.parametrize("optimizer, norm, rates, soft, augmented, windowed, decoded", CASES)
def test_gradients_equal_plain_autograd(optimizer, norm, rates, soft, augmented, windowed, decoded):
    problem, rule = Problem(norm, rates, soft, augmented, decoded), OPTIMIZERS[optimizer]
    window = WINDOW if windowed else None
    end, loss, ours = problem.run(engine(problem, rule), window=window)
    plain_end, plain_loss, plain = problem.run(PlainUnroll(problem.network, rule), window=window)
    assert_close((end, loss), (plain_end, plain_loss))
    if rates and windowed:
        assert ours[0][: STEPS - WINDOW].eq(0).all()
    assert_close(ours, plain)


# ---------------------------------------------------------------- against central differences


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("optimizer, norm", [("sgd", "instance"), ("momentum", "batch"), ("adam", "group")])
def test_gradients_equal_central_differences(optimizer, norm, decoded, windowed):
    """Along a random direction of all leaves at once. Steps before a window are fixed, as the window promises.

    Adam goes with group norm: before instance norm a bias has a gradient of rounding errors, of which Adam makes steps.
    The gradient of training jumps at kinks of the ReLUs: steps of 1e-6 cross some here, steps of 1e-7 none.
    """
    problem, window = Problem(norm, True, True, True, decoded), WINDOW if windowed else None
    train = engine(problem, OPTIMIZERS[optimizer])
    _, _, gradients = problem.run(train, window=window)
    leaves = [problem.lr, *problem.learned] + [problem.theta] * (not windowed)
    g = rng.generator(5, "direction")
    direction = [torch.randn(p.shape, generator=g) for p in leaves]
    fixed = [[t.detach().clone() for t in problem.batch(i)] for i in range(STEPS)]
    fixed_lr = problem.lr.detach().clone()

    def value(move):
        with torch.no_grad():
            for p, d in zip(leaves, direction, strict=True):
                p.add_(move * d)
            first = STEPS - WINDOW if windowed else 0
            lr = torch.cat([fixed_lr[:first], problem.lr[first:]])
            end = train(problem.theta, lr, lambda i: fixed[i] if i < first else problem.batch(i), STEPS)
            for p, d in zip(leaves, direction, strict=True):
                p.sub_(move * d)
        return (end - problem.target).square().sum()

    eps = 1e-7
    slope = (value(eps) - value(-eps)) / (2 * eps)
    ours = sum((a * d).sum() for a, d in zip(gradients, direction, strict=True))
    assert abs(ours - slope) <= 1e-6 * abs(slope)


# ---------------------------------------------------------------- the same by other ways


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_side_by_side_equals_one_by_one(optimizer):
    one, two, rule = Problem("group"), Problem("group", soft=True), OPTIMIZERS[optimizer]
    with torch.no_grad():
        two.theta.add_(0.01), two.source.mul_(0.9)
    ends, _, gradients = zip(*(p.run(engine(p, rule)) for p in (one, two)), strict=True)

    def both(i):
        return tuple(torch.stack(pair) for pair in zip(one.batch(i), two.batch(i), strict=True))

    theta = torch.stack([one.theta, two.theta]).detach().requires_grad_()
    learned = [*one.learned, *two.learned]
    lr = one.lr
    end = engine(one, rule)(theta, lr, both, STEPS, learned)
    loss = (end[0] - one.target).square().sum() + (end[1] - two.target).square().sum()
    found = torch.autograd.grad(loss, [lr, *learned, theta])
    assert_close(end, ends)
    expected = (gradients[0][0] + gradients[1][0], *gradients[0][1:-1], *gradients[1][1:-1])
    assert_close(found[:-1], expected)
    assert_close(found[-1], (gradients[0][-1], gradients[1][-1]))


@pytest.mark.parametrize("window", [None, 7])
def test_where_states_are_kept_changes_no_bit(window):
    problem = Problem(soft=True, augmented=True)
    runs = {k: problem.run(engine(problem, Adam(), k), 11, window) for k in ("device", "host", "thin", "auto")}
    for keep in ("host", "thin", "auto"):
        for a, b in zip(runs[keep][2], runs["device"][2], strict=True):
            assert torch.equal(a, b), keep


def test_thinned_states_are_computed_again_once_each():
    problem = Problem()
    for keep, extra in (("device", 0), ("thin", 6)):
        step = CountingStep(problem.network, SGD())
        problem.run(Unroll(step, keep), 9)
        assert step.calls == 9 + extra


class CountingStep(InnerStep):
    calls = 0

    def forward(self, *args):
        self.calls += 1
        return super().forward(*args)


@pytest.mark.parametrize("free, chosen", [(1e12, 9), (0, 15)])
def test_auto_thins_when_memory_is_short(monkeypatch, free, chosen):
    monkeypatch.setattr(unroll, "free_host_bytes", lambda: free)
    problem = Problem()
    step = CountingStep(problem.network, SGD())
    problem.run(Unroll(step, "auto"), 9)
    assert step.calls == chosen


@pytest.mark.parametrize("window", [None, 7])
def test_batches_that_fit_into_the_memory_are_made_once_to_the_same_bits(window):
    made, results = [], []
    for memory in (0, 50_000, 10**9):
        problem = CountingProblem(soft=True, augmented=True, decoded=True)
        results.append(problem.run(Unroll(InnerStep(problem.network, SGD()), memory=memory), 9, window))
        made.append(problem.made)
    assert made[0] == 9 + (window or 9) and made[2] == 9 and made[2] < made[1] < made[0]
    for other in results[1:]:
        for a, b in zip(other[2], results[0][2], strict=True):
            assert torch.equal(a, b)


class CountingProblem(Problem):
    made = 0

    def batch(self, i):
        self.made += 1
        return super().batch(i)


def test_kept_batches_take_no_more_than_the_memory():
    peaks = {}
    for memory in (0, 100_000, 300_000):
        problem = Problem(soft=True, augmented=True, decoded=True)
        with PeakMemory() as counted:
            problem.run(Unroll(InnerStep(problem.network, SGD()), "device", memory), 40)
        peaks[memory] = counted.peak
    assert peaks[0] < peaks[100_000] <= peaks[0] + 110_000
    assert peaks[100_000] < peaks[300_000] <= peaks[0] + 330_000


def test_two_runs_give_the_same_bytes():
    runs = [p.run(engine(p, Adam())) for p in (Problem(augmented=True), Problem(augmented=True))]
    assert torch.equal(runs[0][0], runs[1][0])
    for a, b in zip(runs[0][2], runs[1][2], strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_compiled_equals_eager():
    """One compilation of both step functions, with everything on: about half a minute."""
    problem = Problem("instance", soft=True, augmented=True, width=4, depth=1)
    rule = SGD(0.9, 5e-4)
    end, loss, compiled = problem.run(engine(problem, rule, compiled=True))
    eager_end, eager_loss, eager = problem.run(engine(problem, rule))
    assert_close((end, loss), (eager_end, eager_loss))
    assert_close(compiled, eager)


# ---------------------------------------------------------------- edges


def test_adam_at_zero_second_moment_gives_no_nan():
    """Black images give the convolution's weights a gradient of exactly zero at every step."""
    problem = Problem("none")
    with torch.no_grad():
        problem.source.zero_()
    g = torch.func.grad(lambda t: problem.network(t, problem.batch(0)[0]).square().sum())(problem.theta.detach())
    assert (g == 0).sum() > 100
    end, _, gradients = problem.run(engine(problem, Adam()))
    assert torch.isfinite(end).all()
    assert all(torch.isfinite(t).all() for t in gradients)


def test_leaves_and_images_without_use_get_zeros():
    problem, unused = Problem(), torch.ones(3, requires_grad=True)
    end = engine(problem, Adam())(problem.theta, problem.lr, lambda i: problem.batch(0), 2, [problem.source, unused])
    used, none = torch.autograd.grad(end.square().sum(), [problem.source, unused])
    assert used[::2].abs().sum() > 0 and used[1::2].eq(0).all() and none.eq(0).all()


def test_batches_without_gradient_still_give_the_learning_rate_its_own():
    problem = Problem()
    fixed = [[t.detach() for t in problem.batch(i)] for i in range(STEPS)]
    end = engine(problem, SGD())(problem.theta.detach(), problem.lr, fixed.__getitem__, STEPS)
    (ours,) = torch.autograd.grad((end - problem.target).square().sum(), problem.lr)
    assert_close([ours], problem.run(PlainUnroll(problem.network, SGD()))[2][:1])


def test_with_a_window_the_start_gets_no_gradient():
    problem = Problem()
    end = engine(problem, SGD())(problem.theta, problem.lr, problem.batch, STEPS, problem.learned, WINDOW)
    assert torch.autograd.grad(end.sum(), problem.theta, allow_unused=True) == (None,)


def test_a_window_longer_than_training_is_all_of_it():
    problem = Problem()
    assert_close(problem.run(engine(problem, SGD()), window=99)[2], problem.run(engine(problem, SGD()))[2][:-1])


# ---------------------------------------------------------------- memory


def test_memory_is_that_of_one_step_and_the_kept_states():
    """Peak bytes of live tensors; what N adds is the N states, and thinning leaves about 2 sqrt(N) of them."""
    problem = Problem(augmented=True, depth=1)
    state = 3 * problem.theta.numel() * problem.theta.element_size()  # Adam: theta and two moments

    def peak(train, steps):
        with PeakMemory() as memory:
            problem.run(train, steps)
        return memory.peak

    few, many = (peak(engine(problem, Adam()), n) - n * state for n in (5, 40))
    assert abs(many - few) < 0.1 * few
    thin = peak(engine(problem, Adam(), "thin"), 36)
    assert thin < few + 13 * state
    plain = PlainUnroll(problem.network, Adam())
    assert peak(plain, 20) > 3 * (few + 20 * state)
