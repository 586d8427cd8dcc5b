"""When a job stops before its work is done: after a time, or at a warning that it will be ended."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
# Schedulers send one of the first two some time before they kill; the last is Ctrl-C.
WARNINGS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class GivenUp(BaseException):
    """Raised at a warning in what is not worth saving; no ``Exception``, so that no handler takes it for an error."""


class Deadline:
    """Passed ``seconds`` from now, or at the first warning while it is :meth:`listening`."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.at = time.monotonic() + seconds
        self.warning = ""
        self._may_give_up = False

    def passed(self, ahead: float = 0.0) -> bool:
        """Whether it has passed, or will have in ``ahead`` seconds."""
        return bool(self.warning) or time.monotonic() + ahead > self.at

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take :data:`WARNINGS` as warnings, not as the end; but a second Ctrl-C ends all."""
        before = {number: signal.signal(number, self._warned) for number in WARNINGS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do ``work``, and leave it at once when a warning comes; what it returned, None if it was left."""
        try:
            self._may_give_up = True
            done = None if self.warning else work()
            self._may_give_up = False
            return done
        except GivenUp:
            return None
        finally:
            self._may_give_up = False

    def _warned(self, number: int, frame: FrameType | None) -> None:
        first, self.warning = not self.warning, signal.Signals(number).name
        if first and self._may_give_up:
            raise GivenUp
        if not first and number == signal.SIGINT:
            raise KeyboardInterrupt
