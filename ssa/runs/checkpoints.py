"""Checkpoints: where a run stands at the end of an epoch, so that one that was stopped goes on bit for bit."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssa.errors import UserError
from ssa.files import read_tensors, write_tensors
from ssa.training.loop import Training

SECONDS = 120.0  # a stopped run loses no more than this and an epoch; runs that take less never write one


class Checkpoint:
    """The checkpoint of one run in ``path``. ``origin``: what it must come from, such as the run's id, as text."""

    def __init__(self, path: Path, origin: Mapping[str, str]) -> None:
        self.path = path
        self.origin = dict(origin)
        self.saved = time.monotonic()

    def due(self) -> bool:
        """Return whether the last one, or the start of this run, is long enough ago."""
        return time.monotonic() - self.saved > SECONDS

    def save(self, training: Training, said: Mapping[str, Any]) -> None:
        """Write where ``training`` stands, and ``said``, JSON values, for :meth:`resume` to return."""
        metadata = {**self.origin, "epoch": str(training.epoch), "said": json.dumps(said)}
        write_tensors(self.path, training.state(), metadata)
        self.saved = time.monotonic()

    def resume(self, training: Training, latest: int) -> dict[str, Any]:
        """Let ``training`` go on from the checkpoint and return what was said with it; empty without one.

        A damaged one is named and removed, since the run can start again. One of another origin, or from after epoch
        ``latest``, is not taken.
        """
        if not self.path.exists():
            return {}
        try:
            tensors, metadata = read_tensors(self.path)
        except UserError as error:
            print(f"{error}; starting this run from its beginning", file=sys.stderr)
            self.drop()
            return {}
        same = all(metadata.get(key) == value for key, value in self.origin.items())
        if not same or "said" not in metadata or int(metadata["epoch"]) > latest:
            return {}
        training.resume(int(metadata["epoch"]), tensors)
        said: dict[str, Any] = json.loads(metadata["said"])
        return said

    def drop(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)
