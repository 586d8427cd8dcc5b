"""Follows a study while it runs: a process that writes runs as records appear, and uploads them if it is online."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable

from ssa.errors import UserError
from ssa.tracking.tracker import Tracker

POLL_SECONDS = 5.0
UPLOAD_SECONDS = 30.0  # how long the end of a study may wait for its last uploads; ssa sync does the rest
NICENESS = 10  # training goes first


def follow(tracker: Tracker) -> None:
    """Write and upload until this process is interrupted or a pipe to its standard input closes, then once more."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_wait_for_closing, args=(ended,), daemon=True).start()
    os.nice(NICENESS)
    rounds = _Rounds(tracker)
    while not ended.is_set():
        rounds.run()
        ended.wait(POLL_SECONDS)
    rounds.finish()


def _wait_for_closing(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()


class _Rounds:
    """Repeats what may fail, and says each failure once."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.said: set[str] = set()
        self.online = tracker.settings.mode == "online"
        self.uploading: threading.Thread | None = None

    def run(self) -> None:
        """Write what is new; begin to upload it unless an upload is under way."""
        self._attempt(self.tracker.write)
        if self.online and (self.uploading is None or not self.uploading.is_alive()):
            self.uploading = threading.Thread(target=self._attempt, args=(self.tracker.uploads.upload,), daemon=True)
            self.uploading.start()

    def finish(self) -> None:
        """The last round: waits for its upload, though not for ever."""
        deadline = time.monotonic() + UPLOAD_SECONDS
        if self.uploading is not None:
            self.uploading.join(UPLOAD_SECONDS)
        self.run()
        if self.uploading is not None:
            self.uploading.join(max(deadline - time.monotonic(), 0))
            self.tracker.uploads.stop()

    def _attempt(self, stage: Callable[[], int]) -> None:
        try:
            stage()
        except Exception as error:  # whatever it is, the next round may do better, and training goes on
            message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            if message not in self.said:
                print(f"ssa: {message}", file=sys.stderr, flush=True)
            self.said.add(message)
