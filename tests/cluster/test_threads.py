"""How threads of a step wait for each other is settled before torch is imported, unless the user has settled it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOWN = "import cluster, os, sys; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_that_wait_sleep_soon(own, expected):
    clean = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN], env=clean | own, cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert shown.stdout.split() == ["False", expected], shown.stderr
