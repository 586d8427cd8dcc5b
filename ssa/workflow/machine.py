"""How many jobs run side by side: on the cores or GPUs of one machine, or on a cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssa.process import gpus


@dataclass(frozen=True)
class Machine:
    """A machine of ``cores`` and ``gpus`` that a study can use, or a cluster that takes ``nodes`` jobs at a time.

    ``limit``: how many jobs may use GPUs at a time, if ``--resources gpu=N`` says so.
    """

    cores: int | None
    nodes: int | None = None
    gpus: int = 0
    limit: int | None = None

    @property
    def gpu_jobs(self) -> int:
        """How many jobs use GPUs at a time; 0 if that is not known, or none does."""
        return self.limit or self.gpus

    @property
    def shares(self) -> int:
        """How many jobs share one GPU of this machine."""
        return max(1, math.ceil(self.gpu_jobs / max(self.gpus, 1)))

    @property
    def workers(self) -> int:
        """How many jobs that train run side by side."""
        return self.gpu_jobs or self.nodes or self.cores or 1


def of(device: str, cores: int | None, nodes: int | None, limit: int | None) -> Machine:
    """The machine for a study on ``device``; GPUs are looked for unless that is ``cpu`` or a cluster assigns them."""
    if device == "cpu":
        return Machine(cores, nodes)
    return Machine(cores, nodes, len(gpus.usable()) if nodes is None else 0, limit)
