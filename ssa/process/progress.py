"""How far a job is: a bar on standard error, and while it runs a small file from which ``ssa status`` tells all jobs.

The bar is lively on a terminal and a line a minute in a log.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

FOLDER = ".running"  # under the results folder; no study's name begins with a dot
BEAT_SECONDS = 2.0
LOST_SECONDS = 1800.0  # a job on another machine that has been silent for so long is taken for dead


@dataclass
class Beat:
    """The report of a running job: ``done`` of ``total`` units, and the epochs it trained since ``started``.

    ``run`` is a parent's id; times are seconds since 1970, ``at`` that of the beat.
    """

    run: str
    unit: str
    done: int
    total: int
    epochs: int
    started: float
    at: float
    host: str
    pid: int

    @property
    def rate(self) -> float:
        """Epochs per second; 0 before the first epoch."""
        return self.epochs / max(self.at - self.started, 1e-3)

    @property
    def alive(self) -> bool:
        """Whether the job still runs: asked of the system for this machine's jobs, by its silence for others."""
        if self.host != socket.gethostname():
            return time.time() - self.at < LOST_SECONDS
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's, and so alive
            return True
        return True


class Progress:
    """One job's progress over ``total`` units, of which ``done`` are done; a context that ends with the job.

    The job's training calls :func:`epoch`. A disk that refuses the small file is no reason to stop.
    """

    current: Progress | None = None

    def __init__(self, root: Path, name: str, total: int, unit: str, done: int = 0) -> None:
        now = time.time()
        self.beat = Beat(name, unit, done, total, 0, now, now, socket.gethostname(), os.getpid())
        self._file = root / FOLDER / f"{self.beat.host}-{self.beat.pid}.json"
        interval = 0.5 if sys.stderr.isatty() else 60.0
        self._bar = tqdm(total=total, initial=done, desc=name, unit=unit, mininterval=interval, maxinterval=interval)
        self._written = 0.0

    def __enter__(self) -> Progress:
        Progress.current = self
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self._file.parent)
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        Progress.current = None
        self._bar.close()
        with contextlib.suppress(OSError):
            self._file.unlink()

    def update(self, note: str = "") -> None:
        """One more unit is done; ``note`` stands beside the bar."""
        self.beat.done += 1
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()
        self._write_seldom()

    def trained(self) -> None:
        """One more epoch was trained, whatever the unit is."""
        self.beat.epochs += 1
        self._write_seldom()

    def _write_seldom(self) -> None:
        if time.monotonic() - self._written >= BEAT_SECONDS:
            self._write()

    def _write(self) -> None:
        self.beat.at, self._written = time.time(), time.monotonic()
        partial = self._file.with_suffix(".partial")
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(asdict(self.beat)), encoding="utf-8")
            partial.replace(self._file)


def epoch() -> None:
    """Tell the job that runs in this process, if one does, that it trained an epoch."""
    if Progress.current is not None:
        Progress.current.trained()


def running(root: Path) -> list[Beat]:
    """The jobs that run now and write to the results folder ``root``, by run."""
    beats = [beat for _, beat in _beats(root / FOLDER) if beat.alive]
    return sorted(beats, key=lambda beat: (beat.run, beat.started))


def _beats(folder: Path) -> Iterator[tuple[Path, Beat]]:
    for path in folder.glob("*.json"):
        try:
            yield path, Beat(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # it has just ended, or is another version's
            continue


def _sweep(folder: Path) -> None:
    """Remove what jobs left that were killed."""
    for path, beat in _beats(folder):
        if not beat.alive:
            path.unlink(missing_ok=True)
