"""Sweeps: one recipe tried with many settings under Ray Tune, and a report of the results on one page.

stillhouse sweep digits-rates

Ray Tune reads these variables when it is imported. Its own logs and output are off, since MLflow and the journal hold
everything; Ctrl-C ends a sweep at once, to be resumed later. Importing cluster first sets how Ray authenticates.
"""

import os

import cluster  # noqa: F401

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a trial that fails before it is judged has no metric
