"""Logs a study to Weights & Biases from its records, beside training and never in its way.

Training knows nothing of this: it writes records, and one process at a time follows them and writes W&B's offline runs
under results/<study>/wandb. Uploading is a stage of its own. A failure is one line, and the next pass goes on from it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssa.errors import UserError
from ssa.store.records import Place
from ssa.store.store import Store
from ssa.study.study import Study
from ssa.study.wandb import resolve
from ssa.tracking.layers import Derived, ParentMasks
from ssa.tracking.runs import TrackedRun, of_child, of_ensemble, of_parent, run_id
from ssa.tracking.study_run import StudyFiles, log, of_study
from ssa.tracking.upload import Uploads
from ssa.tracking.writer import Extra, Writer

if TYPE_CHECKING:
    import wandb

FAILURES = 3  # after which a pass gives up: it is not the runs that are at fault


class Tracker:
    """Writes the runs of one study whose tables and figures are, or will be, ``files``."""

    def __init__(self, study: Study, store: Store, files: StudyFiles) -> None:
        self.study, self.store, self.files = study, store, files
        self.settings = resolve(study.raw, study.name)
        if self.settings.mode == "disabled":
            said = "WANDB_MODE" if os.environ.get("WANDB_MODE") else f"{study.path}: wandb.mode"
            raise UserError(f"{said} is disabled, so nothing is logged; set it to offline or online")
        self.root = store.study_folder(study.name)
        self.uploads = Uploads(self.root / "wandb", self._write_rest)
        self._seen: dict[str, object] = {}  # by run, the state in which its record was written
        # With the first two W&B would write its key to its own logs, and in a sweep choose its own ids for runs.
        for unwanted in ("WANDB_DEBUG", "WANDB_CORE_DEBUG", "WANDB_SWEEP_ID"):
            os.environ.pop(unwanted, None)

    def write(self) -> int:
        """Write what is recorded and not yet written; returns how many runs that was.

        ``UserError`` if some could not be: the others are there, and the next call tries again.
        """
        # W&B copies an artifact's files to be uploaded later; they belong to the study, not to the user's home.
        os.environ["WANDB_DATA_DIR"] = str((self.root / "wandb").resolve())
        writer, count, failures = Writer(self.root, self.settings), 0, []
        with writer.ledger.held():
            current = self._current(writer)
            for state, run, derive, extra in self._runs(self._is_new):
                if current.get(run.id) != writer.digest(run):
                    try:
                        writer.write(run, derive(), extra)
                    except UserError as error:
                        failures.append(error)
                        if len(failures) == FAILURES:
                            break
                        continue
                    count += 1
                self._seen[run.id] = state
        if failures:
            raise UserError(f"{failures[0]}; no result is affected: run ssa track again to log what is missing")
        return count

    def _current(self, writer: Writer) -> dict[str, str]:
        """By run, the digest of what is there or was uploaded."""
        there = {run: entry["digest"] for run, entry in writer.ledger.read().items() if writer.is_there(entry)}
        return {**{run: entry["digest"] for run, entry in self.uploads.uploaded().items()}, **there}

    def _write_rest(self, run_id: str, rows: int) -> Path:
        """Write what W&B lacks of a run, of which it has so many ``rows``."""
        for _, run, derive, extra in self._runs(lambda key, state: True):
            if run.id == run_id:
                return Writer(self.root / "wandb" / "rest", self.settings).write_rest(run, derive(), extra, rows)
        raise UserError(f"W&B has a part of the run {run_id}, whose record is gone; run the study again")

    def _runs(
        self, wanted: Callable[[str, object], bool]
    ) -> Iterator[tuple[object, TrackedRun, Callable[[], Derived], Extra]]:
        """Each run whose record is ``wanted``, the record's state on the disk, and how to make the rest of it."""
        for kind, specs in self.study.parents.items():
            for spec in specs:
                path = self.store.parent_record(spec.id)
                parent = _read(partial(self.store.read_parent, spec)) if path.exists() else None
                if parent is None:
                    continue
                state = path.stat().st_mtime_ns
                if wanted(spec.id, state):
                    yield state, of_parent(self.study, kind, spec, parent), Derived, _nothing
                layers, recorded = ParentMasks(self.study, self.store, spec.id), self._children(spec.id)
                runs = [("child", child) for child in self.study.children_of(spec.id)]
                runs += [("member", member) for member in self.study.members_of(spec.id)]
                for job_type, child in runs:
                    if child.spec.id not in recorded or not wanted(child.spec.id, recorded[child.spec.id]):
                        continue
                    record = _read(partial(self.store.read_child, child.spec))
                    if record is not None:
                        run = of_child(self.study, child, record, parent, job_type)
                        yield recorded[child.spec.id], run, partial(layers.derive, child.spec), _nothing
        for ensemble in self.study.ensembles:
            path = self.store.ensemble_record(ensemble.spec.id)
            if not path.exists() or not wanted(ensemble.spec.id, path.stat().st_mtime_ns):
                continue
            record = _read(partial(self.store.read_ensemble, ensemble.spec))
            if record is not None:
                yield path.stat().st_mtime_ns, of_ensemble(self.study, ensemble, record), Derived, _nothing
        whole = of_study(self.study, self.files) if self.files.complete() else None
        if whole is not None:
            yield None, whole, Derived, partial(log, study=self.study, files=self.files)

    def _children(self, parent_id: str) -> dict[str, Place]:
        """Where the record of each finished child of one parent lies now."""
        records = self.store.records(parent_id)
        records.ids()
        return records.places

    def _is_new(self, name: str, state: object) -> bool:
        return self._seen.get(run_id(name)) != state


def _nothing(handle: wandb.Run) -> dict[str, str]:
    """Most runs log nothing but their record."""
    return {}


def _read(read: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """A record, or None and one line where it is damaged: training will refuse it too."""
    try:
        return read()
    except UserError as error:
        print(f"ssa: not logged: {error}", file=sys.stderr)
        return None
