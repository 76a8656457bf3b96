"""Sweeps: one recipe tried with many settings under Ray Tune, and what was learned as one page.

stillhouse sweep digits-rates

Ray Tune reads what it writes and prints when it is imported, so that is settled here: MLflow and the journal have all
of it. Ctrl-C ends a sweep at once, to go on later. Importing cluster first settles how Ray authenticates.
"""

import os

import cluster  # noqa: F401

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
