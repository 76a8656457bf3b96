"""`stillhouse doctor`: whether this machine has what runs need; each line is OK or says the fix.

STILLHOUSE_STORE=s3://bucket/stillhouse MLFLOW_TRACKING_URI=http://server:5000 stillhouse doctor
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import typer
from rich.markup import escape

from cluster.cli import common
from cluster.cli.options import Json, Store, app
from distill.errors import StillhouseError

LEAST_MEMORY = 2 << 30
"""Free bytes below which even small runs end early."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is well, what it is, and the fix if it is not."""

    name: str
    ok: bool
    text: str
    fix: str = ""


@app.command()
def doctor(store: Store = None, json: Json = None):
    """Check versions, cores, GPU, compiler, store, tracking server and Ray; exit code 2 if something needs a fix."""
    url, tracking, _ = common.places(store)
    checks: tuple[Callable[[], Finding], ...] = (
        _versions, _machine, _gpu, _compiler, lambda: _store(url), lambda: _tracking(tracking), _ray, _images,
    )  # fmt: skip
    found = []
    for check in checks:
        found.append(one := check())
        mark = "[green]OK[/]  " if one.ok else "[red]fix[/] "
        fix = f": {one.fix}" if one.fix else ""
        common.console.print(f"{mark} {one.name:<9} {escape(one.text + fix)}", soft_wrap=True)
    common.write_json(json, [asdict(one) for one in found])
    if not all(one.ok for one in found):
        raise typer.Exit(2)


def _versions() -> Finding:
    known = {}
    for package in ("stillhouse", "torch", "ray", "mlflow", "pyarrow", "pillow"):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "missing"
    missing = [package for package, own in known.items() if own == "missing" and package != "stillhouse"]
    text = ", ".join(f"{package} {own}" for package, own in known.items())
    return Finding("versions", not missing, text, f"pip install {' '.join(missing)}" if missing else "")


def _machine() -> Finding:
    import psutil

    from distill.text import byte_size

    memory, cores = psutil.virtual_memory(), len(os.sched_getaffinity(0))
    text = f"{cores} cores, {byte_size(memory.available)} of {byte_size(memory.total)} memory free"
    fix = "" if memory.available >= LEAST_MEMORY else "end other programs, or use a machine with more memory"
    return Finding("machine", not fix, text, fix)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("gpu", True, ", ".join(names))
    hidden = os.path.exists("/proc/driver/nvidia/version")
    fix = "install a build of torch with CUDA (pytorch.org), or set CUDA_VISIBLE_DEVICES" if hidden else ""
    text = "an NVIDIA driver but no CUDA device" if hidden else "none: runs use the CPU"
    return Finding("gpu", not hidden, text, fix)


def _compiler() -> Finding:
    import torch

    from distill.engine.compiling import has_compiler

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if has_compiler(device):
        return Finding("compiler", True, "long runs compile their steps")
    return Finding("compiler", False, "no C++ compiler: long runs take up to twice as long", "install g++")


def _store(url: str) -> Finding:
    from cluster.store import open_store

    try:
        open_store(url).check_writable()
    except StillhouseError as error:
        return Finding("store", False, str(error))
    return Finding("store", True, url)


def _tracking(uri: str) -> Finding:
    from cluster.home import sqlite_file

    database = sqlite_file(uri)
    if database and not database.is_file():
        return Finding("tracking", True, f"{uri}, made by the first run")
    from cluster.tracking.run import connect

    try:
        connect(uri)
    except StillhouseError as error:
        return Finding("tracking", False, str(error))
    except Exception as error:  # MLflow and its servers fail in any way; the user needs the line, not the trace
        return Finding("tracking", False, f"{uri}: {error}", "start the server, or correct MLFLOW_TRACKING_URI")
    return Finding("tracking", True, uri)


def _ray() -> Finding:
    from cluster.jobs.session import check_address

    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        return Finding("ray", True, "each command starts a Ray of its own on this machine")
    try:
        check_address(address)
    except StillhouseError as error:
        return Finding("ray", False, str(error))
    return Finding("ray", True, f"something listens at {address}")


def _images() -> Finding:
    from importlib.util import find_spec

    from PIL import features

    kinds = ["PNG", "JPEG", "WebP", "BMP", "TIFF", "GIF"] + ["AVIF"] * features.check("avif")
    if find_spec("pillow_heif"):
        return Finding("images", True, ", ".join([*kinds, "HEIC"]))
    return Finding("images", True, f"{', '.join(kinds)}; HEIC with pip install 'stillhouse[heic]'")
