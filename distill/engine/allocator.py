"""How a process on the CPU gets memory for its tensors: in large pages, and given back to the system when it is freed.

By default Linux gives memory in pages of 4 kB, one fault each, and an outer step that makes and drops gigabytes of
tensors spends a quarter of its time there; and the C library keeps freed pieces of up to 32 MB, which makes a process a
third larger than its tensors. tests/benchmarks/allocator.py measures both, and what `settle` makes of them.
"""

import ctypes
import os

KEPT_BYTES = 4 << 20
"""Smaller pieces are kept for the next use; larger ones go back to the system at once."""
_M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def settle() -> None:
    """Set both for this process; before its first tensor of 2 MB or more. What the environment says has precedence.

    Large pages come from PyTorch's own switch, where the kernel gives them on request; giving back needs glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
