"""`stillhouse ui`: MLflow's page with the right flags."""

import os
from typing import Annotated

import typer

from cluster.cli import common
from cluster.cli.options import app
from cluster.home import sqlite_file, tracking_uri, ui_command, ui_environment
from cluster.tracking.moved import adopt
from distill.errors import StoreError


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the page on 127.0.0.1.")] = 5000):
    """Serve MLflow's page over the runs, pictures and models on this machine."""
    uri = tracking_uri()
    command = ui_command(uri, port)
    if not sqlite_file(uri).is_file():
        raise StoreError(f"no tracking database at {sqlite_file(uri)}: run `stillhouse demo` first")
    adopt(sqlite_file(uri))
    common.console.print(f"serving {uri} on http://127.0.0.1:{port} (Ctrl-C stops it)", soft_wrap=True)
    os.execve(command[0], command, ui_environment())  # noqa: S606 - our own interpreter, without a shell
