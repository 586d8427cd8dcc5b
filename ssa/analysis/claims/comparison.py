"""One comparison of a claim: what the tests of claims return, or the reason why they cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssa.analysis.statistics import Interval

NONE = Interval(math.nan, math.nan, math.nan, math.nan, 0)


class UntestableError(Exception):
    """The record lacks what a comparison needs; the message says what."""


@dataclass(frozen=True)
class Comparison:
    """One comparison: what is compared, its estimate, and the verdict; ``measure`` where it is not the claim's own.

    ``against``: the value that the interval is judged by, beside any smallest difference of interest.
    """

    text: str
    interval: Interval
    verdict: str
    p_holm: float = math.nan
    measure: str | None = None
    against: float = 0.0
