"""The application around distill/: store, Ray jobs, tracking, registry, command line.

Ray reads how it authenticates when it is imported, so that is settled here, before any module of this package can
import it. In a process that joins a cluster (RAY_ADDRESS is set) or already runs inside Ray nothing is changed.
Elsewhere a command starts a cluster of its own: a token of its own keeps others on this machine out of it and leaves
no file in the home folder.
"""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from distill import remote

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Threads of a step that wait for each other sleep after a moment instead of spinning: on cores that other work uses
# too, steps of two threads are twice as fast, and workers, which inherit this, no longer crawl. 5,000 looks are enough
# for steps of small kernels on cores of their own (tests/benchmarks/waiting.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
if "ray" not in sys.modules and not os.environ.get("RAY_ADDRESS") and "RAY_AUTH_MODE" not in os.environ:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _fetch(url: str, notice: Callable[[str, int, int], None]) -> Path:
    from cluster.datasets import fetch  # boto3 takes half a second to import: only those who use it pay

    return fetch(url, notice)


remote.fetchers["s3"] = _fetch
