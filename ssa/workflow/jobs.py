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
    """The children of the job called ``name``, or all; ``UserError`` where the study has changed since it was named."""
    study.parent(parent_id)  # refuses one that the study has not
    children = study.children_of(parent_id)
    if name is None:
        return list(children)
    job = _find_job(study, parent_id, name)
    return list(children[job.start : job.stop])


def find_child(children: Sequence[Child], child_id: str) -> Child:
    """The one of ``children`` with this id; ``UserError`` where there is none."""
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
    return store.study_folder(study.name) / "marks" / "jobs" / job.parent_id / f"{job.name}.done"


def _mark_of(study: Study, store: Store, stage: str, run_id: str) -> Path:
    """The file that says that ``stage`` is done: ``parents`` or ``masks`` of a parent, ``ensembles`` of an ensemble."""
    return store.study_folder(study.name) / "marks" / stage / f"{run_id}.done"


def wanted_marks(study: Study, store: Store, workers: int) -> list[Path]:
    """The marks of the jobs that were done, however they were split, and of those that have anything to train.

    Of parents, those of lost or missing records, which the study's tables need.

    A job whose children were all recorded by others (another study, another split into jobs) is not wanted: it
    would ask for a parent that nothing needs.
    """
    done = _recorded(study, store)
    marks = set(_marks(study, store))
    marks |= {_mark_of(study, store, "parents", one) for one in done if not store.parent_record(one).exists()}
    for job in plan(study, workers):
        ids = [child.spec.id for child in study.children_of(job.parent_id)[job.start : job.stop]]
        if not done[job.parent_id].issuperset(ids):
            marks.add(mark(study, store, job))
    for ensemble in study.ensembles:
        path = _mark_of(study, store, "ensembles", ensemble.spec.id)
        if path.exists() or not store.ensemble_record(ensemble.spec.id).exists():
            marks.add(path)
    return sorted(marks)


def drop_stale_marks(study: Study, store: Store) -> None:
    """Remove the marks of jobs that have lost what they made, so that they run again where that is needed."""
    for parent_id in study.all_parents():
        if not store.has_parent(parent_id, study.start_epochs_of(parent_id)):
            _mark_of(study, store, "parents", parent_id).unlink(missing_ok=True)
        if not store.masks(parent_id, study.masks_of(parent_id)).exists():
            _mark_of(study, store, "masks", parent_id).unlink(missing_ok=True)
    for ensemble in study.ensembles:
        if not store.ensemble_record(ensemble.spec.id).exists():
            _mark_of(study, store, "ensembles", ensemble.spec.id).unlink(missing_ok=True)
    marks = _marks(study, store)  # before the records: what ends in between has its record, and keeps its mark
    done = _recorded(study, store)
    for path, job in marks.items():
        ids = [child.spec.id for child in study.children_of(job.parent_id)[job.start : job.stop]]
        if not done[job.parent_id].issuperset(ids):
            path.unlink(missing_ok=True)


def drop_stale_tables(study: Study, store: Store) -> None:
    """Remove children.csv where a record is newer, as after ``ssa run``: it and its companions are made anew."""
    table = store.study_folder(study.name) / "children.csv"
    if not table.exists():
        return
    made = table.stat().st_mtime
    files = [path for parent_id in study.all_parents() for path in store.record_files(parent_id)]
    files += [store.ensemble_record(ensemble.spec.id) for ensemble in study.ensembles]
    if any(path.exists() and path.stat().st_mtime > made for path in files):
        table.unlink()


def _marks(study: Study, store: Store) -> dict[Path, Job]:
    """The marks that are there of jobs of this version of the study."""
    found = {}
    for parent_id in study.all_parents():
        folder = store.study_folder(study.name) / "marks" / "jobs" / parent_id
        for path in folder.glob("*.done"):
            try:
                found[path] = _find_job(study, parent_id, path.stem)
            except UserError:  # a mark of another version of the study
                continue
    return found


def _recorded(study: Study, store: Store) -> dict[str, set[str]]:
    """The ids of the finished children of each parent, from one listing of each folder."""
    return {parent_id: store.recorded_children(parent_id) for parent_id in study.all_parents()}
