"""Uploads the runs that were written and are not yet at W&B, by ``wandb sync``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssa.errors import UserError
from ssa.tracking.ledger import Ledger
from ssa.tracking.server import Served, base_url, be_brief, reach
from ssa.tracking.writer import log_of

UPLOADED = ("run", "digest", "entity", "project")  # what is noted of an upload, beside the server
BATCH, PARALLEL = 20, 5  # runs to a call of wandb sync, and at a time: W&B limits the rate of requests


class Uploads:
    """The uploads of the runs under ``folder``, which ``uploaded.jsonl`` there lists once W&B has all of a run.

    W&B appends to a history that is there. ``rest`` therefore writes a log of what is missing, for a run's id and the
    number of rows that W&B has.
    """

    def __init__(self, folder: Path, rest: Callable[[str, int], Path]) -> None:
        self.folder, self.rest = folder, rest
        self.written, self.ledger = Ledger(folder / "written.jsonl"), Ledger(folder / "uploaded.jsonl")
        self._process: subprocess.Popen[str] | None = None

    def uploaded(self) -> dict[str, dict[str, Any]]:
        """The last upload of each run to the server that is in use."""
        server = base_url()
        return {run: entry for run, entry in self.ledger.read().items() if entry.get("server") == server}

    def pending(self) -> list[dict[str, Any]]:
        """The runs that were written and are not at W&B as they are now, in the order of writing."""
        done = {run: entry["digest"] for run, entry in self.uploaded().items()}
        return [
            entry
            for run, entry in self.written.read().items()
            if done.get(run) != entry["digest"] and self._log(entry, 0).exists()
        ]

    def upload(self) -> int:
        """Upload everything that is pending and return how many runs that was; ``UserError`` if W&B takes no more.

        What it took before is remembered, also if this process is killed.
        """
        be_brief()
        with self.ledger.held():
            pending = self.pending()
            if pending:
                self._check_others(pending)
                reach()
            for start in range(0, len(pending), BATCH):
                batch = pending[start : start + BATCH]
                served = Served(batch)
                there = served.whole()  # sent by a process that was killed before it could note it
                logs = [self._log(entry, served.rows(entry)) for entry in batch if entry not in there]
                said = self._sync(logs)
                arrived = served.wait()
                for entry in arrived:
                    self.ledger.add(**{key: entry[key] for key in UPLOADED}, server=base_url())
                if len(arrived) < len(batch):
                    left = next(entry["run"] for entry in batch if entry not in arrived)
                    raise UserError(
                        f"W&B has {start + len(arrived)} of {len(pending)} runs and did not take {left} whole "
                        f"({said}); nothing is lost: run ssa sync again"
                    )
            return len(pending)

    def _check_others(self, pending: list[dict[str, Any]]) -> None:
        """``UserError`` if another study has a ``pending`` run in the same project, which would lose it."""
        wanted = {tuple(entry[key] for key in ("run", "entity", "project")) for entry in pending}
        for path in sorted(self.folder.parent.parent.glob("*/wandb/uploaded.jsonl")):
            if path == self.ledger.path:
                continue
            for entry in Uploads(path.parent, self.rest).uploaded().values():
                if tuple(entry.get(key) for key in ("run", "entity", "project")) in wanted:
                    raise UserError(
                        f"{path.parent.parent} has the run {entry['run']} at W&B in the project {entry['project']}, "
                        "and would lose it to this study; give this study a project of its own (wandb.project)"
                    )

    def stop(self) -> None:
        """End an upload that another thread waits for."""
        if self._process is not None:
            self._process.terminate()

    def _sync(self, logs: list[Path]) -> str:
        """Run ``wandb sync`` on ``logs`` and return the last line that it said."""
        if not logs:
            return "nothing was sent"
        options = ["--include-synced", "-n", str(PARALLEL)]  # its own marks are also set where data were refused
        command = [sys.executable, "-m", "wandb", "sync", *options, *map(str, logs)]
        environment = {key: value for key, value in os.environ.items() if key not in ("WANDB_MODE", "WANDB_SILENT")}
        environment["WANDB_DIR"] = str(self.folder.parent)  # where it keeps its own log
        environment |= {"WANDB_X_GRAPHQL_RETRY_MAX": "10", "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "30"}
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        lines = self._process.communicate()[0].strip().splitlines()
        return lines[-1].removeprefix("wandb: ").strip()[:200] if lines else "it said nothing"

    def _log(self, entry: dict[str, Any], rows: int) -> Path:
        """The log to upload where W&B has so many ``rows`` of the run."""
        return self.rest(entry["run"], rows) if rows else log_of(self.folder, entry)
