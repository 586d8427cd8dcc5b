"""Writes tracked runs as W&B offline runs, each whole or not at all."""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ssa.errors import UserError
from ssa.files import short_digest
from ssa.study.wandb import TrackingSettings
from ssa.tracking.layers import EDGES, Derived
from ssa.tracking.ledger import Ledger
from ssa.tracking.log import ends
from ssa.tracking.runs import TrackedRun

if TYPE_CHECKING:
    import wandb

# Without these a run costs 150 ms instead of 30: packages, commit and machine are in the record.
LEAN: dict[str, Any] = {
    **{"console": "off", "silent": True, "save_code": False, "disable_git": True, "disable_job_creation": True},
    **{"x_save_requirements": False, "x_disable_stats": True, "x_disable_meta": True},
}
DIGEST = "written_digest"  # in a run's summary: tells what of it has arrived
Extra: TypeAlias = "Callable[[wandb.Run], dict[str, str]]"  # logs more, and returns its artifacts' digests by name
FOLDER = re.compile(r"offline-run-\d+_\d+-(.+)")


def log_of(folder: Path, entry: dict[str, Any]) -> Path:
    """The log that an ``entry`` of the ledger in ``folder`` names."""
    return folder / str(entry["folder"]) / f"run-{entry['run']}.wandb"


class Writer:
    """Writes into ``root``/wandb, where ``written.jsonl`` lists the runs that are whole."""

    def __init__(self, root: Path, settings: TrackingSettings) -> None:
        self.root, self.settings = root, settings
        self.folder = root / "wandb"
        self.ledger = Ledger(self.folder / "written.jsonl")

    def digest(self, run: TrackedRun) -> str:
        """A digest, to tell whether a run that was written is this one, in this project."""
        return short_digest([run.digest, str(self.settings.entity), str(self.settings.project)])

    def write(
        self,
        run: TrackedRun,
        derived: Derived,
        extra: Extra = lambda handle: {},
    ) -> None:
        """Write ``run``, and what ``extra`` logs, in place of what was written of it; ``UserError`` if that fails."""
        for folder in self._folders.pop(run.id, []):  # cut off, or of another record: nothing that is not written anew
            shutil.rmtree(folder)
        try:
            log, artifacts = self._write(run, derived, extra)
            whole = ends(log)
        except Exception as error:
            self._forget()
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise self._full() from error
            raise UserError(f"W&B run {run.id} could not be written: {' '.join(str(error).split())[:300]}") from error
        if not whole:
            raise self._full()
        for spare in ("logs", "tmp"):
            shutil.rmtree(log.parent / spare, ignore_errors=True)
        for link in self.folder.glob("debug*.log"):  # W&B's links to the logs that are gone
            link.unlink(missing_ok=True)
        entry = {"folder": log.parent.name, "bytes": log.stat().st_size, "artifacts": artifacts}
        where = {"entity": self.settings.entity, "project": self.settings.project}
        self.ledger.add(run=run.id, digest=self.digest(run), **entry, **where)

    def is_there(self, entry: dict[str, Any]) -> bool:
        """Whether the log that an ``entry`` of the ledger names is there with all its bytes."""
        path = log_of(self.folder, entry)
        return path.is_file() and path.stat().st_size == entry.get("bytes")

    def write_rest(self, run: TrackedRun, derived: Derived, extra: Extra, rows: int) -> Path:
        """A log of ``run`` without the first ``rows`` of its history, and of nothing else, in this writer's folder."""
        shutil.rmtree(self.folder / run.id, ignore_errors=True)
        (self.folder / run.id).mkdir(parents=True)
        log, _ = Writer(self.folder / run.id, self.settings)._write(run, derived, extra, rows)
        if not ends(log):
            raise self._full()
        return log

    def _forget(self) -> None:
        """End W&B's service, which otherwise holds a run that broke off for one still in use, also in the next pass."""
        import wandb

        with suppress(Exception):
            wandb.teardown(exit_code=1)

    def _full(self) -> UserError:
        """One disk, one failure: in the same words for whichever run did not fit."""
        return UserError(f"a W&B run could not be written whole: is the disk of {self.folder} full?")

    def _write(self, run: TrackedRun, derived: Derived, extra: Extra, skip: int = 0) -> tuple[Path, dict[str, str]]:
        import wandb

        logging.raiseExceptions = False  # W&B's own log on a full disk would print hundreds of lines
        handle = wandb.init(
            mode="offline",
            dir=self.root,
            entity=self.settings.entity,
            project=self.settings.project,
            id=run.id,
            name=run.name,
            group=run.group,
            job_type=run.job_type,
            tags=run.tags,
            config=run.config,
            reinit="create_new",
            settings=wandb.Settings(**LEAN),
        )
        handle.define_metric(run.step)
        handle.define_metric("*", step_metric=run.step)
        rows: dict[int, dict[str, Any]] = {int(row[run.step]): dict(row) for row in run.history}
        for epoch, counts in derived.histograms.items():
            found = {name: wandb.Histogram(np_histogram=(values, EDGES)) for name, values in counts.items()}
            rows.setdefault(epoch, {run.step: epoch}).update(found)
        for at in sorted(rows)[skip:]:
            handle.log(rows[at], step=at)
        artifacts = extra(handle)
        handle.summary.update({**run.summary, **derived.summary, DIGEST: self.digest(run)})
        handle.finish()
        return Path(handle.settings.sync_file), artifacts

    @cached_property
    def _folders(self) -> dict[str, list[Path]]:
        """The folders of each run, finished or not."""
        found: dict[str, list[Path]] = {}
        for path in self.folder.glob("offline-run-*"):
            match = FOLDER.fullmatch(path.name)
            if match:
                found.setdefault(match.group(1), []).append(path)
        return found
