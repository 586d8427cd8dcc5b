"""How many jobs run side by side."""

from __future__ import annotations

import pytest

from ssa.workflow import machine
from ssa.workflow.machine import Machine


@pytest.mark.parametrize(
    ("on", "workers", "shares"),
    [
        (Machine(cores=8), 8, 1),
        (Machine(cores=8, gpus=2), 2, 1),
        (Machine(cores=8, gpus=2, limit=6), 6, 3),
        (Machine(cores=8, gpus=2, limit=5), 5, 3),  # one GPU has a share to spare
        (Machine(cores=8, gpus=2, limit=1), 1, 1),
        (Machine(cores=None, nodes=60), 60, 1),
        (Machine(cores=None, nodes=60, limit=4), 4, 4),  # of the cluster's, which it assigns itself
        (Machine(cores=None), 1, 1),
    ],
)
def test_workers_are_gpu_jobs_or_cluster_jobs_or_cores(on: Machine, workers: int, shares: int) -> None:
    assert (on.workers, on.shares) == (workers, shares)


def test_gpus_are_looked_for_on_one_machine_unless_the_study_is_held_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert machine.of("cpu", 8, None, 3) == Machine(8)
    assert machine.of("auto", 8, None, None) == Machine(8, gpus=2)
    assert machine.of("cuda", 8, None, 3) == Machine(8, gpus=2, limit=3)
    assert machine.of("cuda", None, 60, None) == Machine(None, nodes=60)
