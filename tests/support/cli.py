"""Running the command line inside the test process, as a user would type it."""

import sys

import pytest

from cluster import cli


def stillhouse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `stillhouse ARGUMENTS`; the exit code."""
    monkeypatch.setattr(sys, "argv", ["stillhouse", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0


TINY = (
    "dataset.limit=300",
    "network.depth=1",
    "network.width=4",
    "experts.count=2",
    "experts.epochs=4",
    "experts.workers=1",
    "objective.syn_steps=3",
    "objective.max_start_epoch=2",
    "outer.steps=12",
    "outer.lr_img=1",
    "outer.evaluate_every=6",
    "outer.checkpoint_every=2",
    "outer.picture_every=6",
    "evaluation.epochs=4",
    "evaluation.networks=2",
    "evaluation.selection_networks=2",
    "threads=1",
)
"""The digits recipe cut down to seconds."""
