"""How numbers become a verdict: a small pure function for each rule. docs/rules.md states the rules in words.

``values`` are one number for each parent (of ensembles: each seed), in the unit of the claim. ``confidence`` is that of
the two-sided interval; a one-sided test is made at half of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssa.analysis.statistics import Interval, holm, share_above, t_interval

SUPPORTED, NEGLIGIBLE = "supported", "supported, negligible"
CONTRADICTED, UNDECIDED, NOT_TESTABLE = "contradicted", "undecided", "not testable"
MIXED, LOSS = "mixed", "a loss"
ABOVE, BELOW, OPEN = "above 0", "below 0", f"{UNDECIDED} after Holm"
ROUNDED = 0.5  # points by which a quoted figure may be off: it is rounded, and its own error is not known
FEW = 5  # parents up to which a true gain of 0 is hardly ever called contradicted


def one_sided(values: ArrayLike, sign: int = 1) -> float:
    """The p-value for a mean above 0 (``sign`` 1) or below it (-1); 1 if there is no interval."""
    interval = t_interval(values)
    if math.isnan(interval.p):
        return 1.0
    return interval.p / 2 if sign * interval.mean > 0 else 1 - interval.p / 2


def both_sides(p: float) -> float:
    """A one-sided p-value as a two-sided one, at most 1."""
    return min(1.0, 2 * p)


def gain(values: ArrayLike, smallest: float, confidence: float, baselines: int = 1, adjusted: float = 0.0) -> str:
    """A claimed gain over one of ``baselines``.

    Supported if the interval lies above 0, negligible if it also lies below ``smallest``. Contradicted if the interval
    at 1 - (1 - ``confidence``) / ``baselines`` lies below ``smallest``. ``adjusted``: Holm's two-sided p-value for a
    claim that uses it; an interval above 0 that fails there is undecided.
    """
    interval = t_interval(values, confidence)
    if interval.low > 0:
        if not adjusted + confidence < 1:
            return UNDECIDED
        return NEGLIGIBLE if interval.high < smallest else SUPPORTED
    wider = t_interval(values, 1 - (1 - confidence) / baselines)
    return CONTRADICTED if wider.high < smallest else UNDECIDED


def sides(cells: Sequence[ArrayLike], confidence: float) -> list[str]:
    """On which side of 0 each of ``cells`` lies significantly, after Holm's adjustment in each direction apart."""
    tail = (1 - confidence) / 2
    above, below = (holm([one_sided(cell, sign) for cell in cells]) <= tail for sign in (1, -1))
    return [ABOVE if up else BELOW if down else OPEN for up, down in zip(above, below, strict=True)]


def crossing(found: Iterable[str]) -> bool:
    """Whether one of the :func:`sides` is above 0 and another below it."""
    return {ABOVE, BELOW} <= set(found)


def overall(verdicts: Iterable[str]) -> str:
    """The verdict on an arm, of those against each baseline: supported needs all, contradicted needs one."""
    found = list(verdicts)
    if found and all(verdict.startswith(NOT_TESTABLE) for verdict in found):
        return NOT_TESTABLE
    for verdict in (LOSS, CONTRADICTED):
        if verdict in found:
            return verdict
    if found and all(verdict.startswith(SUPPORTED) for verdict in found):
        return NEGLIGIBLE if NEGLIGIBLE in found else SUPPORTED
    return UNDECIDED


def most(verdicts: Iterable[str]) -> str:
    """The verdict of more than half of the cells, for a claim about most cells; undecided if there is none."""
    found = list(verdicts)
    if found and all(verdict.startswith(NOT_TESTABLE) for verdict in found):
        return NOT_TESTABLE
    for verdict in (SUPPORTED, CONTRADICTED):
        if 2 * sum(item.startswith(verdict) for item in found) > len(found):
            return verdict
    return UNDECIDED


