"""Text that comes with a dataset: lists of files and names of classes."""

from pathlib import Path

from distill.errors import DataError


def utf8(data: bytes, where: str) -> str:
    """The text of bytes that must be UTF-8. DataError, naming `where`."""
    try:
        return data.decode("utf8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start}: fetch it again, or save it as UTF-8") from None


def lines(file: Path) -> list[str]:
    """The lines of a UTF-8 text file. DataError if it is not one."""
    return utf8(file.read_bytes(), str(file)).splitlines()


def shown(name: str) -> str:
    """A file's name for people and for stored files: bytes that are not UTF-8 as \\xe9, as no output takes them."""
    return name.encode("utf8", "surrogateescape").decode("utf8", "backslashreplace")
