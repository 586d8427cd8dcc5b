"""Time the logging of a job to W&B: the processor time of the process that follows it, beside the job's own."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import job

LOOKS = 20


@dataclass(frozen=True)
class Cost:
    """Processor seconds: of a child's training and scoring, of writing its run, and of a look that finds nothing new.

    Training uses one thread. W&B's service counts with the writer, its start included; the imports of both do not.
    """

    child: float
    run: float
    look: float

    @property
    def share(self) -> float:
        """The share that logging adds to a job on a machine that has no core to spare for it."""
        from ssa.tracking.follow import POLL_SECONDS

        return self.run / self.child + self.look / POLL_SECONDS


def measure(network: str, epochs: int, children: int, images: int) -> Cost:
    """The costs in a job of so many children, trained as :func:`benchmarks.job.shares` does."""
    with tempfile.TemporaryDirectory() as folder:
        spent = []
        for count in (0, children):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                spent.append(pool.apply(job.run, (folder, network, epochs, count, images))["processor"])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            run, look = pool.apply(_log, (folder, network, epochs, children))
        return Cost((spent[1] - spent[0]) / children, run, look)


def _log(folder: str, network: str, epochs: int, children: int) -> tuple[float, float]:
    import wandb

    from ssa.store.store import Store
    from ssa.study.study import expand
    from ssa.tracking.study_run import StudyFiles
    from ssa.tracking.tracker import Tracker

    root = Path(folder)
    plan = expand({**job.study(network, epochs, children), "wandb": {"mode": "offline"}}, Path("job.yaml"))
    tracker = Tracker(plan, Store(root), StudyFiles(root, root / "tables", root / "figures"))
    before = _processor()
    count = tracker.write()
    wandb.teardown()  # only a process that has ended shows its processor time
    written = _processor()
    assert count == children + 1, "the parent's run, and one for each child"
    for _ in range(LOOKS):
        assert tracker.write() == 0
    return (written - before) / count, (_processor() - written) / LOOKS


def _processor() -> float:
    """Processor seconds of this process and of those that it has started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
