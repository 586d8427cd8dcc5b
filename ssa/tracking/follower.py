"""Starts the process that follows a study, and lets it end. Light to import, since the workflow does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from ssa.study import wandb
from ssa.study.study import Study

END_SECONDS = 60.0  # how long the end of a study may wait for its W&B runs


def of(study: Study, file: Path, log: Path) -> Follower | None:
    """The follower of ``study``, whose file is ``file``; None if nothing of it is to be logged."""
    return None if wandb.resolve(study.raw, study.name).mode == "disabled" else Follower(file, log)


class Follower:
    """A process that logs ``study`` while this one runs; it ends with this one, however that ends."""

    def __init__(self, study: Path, log: Path) -> None:
        self.study, self.log = study, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, at the other end of a pipe that closes with this process."""
        command = [sys.executable, "-m", "ssa", "track", str(self.study), "--follow"]
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:  # no reason not to train
            print(f"ssa: nothing is logged to W&B: {error}; run ssa track afterwards", file=sys.stderr)

    def finish(self) -> str:
        """Let it write what is left; what it had to say, if anything.

        One that takes longer than :data:`END_SECONDS` is ended: the next run, or ``ssa track``, goes on from there.
        """
        if self.process is None:
            return ""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None
        return self.log.read_text(encoding="utf-8").strip()
