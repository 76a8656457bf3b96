"""The files in a folder and below it: links are followed, never in a circle, and what is passed over is listed."""

import os
from dataclasses import dataclass, field
from pathlib import Path

IMAGES = {
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".gif", ".heic", ".heif", ".hif", ".avif",
}  # fmt: skip
"""Suffixes of the image files that distill/data/decode.py reads."""
SYSTEM = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}
"""Folders that operating systems and archives add."""


@dataclass(frozen=True)
class Found:
    """What is in a folder and below it."""

    images: list[Path] = field(default_factory=list)
    """Image files by their names, sorted."""
    others: list[Path] = field(default_factory=list)
    """All other files, sorted; hidden ones are among them."""
    links: list[tuple[Path, str]] = field(default_factory=list)
    """Links that are not followed, with the reason."""


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, links to folders included, sorted; not hidden ones and those of operating systems."""
    return sorted(entry for entry in folder.iterdir() if _is_visible(entry.name) and entry.is_dir())


def below(folder: Path) -> Found:
    """Every file in a folder and below it; a folder that several links lead to is read once."""
    found, seen = Found(), {_identity(folder)}
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir():
                    _enter(entry, path, found, seen, pending)
                elif entry.is_symlink() and not path.exists():
                    found.links.append((path, "leads nowhere"))
                elif entry.is_file():
                    image = path.suffix.lower() in IMAGES and not entry.name.startswith(".")
                    (found.images if image else found.others).append(path)
    for part in (found.images, found.others, found.links):
        part.sort()
    return found


def _enter(entry: os.DirEntry, path: Path, found: Found, seen: set, pending: list[Path]) -> None:
    """Read this folder later, unless it is hidden or was met before."""
    if not _is_visible(entry.name):
        found.others.append(path)
    elif entry.is_symlink() and _leads_up(path):
        found.links.append((path, "leads to a folder that holds it"))
    elif (own := _identity(path)) in seen:
        found.links.append((path, "leads to a folder that is read already"))
    else:
        seen.add(own)
        pending.append(path)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name not in SYSTEM


def _leads_up(link: Path) -> bool:
    """Whether a link leads to a folder that it is in, itself or further down."""
    target, parent = Path(os.path.realpath(link)), Path(os.path.realpath(link.parent))
    return target == parent or target in parent.parents


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
