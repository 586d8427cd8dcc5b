"""The resources that a job asks of a cluster, more at each attempt. Snakemake calls these with a job's wildcards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ssa.workflow import jobs
from ssa.workflow.options import Options

MEGABYTES = 8000
START_MINUTES = 15  # until a job of children trains the first


class OfJob(Protocol):
    """The wildcards of a job of children; ``job``: its name."""

    job: str


@dataclass(frozen=True)
class Attempts:
    """The resources that ``options`` give to each attempt, counted from 1."""

    options: Options

    def memory(self, wildcards: object, attempt: int) -> int:
        """MB for a job that trains."""
        return attempt * MEGABYTES

    def parent_minutes(self, wildcards: object, attempt: int) -> int:
        """A parent is saved as it goes: what one attempt does not finish, the next does."""
        return attempt * self.options.minutes_per_parent

    def children_minutes(self, wildcards: OfJob, attempt: int) -> int:
        """Minutes for all children of a job, which its name counts, and a quarter of an hour to begin with."""
        start, stop = jobs.span(wildcards.job)
        return attempt * (START_MINUTES + (stop - start) * self.options.minutes_per_child)

    def ensemble_minutes(self, wildcards: object, attempt: int) -> int:
        """A member that was trained is kept: what one attempt does not finish, the next does."""
        return attempt * self.options.minutes_per_ensemble
