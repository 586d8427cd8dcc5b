"""Annealing schedules: maps of the unit interval onto itself, from 0 at the start to 1 at the end."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
TINY = 1e-6  # by which rounding may miss


def linear(x: float) -> float:
    """``x``."""
    return x


def cosine(x: float) -> float:
    """``(1 - cos(pi x)) / 2``."""
    return (1 - math.cos(math.pi * x)) / 2


def exponential(x: float, k: float = 5.0) -> float:
    """``(1 - exp(-k x)) / (1 - exp(-k))``: fast at first; k = 5 is assumed."""
    return math.expm1(-k * x) / math.expm1(-k)


def cubic(x: float) -> float:
    """``1 - (1 - x)^3``: gradual magnitude pruning (Zhu and Gupta, 2017, arXiv 1710.01878)."""
    return 1 - (1 - x) ** 3


SCHEDULES: dict[str, Schedule] = {"linear": linear, "cosine": cosine, "exponential": exponential, "cubic": cubic}


def as_function(schedule: str | Schedule) -> Schedule:
    """The function that ``schedule`` names, or ``schedule`` itself; ``ValueError`` for an unknown name."""
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown annealing schedule {schedule!r}; allowed: {', '.join(SCHEDULES)} or a callable")
    return SCHEDULES[schedule]


def check(schedule: str | Schedule) -> None:
    """``ValueError`` if ``schedule`` is no known name, nor a map of the unit interval onto itself from 0 to 1."""
    values = [as_function(schedule)(x / 100) for x in range(101)]
    start, end = values[0], values[-1]
    if not (abs(start) < TINY and abs(end - 1) < TINY):
        raise ValueError(f"schedule {schedule!r} goes from {start:g} to {end:g}; allowed: from 0 to 1")
    if out := [(x / 100, value) for x, value in enumerate(values) if not -TINY < value < 1 + TINY]:
        raise ValueError(f"schedule {schedule!r} is {out[0][1]:g} at {out[0][0]:g}; allowed: 0 to 1 all the way")
