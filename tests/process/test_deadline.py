"""Warnings from the system: what is worth saving is saved, the rest is left at once."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ssa.process.deadline import Deadline


def test_a_deadline_passes_with_its_time() -> None:
    assert Deadline(0.0).passed()
    assert not Deadline().passed()
    assert not Deadline(60).passed()
    assert Deadline(60).passed(ahead=61)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_warning_is_remembered_and_ends_nothing(number: signal.Signals) -> None:
    deadline, before = Deadline(), signal.getsignal(number)
    with deadline.listening():
        os.kill(os.getpid(), number)
        assert deadline.passed()
        assert deadline.warning == number.name
    assert signal.getsignal(number) is before


def test_an_attempt_is_left_at_once_and_the_next_is_not_begun() -> None:
    deadline, begun = Deadline(), []

    def work() -> None:
        begun.append(1)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(60)

    with deadline.listening():
        assert Deadline().attempt(lambda: 7) == 7
        started = time.monotonic()
        assert deadline.attempt(work) is None
        assert deadline.attempt(lambda: begun.append(2) or True) is None
        os.kill(os.getpid(), signal.SIGTERM)  # the second warning finds nothing more to leave
    assert time.monotonic() - started < 5
    assert begun == [1]


def test_a_second_interrupt_ends_all() -> None:
    with Deadline().listening():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_error_in_an_attempt_stays_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        Deadline().attempt(lambda: 1 / 0)
