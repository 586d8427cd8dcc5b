"""The marks of finished work: the files that Snakemake sees of it, and which of them come before which.

On a cluster a parent, its masks, each job of children and each ensemble are submitted by themselves, with their own
time and memory. On one machine each process costs seconds until PyTorch is there. So a job of all children of a parent
makes the parent, its masks and the ensembles of that parent alone as well. Where a parent's children are split over
several jobs, as on more cores than parents, the parent comes with the masks that they all start from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ssa.errors import UserError
from ssa.files import short_digest
from ssa.store.store import Store
from ssa.study.study import Study
from ssa.workflow import jobs
from ssa.workflow.jobs import Job


@dataclass(frozen=True)
class Marks:
    """The marks of ``study`` in ``store``, whose children are split over ``workers`` cores or GPUs.

    A mark that no longer holds is passed by, not deleted: who only looks changes nothing.
    """

    study: Study
    store: Store
    workers: int
    one_machine: bool = False

    def wanted(self) -> list[Path]:
        """The marks of what was done, however it was split, and of what is to be made.

        Of parents, those of lost or missing records, which the study's tables need.

        A job whose children were all recorded by others (another study, another split into jobs) is not wanted: it
        would ask for a parent that nothing needs.
        """
        marked = self._marked()  # before the records: what ends in between has its record, and keeps its mark
        recorded = {one: self.store.recorded_children(one) for one in self.study.all_parents()}
        done = {job for job in marked.union(self._plan) if recorded[job.parent_id].issuperset(self._ids(job))}
        pending = [job for job in self._plan if job not in done]
        marks = {self._of_job(job, lost=False) for job in marked & done}
        marks |= {self._of_job(job, lost=True) for job in pending}
        return sorted(marks | self._of_ensembles(pending) | self._of_lost_parents(pending))

    def before_masks(self, parent_id: str) -> list[Path]:
        """The marks needed before the masks of a parent: none on one machine, where they bring it along."""
        return [] if self.one_machine else self._needed("parents", parent_id)

    def before_children(self, parent_id: str, job: str) -> list[Path]:
        """The marks needed before the job of this name: none if it makes its parent and masks itself."""
        return [] if self.makes_all(parent_id, job) else self._needed("masks", parent_id)

    def before_ensemble(self, ensemble_id: str) -> list[Path]:
        """The marks needed before an ensemble: of its parents, or of the masks of its children."""
        spec = self.study.ensemble(ensemble_id).spec
        stage = "masks" if spec.children else "parents"
        return [mark for parent in spec.parents for mark in self._start(parent.id, stage)]

    def makes_all(self, parent_id: str, job: str) -> bool:
        """Whether the job of this name makes all that the study needs of its parent alone, not only children."""
        start, stop = jobs.span(job)
        return self.one_machine and stop - start == len(self.study.children_of(parent_id))

    def of_data(self) -> Path:
        """The file that says that the data sets are there.

        It is named after them and their folder, and so is never out of date: Snakemake forgets the jobs behind one that
        runs again if its output is ancient() to the next.
        """
        sets = sorted({str(parent.data) for parent in self.study.all_parents().values()})
        return self._folder / f"data-{short_digest([str(self.study.data_root), *sets])}.done"

    def of_job(self, job: Job) -> Path:
        """The file that says that all children of ``job`` are recorded."""
        return self._of_job(job, not self.store.recorded_children(job.parent_id).issuperset(self._ids(job)))

    def of_stage(self, stage: str, run_id: str) -> Path:
        """The file that says that a stage is done: ``parents`` or ``masks`` of a parent, or ``ensembles`` of one."""
        return _valid(self._folder / stage / f"{run_id}.done", lost=not self._is_made(stage, run_id))

    def newer_records(self) -> list[Path]:
        """The records that are newer than children.csv, as after ``ssa run``: it and its companions are made anew."""
        table = self.store.study_folder(self.study.name) / "children.csv"
        if not table.exists():
            return []
        made = table.stat().st_mtime
        files = [path for parent_id in self.study.all_parents() for path in self.store.record_files(parent_id)]
        files += [self.store.ensemble_record(ensemble.spec.id) for ensemble in self.study.ensembles]
        return [path for path in files if path.exists() and path.stat().st_mtime > made]

    def _of_ensembles(self, pending: Sequence[Job]) -> set[Path]:
        """The marks of ensembles that were done, and of those to be made that no ``pending`` job makes."""
        whole = [job.parent_id for job in pending if self.makes_all(job.parent_id, job.name)]
        within = {one.spec.id for parent_id in whole for one in jobs.ensembles_of(self.study, parent_id)}
        marks = set()
        for ensemble_id in (ensemble.spec.id for ensemble in self.study.ensembles):
            mark, made = self.of_stage("ensembles", ensemble_id), self._is_made("ensembles", ensemble_id)
            if mark.exists() or not (made or ensemble_id in within):
                marks.add(mark)
        return marks

    def _of_lost_parents(self, pending: Sequence[Job]) -> set[Path]:
        """The marks of parents without records; on one machine not of those that come with what is wanted of them."""
        lost = {one for one in self.study.all_parents() if not self.store.parent_record(one).exists()}
        if self.one_machine:
            unmade = [one.spec for one in self.study.ensembles if not self._is_made("ensembles", one.spec.id)]
            lost -= {job.parent_id for job in pending} | {parent.id for spec in unmade for parent in spec.parents}
        return {self.of_stage("parents", one) for one in lost}

    def _start(self, parent_id: str, stage: str) -> list[Path]:
        """The marks of what an ensemble starts from, which is a ``stage`` of one of its parents."""
        if self.one_machine:
            for job in self._plan:
                if job.parent_id == parent_id and self.makes_all(parent_id, job.name):
                    mark = self.of_job(job)
                    if mark.exists() or not self.store.recorded_children(parent_id).issuperset(self._ids(job)):
                        return [mark]
            stage = "masks" if self.study.masks_of(parent_id) else "parents"  # of two rules that train a parent, one
        return self._needed(stage, parent_id)

    def _needed(self, stage: str, run_id: str) -> list[Path]:
        """The mark of a stage; none if that was done without Snakemake, or within a job."""
        mark = self.of_stage(stage, run_id)
        return [mark] if mark.exists() or not self._is_made(stage, run_id) else []

    def _is_made(self, stage: str, run_id: str) -> bool:
        if stage == "parents":
            return self.store.has_parent(run_id, self.study.start_epochs_of(run_id))
        if stage == "masks":
            return self.store.masks(run_id, self.study.masks_of(run_id)).exists()
        return self.store.ensemble_record(run_id).exists()

    @property
    def _folder(self) -> Path:
        return self.store.study_folder(self.study.name) / "marks"

    @cached_property
    def _plan(self) -> list[Job]:
        return jobs.plan(self.study, self.workers)

    def _of_job(self, job: Job, lost: bool) -> Path:
        return _valid(self._folder / "jobs" / job.parent_id / f"{job.name}.done", lost)

    def _ids(self, job: Job) -> list[str]:
        return [child.spec.id for child in self.study.children_of(job.parent_id)[job.start : job.stop]]

    def _marked(self) -> set[Job]:
        """The jobs of this version of the study that have marks."""
        found = set()
        for parent_id in self.study.all_parents():
            for path in (self._folder / "jobs" / parent_id).glob("*.done"):
                try:
                    found.add(jobs.find_job(self.study, parent_id, path.name.partition(".")[0]))
                except UserError:  # a mark of another version of the study
                    continue
        return found


def _valid(first: Path, lost: bool) -> Path:
    """The last that was made of ``first``, ``.2.done``, ``.3.done`` and so on; the next if its work is ``lost``."""
    last, following = first, _numbered(first, 2)
    number = 2
    while following.exists():
        last, number = following, number + 1
        following = _numbered(first, number)
    return following if lost and last.exists() else last


def _numbered(first: Path, number: int) -> Path:
    return first.with_name(f"{first.stem}.{number}.done")
