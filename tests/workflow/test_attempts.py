"""What each attempt at a job asks of a cluster."""

from __future__ import annotations

from types import SimpleNamespace

from ssa.workflow.attempts import Attempts
from ssa.workflow.options import Options


def test_each_attempt_asks_for_more_than_the_one_before() -> None:
    ask = Attempts(Options(minutes_per_parent=100, minutes_per_child=5, minutes_per_ensemble=30))
    job = SimpleNamespace(job="24-48-1f2e3d4c5b")
    assert [ask.memory(None, attempt) for attempt in (1, 2)] == [8000, 16000]
    assert [ask.parent_minutes(None, attempt) for attempt in (1, 2)] == [100, 200]
    assert [ask.children_minutes(job, attempt) for attempt in (1, 2)] == [15 + 24 * 5, 2 * (15 + 24 * 5)]
    assert [ask.ensemble_minutes(None, attempt) for attempt in (1, 3)] == [30, 90]
