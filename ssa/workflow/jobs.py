"""How a study is split into jobs, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssa.errors import UserError
from ssa.files import short_digest
from ssa.study.blocks import Child
from ssa.study.ensembles import Ensemble
from ssa.study.study import Study

IMBALANCE = 1.1  # how much longer than a perfect split a plan may take


@dataclass(frozen=True)
class Job:
    """Children ``start`` to ``stop`` of one parent. Its name tells all, so that any process can run it."""

    parent_id: str
    start: int
    stop: int
    digest: str

    @property
    def name(self) -> str:
        """For example ``0-24-1f2e3d4c5b``."""
        return f"{self.start}-{self.stop}-{self.digest}"


def plan(study: Study, workers: int) -> list[Job]:
    """The jobs that train all children of ``study`` on ``workers`` cores or GPUs, balanced over them."""
    parents = study.all_parents()
    jobs = []
    parts = _parts(len(parents), workers)
    for parent_id in parents:
        children = study.children_of(parent_id)
        size = study.raw.get("children_per_job") or max(math.ceil(len(children) / parts), 1)
        for start in range(0, len(children), size):
            jobs.append(_job(parent_id, children, start, min(start + size, len(children))))
    return jobs


def _parts(parents: int, workers: int) -> int:
    """Into how many jobs each parent's children go, so that no worker idles for long at the end."""
    for parts in range(1, workers + 1):
        if math.ceil(parents * parts / workers) <= IMBALANCE * parents * parts / workers:
            return parts
    return workers


def _job(parent_id: str, children: Sequence[Child], start: int, stop: int) -> Job:
    return Job(parent_id, start, stop, short_digest(child.spec.id for child in children[start:stop]))


def children_of(study: Study, parent_id: str, name: str | None) -> list[Child]:
    """The children of the job called ``name``, or all; ``UserError`` if the study has changed since it was named."""
    study.parent(parent_id)  # refuses one that the study has not
    children = study.children_of(parent_id)
    if name is None:
        return list(children)
    job = find_job(study, parent_id, name)
    return list(children[job.start : job.stop])


def find_child(children: Sequence[Child], child_id: str) -> Child:
    """The one of ``children`` with this id; ``UserError`` if there is none."""
    for child in children:
        if child.spec.id == child_id:
            return child
    raise UserError(f"no child {child_id!r} there; the column child_id of a children.csv names children")


def ensembles_of(study: Study, parent_id: str) -> list[Ensemble]:
    """The ensembles that are made from one parent and no other."""
    return [one for one in study.ensembles if {parent.id for parent in one.spec.parents} == {parent_id}]


def span(name: str) -> tuple[int, int]:
    """Start and stop of the job called ``name``; ``ValueError`` if it is no name of a job."""
    start, stop = map(int, name.split("-")[:2])
    return start, stop


def find_job(study: Study, parent_id: str, name: str) -> Job:
    """The job of one parent called ``name``; ``UserError`` if it is none, or is of another version of the study."""
    try:
        start, stop = span(name)
    except ValueError as error:
        raise UserError(f"{name!r} names no job; a job is START-STOP-DIGEST, as in ssa plan --jobs") from error
    job = _job(parent_id, study.children_of(parent_id), start, stop)
    if job.name != name:
        raise UserError(f"job {name} of {parent_id} is of another version of {study.path}; run the study again")
    return job
