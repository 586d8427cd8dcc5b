"""One comparison of a claim: what the tests of claims return, or the reason why they cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssa.analysis.statistics import Interval

NONE = Interval(math.nan, math.nan, math.nan, math.nan, 0)
JUDGED, SINGLE, BESIDE = "judged", "cell", "beside"  # what carries the verdict, its parts, and what is only shown


class UntestableError(Exception):
    """The record lacks what a comparison needs; the message says what."""


def no_effect(measure: str) -> float:
    """The value of ``measure`` that says that there is no difference: 1 of a ratio, else 0."""
    return 1.0 if "ratio" in measure else 0.0


@dataclass(frozen=True)
class Comparison:
    """One comparison: what is compared, its estimate, and what is said of it; ``measure`` where it is not the claim's.

    ``against``: the value that the interval and p are judged by, beside any smallest difference of interest. ``group``:
    the baseline or setting whose pooled number it is, or is part of; ``cell``: of a judged cell, which one. ``better``:
    the probability of improvement. ``sampled``: whether the estimate is over parents or seeds, and has an n.
    """

    text: str
    interval: Interval
    verdict: str = ""
    p_holm: float = math.nan
    measure: str | None = None
    against: float = 0.0
    role: str = JUDGED
    group: str = ""
    cell: str = ""
    better: Interval = NONE
    sampled: bool = True
