"""The machine on which the numbers were measured: its name, its matrix rate, its memory."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ssa.process import devices, provenance
from ssa.training import bf16

SIDE = 2048


def device() -> torch.device:
    """The GPU where there is one, with what a study promises of it: neither side of a comparison has it otherwise."""
    return devices.choose("auto", "make bench")


def has_bf16() -> bool:
    """Whether the device multiplies bf16 in hardware."""
    return bf16.has_units(device())


def precision() -> str:
    """bf16 where the device has units for it, else fp32: what ours is measured in."""
    return "bf16" if has_bf16() else "fp32"


def matrix_rate(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """FLOP/s of a square matrix product of side 2048 in ``dtype``: the best of as many as fit into ``seconds``."""
    a, b = (torch.randn(SIDE, SIDE, device=device(), dtype=dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        best = min(best, undisturbed(lambda: a @ b))
    return 2 * SIDE**3 / best


def clock(action: Callable[[], object]) -> float:
    """Seconds of wall time that ``action`` takes, the device's work included."""
    synchronise()
    start = time.perf_counter()
    action()
    synchronise()
    return time.perf_counter() - start


def undisturbed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes: as :func:`clock` on a GPU, CPU time on a CPU, which neighbours spare."""
    if torch.cuda.is_available():
        return clock(action)
    start = time.process_time()
    action()
    return time.process_time() - start


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> float:
    """GB: of the GPU since the start, or of this process, by Linux's own account.

    ``getrusage`` would count what the process that started this one had.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    kilobytes = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert kilobytes is not None
    return int(kilobytes[1]) * 1024 / 1e9


def description() -> dict[str, Any]:
    """The facts that the numbers of any run on this device share."""
    return {"device": provenance.device_name(device()), "cores": len(os.sched_getaffinity(0)), "bf16": has_bf16()}


def circumstances() -> dict[str, Any]:
    """Versions, commit, time, and the load by which other processes disturb what is measured."""
    return {
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "date": provenance.now(),
        "load": round(os.getloadavg()[0], 1),
    }
