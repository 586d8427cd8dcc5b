"""The memory of a process that trains on a CPU."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed() -> None:
    """Keep memory that is freed for the next tensors, which are those of the next step.

    Else the C library gives large pieces back, and each step waits for the kernel to clear their pages: a tenth of the
    time of small networks. A process then stays as large as it ever was. Nothing changes without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, -1)  # never
        mallopt(M_MMAP_MAX, 0)  # no pieces of their own, which go back one by one
