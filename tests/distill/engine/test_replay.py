"""When kernels are launched together and when not; that they give the same bits is for a GPU (tests/test_cuda.py)."""

import pytest
import torch

from distill.engine import replay
from distill.engine.replay import Replayed


class OnCuda:
    """Stands in for a tensor on a GPU."""

    def __init__(self, *shape: int):
        self.shape, self.dtype, self.device = shape, torch.float32, torch.device("cuda")

    def stride(self) -> tuple[int, ...]:
        return (1,) * len(self.shape)


@pytest.fixture
def captures(monkeypatch):
    """The shapes of what was captured; a captured function says so."""
    made = []

    class Captured:
        def __init__(self, function, leaves, structure):
            made.append([leaf.shape for leaf in leaves])

        def __call__(self, leaves):
            return "replayed"

    monkeypatch.setattr(replay, "_Captured", Captured)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return made


def test_on_the_cpu_a_function_is_called_as_it_is(captures):
    x = torch.randn(3)
    assert torch.equal(Replayed(lambda a, b: (a + b[0],))(x, (x,))[0], 2 * x) and not captures


def test_each_combination_of_shapes_is_captured_once(captures):
    run = Replayed(lambda a, b: "called")
    for shapes in ((2, 3), (2, 3), (4, 3), (2, 3)):
        assert run(*(OnCuda(n) for n in shapes)) == "replayed"
    assert captures == [[(2,), (3,)], [(4,), (3,)]]


def test_after_so_many_shapes_others_are_called(captures, monkeypatch):
    monkeypatch.setattr(replay, "MOST_KINDS", 2)
    run = Replayed(lambda a: "called")
    assert [run(OnCuda(n)) for n in (1, 2, 3, 1)] == ["replayed", "replayed", "called", "replayed"]


def test_what_cannot_be_captured_is_called_and_said_once(captures, monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(replay, "_Captured", refuse)
    run = Replayed(lambda a: "called")
    assert [run(OnCuda(n)) for n in (1, 2, 1)] == ["called"] * 3
    assert len(caplog.records) == 1 and "not permitted when stream is capturing" in caplog.text
