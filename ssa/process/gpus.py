"""GPUs among the jobs of one machine: each process leases one, or a share of one, by a file lock.

The kernel drops the locks of a process that ends, however it ends: the lease of a killed job is free at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ssa.errors import UserError
from ssa.process.locks import POLL_SECONDS, locked

SHARES = "SSA_JOBS_PER_GPU"  # how many jobs may share a GPU; the workflow sets it from --resources gpu=N


def usable() -> list[str]:
    """The GPUs that a process may use, as ``CUDA_VISIBLE_DEVICES`` names them; found without importing PyTorch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    return listed()


def listed() -> list[str]:
    """The GPUs that the driver lists, by UUID; one that is divided (MIG) as its instances."""
    try:
        query = ("nvidia-smi", "-L")
        said = subprocess.run(query, check=True, capture_output=True, text=True, timeout=60, encoding="utf-8").stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: list[str] = []
    for name in re.findall(r"\(UUID: ([^)]+)\)", said):
        if name.startswith("MIG-") and found and not found[-1].startswith("MIG-"):
            found.pop()  # its instances come after a GPU, and stand for it
        found.append(name)
    return found


def shares() -> int:
    """How many jobs may share a GPU: ``SSA_JOBS_PER_GPU``, or 1."""
    text = os.environ.get(SHARES, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{SHARES} is {text!r}; allowed: a whole number from 1")
    return int(text)


def folder() -> Path:
    """Where the locks lie: on this machine, of this user, and of this allocation where a scheduler made one."""
    path = Path(tempfile.gettempdir()) / f"ssa-gpus-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'all')}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise UserError(f"{path} belongs to someone else; set TMPDIR to a folder of your own")
    return path


@dataclass
class Lease:
    """A share of ``device``; it ends with :meth:`release` or with the process."""

    device: str
    where: Path
    held: list[IO[str]]

    def alone(self) -> None:
        """Wait until no other job has a share of the GPU, and keep all of it."""
        self.release()  # two jobs that both waited with a share in hand would wait for ever
        for path in sorted(self.where.glob(f"{_safe(self.device)}.*")):
            self.held.append(locked(path, wait=True))

    def release(self) -> None:
        """Give the share back."""
        while self.held:
            self.held.pop().close()


def take(names: Sequence[str], count: int, where: Path) -> Lease:
    """Lease a share of the GPU of ``names`` that has most of its ``count`` left; waits while all are taken.

    ``where``: the folder of the locks.
    """
    waiting = False
    while True:
        with locked(where / "choosing", wait=True):
            taken = {name: _try(name, count, where) for name in names}
            free = [name for name in names if taken[name]]
            best = max(free, key=lambda name: len(taken[name]), default=None)
            for name, locks in taken.items():
                for lock in locks[1:] if name == best else locks:
                    lock.close()
        if best is not None:
            return Lease(best, where, taken[best][:1])
        if not waiting:
            print(f"all shares of {len(names)} GPUs are leased; waiting for one", file=sys.stderr)
        waiting = True
        time.sleep(POLL_SECONDS)


def _try(name: str, count: int, where: Path) -> list[IO[str]]:
    """The locks of the shares of one GPU that are free now."""
    found = (locked(where / f"{_safe(name)}.{share}", wait=False) for share in range(count))
    return [lock for lock in found if not lock.closed]


def _safe(device: str) -> str:
    return device.replace("/", "_")


_mine: Lease | None = None  # as CUDA_VISIBLE_DEVICES is, the lease is the process's


def lease() -> None:
    """Lease a share of a GPU for this process, before it uses CUDA; nothing to do where there is none."""
    global _mine
    names = usable()
    if names and _mine is None:
        _mine = take(names, shares(), folder())
        os.environ["CUDA_VISIBLE_DEVICES"] = _mine.device


def have_alone() -> None:
    """Wait until this process has its GPU to itself."""
    if _mine is not None:
        _mine.alone()
