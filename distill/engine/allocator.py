"""CPU memory for tensors: allocated in large pages, and returned to the system when freed.

By default Linux allocates pages of 4 kB, with a page fault for each, and an outer step that creates and frees gigabytes
of tensors spends a quarter of its time on these faults; and the C library keeps freed blocks of up to 32 MB, which
makes a process a third larger than its tensors. tests/benchmarks/allocator.py measures both, with and without
`settle`.
"""

import ctypes
import os

KEPT_BYTES = 4 << 20
"""Freed blocks smaller than this are kept for reuse; larger ones return to the system at once."""
_M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def settle() -> None:
    """Set both for this process, before its first tensor of 2 MB or more. Environment variables take precedence.

    Large pages use PyTorch's own switch and need a kernel that gives them on request; returning memory needs glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
