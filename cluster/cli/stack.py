"""`stillhouse up` and `stillhouse down`: a Ray head, an MLflow server and an S3 server on this machine."""

import shlex
from typing import Annotated

import typer
from rich.console import Console

from cluster.cli.options import app
from cluster.home import home

notes = Console(stderr=True, highlight=False)
"""Only what a shell can read goes to stdout: eval "$(stillhouse up)"."""


@app.command()
def up(
    s3: Annotated[
        bool | None,
        typer.Option("--s3/--folder", help="Store in a Ceph S3 server or a folder [default: S3 if it is installed]"),
    ] = None,
):
    """Start Ray, MLflow and S3 servers on this machine; prints what to export. In bash: eval "$(stillhouse up)"."""
    from cluster.stack import stack

    environment = stack.up(home(), s3, _say)
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")
    _say(
        f"runs and models  {environment['MLFLOW_TRACKING_URI']}\n"
        f"ray job submit   goes to {environment['RAY_API_SERVER_ADDRESS']}\n"
        'the lines above are for your shell (eval "$(stillhouse up)" takes them); `stillhouse down` ends it all'
    )


@app.command()
def down():
    """Stop what `stillhouse up` started, also while it is starting; results stay."""
    from cluster.stack import stack

    if not stack.down(home(), _say):
        _say(f"no stack is up in {home()}")


def _say(text: str) -> None:
    notes.print(text, soft_wrap=True)
