"""How a study is split into jobs, and the marks of those that are done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssa.errors import UserError
from ssa.files import digest
from ssa.store.store import Store
from ssa.study.blocks import Child
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
    return Job(parent_id, start, stop, digest(child.spec.id for child in children[start:stop]))


def children_of(study: Study, parent_id: str, name: str | None) -> list[Child]:
    """The children of the job called ``name``, or all; ``UserError`` if the study has changed since it was named."""
    study.parent(parent_id)  # refuses one that the study has not
    children = study.children_of(parent_id)
    if name is None:
        return list(children)
    job = _find_job(study, parent_id, name)
    return list(children[job.start : job.stop])


def find_child(children: Sequence[Child], child_id: str) -> Child:
    """The one of ``children`` with this id; ``UserError`` if there is none."""
    for child in children:
        if child.spec.id == child_id:
            return child
    raise UserError(f"no child {child_id!r} there; the column child_id of a children.csv names children")


def _find_job(study: Study, parent_id: str, name: str) -> Job:
    try:
        start, stop = (int(part) for part in name.split("-")[:2])
    except ValueError as error:
        raise UserError(f"{name!r} names no job; a job is START-STOP-DIGEST, as in ssa plan --jobs") from error
    job = _job(parent_id, study.children_of(parent_id), start, stop)
    if job.name != name:
        raise UserError(f"job {name} of {parent_id} is of another version of {study.path}; run the study again")
    return job


def mark(study: Study, store: Store, job: Job) -> Path:
    """The file that says that all children of ``job`` are recorded."""
    return _job_mark(study, store, job, not store.recorded_children(job.parent_id).issuperset(_ids(study, job)))


def _job_mark(study: Study, store: Store, job: Job, lost: bool) -> Path:
    return _valid(store.study_folder(study.name) / "marks" / "jobs" / job.parent_id / f"{job.name}.done", lost)


def stage_mark(study: Study, store: Store, stage: str, run_id: str) -> Path:
    """The file that says that ``stage`` is done: ``parents`` or ``masks`` of a parent, ``ensembles`` of an ensemble."""
    if stage == "parents":
        made = store.has_parent(run_id, study.start_epochs_of(run_id))
    elif stage == "masks":
        made = store.masks(run_id, study.masks_of(run_id)).exists()
    else:
        made = store.ensemble_record(run_id).exists()
    return _valid(store.study_folder(study.name) / "marks" / stage / f"{run_id}.done", not made)


def _valid(first: Path, lost: bool) -> Path:
    """The mark that was made last of ``first``, ``.2.done``, ``.3.done`` and so on; the next if its work is ``lost``.

    A mark that no longer holds is thus passed by, not deleted: who only looks changes nothing.
    """
    last, following = first, _numbered(first, 2)
    number = 2
    while following.exists():
        last, number = following, number + 1
        following = _numbered(first, number)
    return following if lost and last.exists() else last


def _numbered(first: Path, number: int) -> Path:
    return first.with_name(f"{first.stem}.{number}.done")


def wanted_marks(study: Study, store: Store, workers: int) -> list[Path]:
    """The marks of the jobs that were done, however they were split, and of those that have anything to train.

    Of parents, those of lost or missing records, which the study's tables need.

    A job whose children were all recorded by others (another study, another split into jobs) is not wanted: it
    would ask for a parent that nothing needs.
    """
    marked = _marked(study, store)  # before the records: what ends in between has its record, and keeps its mark
    done = {parent_id: store.recorded_children(parent_id) for parent_id in study.all_parents()}
    planned = plan(study, workers)
    whole = {job for job in marked.union(planned) if done[job.parent_id].issuperset(_ids(study, job))}
    marks = {_job_mark(study, store, job, lost=False) for job in marked & whole}
    marks |= {_job_mark(study, store, job, lost=True) for job in planned if job not in whole}
    lost = [one for one in done if not store.parent_record(one).exists()]
    marks |= {stage_mark(study, store, "parents", one) for one in lost}
    for ensemble in study.ensembles:
        path = stage_mark(study, store, "ensembles", ensemble.spec.id)
        if path.exists() or not store.ensemble_record(ensemble.spec.id).exists():
            marks.add(path)
    return sorted(marks)


def newer_records(study: Study, store: Store) -> list[Path]:
    """The records that are newer than children.csv, as after ``ssa run``: it and its companions are to be made anew."""
    table = store.study_folder(study.name) / "children.csv"
    if not table.exists():
        return []
    made = table.stat().st_mtime
    files = [path for parent_id in study.all_parents() for path in store.record_files(parent_id)]
    files += [store.ensemble_record(ensemble.spec.id) for ensemble in study.ensembles]
    return [path for path in files if path.exists() and path.stat().st_mtime > made]


def _ids(study: Study, job: Job) -> list[str]:
    return [child.spec.id for child in study.children_of(job.parent_id)[job.start : job.stop]]


def _marked(study: Study, store: Store) -> set[Job]:
    """The jobs of this version of the study that have marks."""
    found = set()
    for parent_id in study.all_parents():
        folder = store.study_folder(study.name) / "marks" / "jobs" / parent_id
        for path in folder.glob("*.done"):
            try:
                found.add(_find_job(study, parent_id, path.name.partition(".")[0]))
            except UserError:  # a mark of another version of the study
                continue
    return found
