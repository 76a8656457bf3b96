"""The page of a result as an artifact of its MLflow run: one file, with every picture inside it."""

import tempfile
from pathlib import Path

from cluster.gallery.result import Result
from cluster.gallery.site import Options, alone
from cluster.tracking.run import Tracker

FOLDER = "gallery"


def track_pages(results: list[Result], tracking_uri: str, options: Options) -> None:
    """Put the page of every result that MLflow has a run of into the run's artifacts, as gallery/index.html."""
    for result in results:
        if tracker := Tracker.find(tracking_uri, "distill", result.name):
            with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder:
                (Path(folder) / "index.html").write_text(alone(result, options), encoding="utf8")
                tracker.artifacts(Path(folder), FOLDER)