def gain_over_better(gains: Sequence[ArrayLike], confidence: float) -> Interval:
    """The gain over the better of several settings: the lowest of the means, bounds and, as p, the weakest evidence.

    It is above 0 only if every gain is (Berger, 1982, Technometrics 24, 295-300). ``gains``: over each setting.
    """
    each = [t_interval(values, confidence) for values in gains]
    mean, low, high = (float(np.min([getattr(one, key) for one in each])) for key in ("mean", "low", "high"))
    p = both_sides(max(one_sided(values) for values in gains))
    return Interval(mean, low, high, p, min(one.n for one in each))


def lowest_share(gains: Sequence[ArrayLike], confidence: float) -> Interval:
    """The probability of improvement over the better of several settings: the lowest share and bounds, as above."""
    each = [share_above(values, confidence) for values in gains]
    mean, low, high = (float(np.min([getattr(one, key) for one in each])) for key in ("mean", "low", "high"))
    return Interval(mean, low, high, math.nan, min(one.n for one in each))


def rivals(found: Sequence[Interval], smallest: float, confidence: float) -> tuple[list[str], NDArray[np.float64]]:
    """A setting claimed best, given each rival's :func:`gain_over_better`; the verdicts, and Holm's p-values.

    Contradicted if a rival's gain lies above 0, also after Holm's adjustment over the rivals; supported if it lies
    at or below ``smallest``, as a rival that is better by less is no contradiction.
    """
    adjusted = holm([1.0 if math.isnan(one.p) else one.p for one in found])
    verdicts = []
    for one, p in zip(found, adjusted, strict=True):
        if one.high <= smallest:
            verdicts.append(SUPPORTED)
        else:
            verdicts.append(CONTRADICTED if one.low > 0 and p + confidence <= 1 else UNDECIDED)
    return verdicts, adjusted


def quoted(interval: Interval, figure: float) -> str:
    """A quoted gain: contradicted if ``interval`` lies below ``figure`` less :data:`ROUNDED`.

    Supported if it lies above half of the figure and reaches it: one so wide that it reaches it for lack of data is
    undecided.
    """
    if interval.high < figure - ROUNDED:
        return CONTRADICTED
    return SUPPORTED if interval.low > figure / 2 and interval.high >= figure else UNDECIDED


def small(interval: Interval, bound: float) -> str:
    """A gain claimed small: a loss if the interval lies below 0, which is said first.

    Else supported if it lies below ``bound``, contradicted if it lies above.
    """
    if interval.high < 0:
        return LOSS
    if interval.high < bound:
        return SUPPORTED
    return CONTRADICTED if interval.low > bound else UNDECIDED


def small_in_cells(cells: Sequence[ArrayLike], bound: float, confidence: float) -> list[str]:
    """Each cell's gain, claimed small: supported below ``bound``, contradicted above, after Holm in each direction."""
    said = {ABOVE: CONTRADICTED, BELOW: SUPPORTED, OPEN: UNDECIDED}
    shifted = [np.asarray(cell, dtype=float) - bound for cell in cells]
    return [said[side] for side in sides(shifted, confidence)]


def steadier(cells: Sequence[ArrayLike], confidence: float) -> list[str]:
    """Whether SSA varies less, given each cell's :func:`deviations`: supported below 0, contradicted above, by Holm."""
    said = {ABOVE: CONTRADICTED, BELOW: SUPPORTED, OPEN: UNDECIDED}
    return [said[side] for side in sides(cells, confidence)]


def deviations(mine: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """For each parent how much further from its method's median ``mine`` lies than ``theirs`` from its own.

    The paired form of the test of Brown and Forsythe (1974, J. Amer. Statist. Assoc. 69, 364-367).
    """
    a, b = (np.asarray(values, dtype=float) for values in (mine, theirs))
    return np.abs(a - np.median(a)) - np.abs(b - np.median(b))


def kind_of(verdict: str) -> str:
    """The word that a verdict begins with, an article aside; what is only shown has none, and is ``shown``."""
    return verdict.removeprefix("a ").split(",")[0].split(":")[0].split(" ")[0] or "shown"


def known(verdict: str, n: int) -> str:
    """``verdict``, but one parent has no interval, and its verdict is undecided."""
    return verdict if n > 1 else f"{UNDECIDED} (n < 2)"
