"""Memory that a computation adds to its process, measured by the operating system. Linux with glibc only.

with Growth() as growth:
    ...
growth.bytes
"""

import ctypes
import gc
from pathlib import Path


class Growth:
    """Highest resident memory inside the block, above what was resident when it began."""

    def __enter__(self) -> "Growth":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before is given back, or it would hide growth
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        self.before = _status("VmRSS")
        return self

    def __exit__(self, *error) -> None:
        self.bytes = _status("VmHWM") - self.before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)
