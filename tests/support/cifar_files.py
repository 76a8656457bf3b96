"""CIFAR's own files, written byte by byte: as Python 2's cPickle wrote the published ones, and the binary version."""

import io
import struct
import tarfile

import numpy as np

MINUS_1 = b"J\xff\xff\xff\xff"


def python_file(**items) -> bytes:
    """A file of the python version: texts, lists of integers or of texts, and uint8 arrays (n, d), in this order.

    With CIFAR-10's batch_label, labels, data and filenames it has the MD5 of the published file.
    """
    return _Writer().file(items)


def binary_file(x: np.ndarray, *labels: list[int]) -> bytes:
    """A file of the binary version: for each image its label bytes, then its 3072 pixels."""
    return np.column_stack([*(np.array(y, np.uint8) for y in labels), x]).tobytes()


def archive(folder: str, files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """A tar archive of files in a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


class _Writer:
    """Protocol 2 with cPickle's memo: counted from 1, and only for what was referred to more than once."""

    def __init__(self):
        self.count = 0

    def file(self, items: dict) -> bytes:
        out = [b"\x80\x02}" + self.put() + b"("]
        for key, value in items.items():
            out += [self.text(key), self.value(value)]
        return b"".join(out) + b"u."

    def value(self, value: str | list | np.ndarray) -> bytes:
        if isinstance(value, str):
            return self.text(value)
        return self.array(value) if isinstance(value, np.ndarray) else self.sequence(value)

    def put(self) -> bytes:
        self.count += 1
        return b"q" + bytes([self.count]) if self.count < 256 else b"r" + struct.pack("<I", self.count)

    def text(self, text: str) -> bytes:
        return _short(text) + self.put()

    def sequence(self, values: list[int] | list[str]) -> bytes:
        """A list, appended to by the thousand."""
        out = [b"]" + self.put()]
        for start in range(0, len(values), 1000):
            some = values[start : start + 1000]
            out += [b"(", *(_integer(v) if isinstance(v, int) else self.text(v) for v in some), b"e"]
        return b"".join(out)

    def array(self, x: np.ndarray) -> bytes:
        begun = b"cnumpy.core.multiarray\n_reconstruct\n" + self.put() + b"cnumpy\nndarray\n" + self.put()
        begun += b"K\x00\x85" + _short("b") + b"\x87R" + self.put()
        state = b"(K\x01" + _integer(len(x)) + _integer(x.shape[1]) + b"\x86"
        state += b"cnumpy\ndtype\n" + self.put() + _short("u1") + b"K\x00K\x01\x87R" + self.put()
        state += b"(K\x03" + _short("|") + b"NNN" + MINUS_1 * 2 + b"K\x00tb"
        return begun + state + b"\x89T" + struct.pack("<i", x.nbytes) + x.tobytes() + b"tb"


def _short(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode("latin1")


def _integer(value: int) -> bytes:
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
