"""Intervals and tests over parents: small pure functions. The parent is the unit of inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from ssa.results.children import PARENT

DASH = "–"  # where there is no number
FEWEST = 3  # values for an interval to be printed: that of two reaches 9 standard deviations to either side
WIDEST = 6  # medians, beyond which an interval goes on beyond the axis
ROUNDING = 1e-9  # what is equal on paper is no further apart


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, two-sided p-value and the number ``n`` of parents behind it.

    ``low``, ``high`` and ``p`` are NaN if ``n`` is too small for them, or all values are the same.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's length: the number behind a plus-minus sign."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Components:
    """Standard deviations between parents and between one parent's children; NaN if they cannot be told apart."""

    between: float
    within: float


def t_interval(values: ArrayLike, confidence: float = 0.95, against: float = 0.0) -> Interval:
    """Student's t-interval of the mean of ``values`` (1-D), n - 1 degrees of freedom, and its test ``against`` a value.

    One value has no interval, and neither have values without any spread: that a few test images came out alike for
    each parent is no certainty.
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(x.mean())
    if n == 1 or _equal(x):
        return Interval(mean, math.nan, math.nan, math.nan, n)
    error = float(x.std(ddof=1)) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half, mean + half, 2 * float(special.stdtr(n - 1, -abs(mean - against) / error)), n)


def _equal(values: NDArray[np.float64]) -> bool:
    """Whether all ``values`` are one, but for rounding."""
    return bool(np.ptp(values) <= ROUNDING * max(1.0, float(np.abs(values).max())))


def share_above(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The probability of improvement: the share of ``values`` (paired differences) above 0, ties half.

    As in Agarwal et al. (2021, Deep RL at the edge of the statistical precipice, NeurIPS 34), but over pairs: theirs
    compares each run of one method with each of the other, ours share a parent. The interval is Wilson's (1927,
    J. Amer. Statist. Assoc. 22, 209-212), which Brown, Cai and DasGupta (2001, Statist. Sci. 16, 101-133) advise for
    few values: a bootstrap has no width if all lie above 0. No p-value.
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    tied = np.abs(x) <= ROUNDING
    share = float(np.where(tied, 0.5, x > 0).mean())
    z2 = float(special.ndtri((1 + confidence) / 2)) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At a share of 0 or 1 that is the bound too, and rounding must not part them.
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)), math.nan, n)


def over_parents(frame: pd.DataFrame, column: str, confidence: float = 0.95) -> Interval:
    """The t-interval of ``column`` over parents, after averaging within each parent; blank values are left out."""
    return t_interval(parent_means(frame, column), confidence)


def parent_means(frame: pd.DataFrame, column: str, by: Sequence[str] = ()) -> pd.Series:
    """The mean of ``column`` for each parent, in each group of ``by``; blank values are left out."""
    return frame.groupby([*by, *(key for key in PARENT if key not in by)])[column].mean().dropna()


def values_by_parent(frame: pd.DataFrame, column: str) -> list[NDArray[np.float64]]:
    """The values of ``column``, blanks left out, as one array for each parent."""
    known = frame.dropna(subset=column)
    return [part.to_numpy(dtype=float) for _, part in known.groupby(PARENT)[column]]


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """``p_values`` adjusted step-down for a family of comparisons (Holm, 1979, Scand. J. Statist. 6, 65-70)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)[np.argsort(order, kind="stable")]


def bootstrap_interval(
    groups: Sequence[NDArray[np.float64]],
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile interval of the mean of the groups' means: parents drawn with replacement, then children within.

    ``groups`` holds one array of values for each parent. NaN bounds for fewer than two parents.
    """
    if len(groups) < 2:
        return math.nan, math.nan
    sizes = np.array([len(group) for group in groups])
    values = np.zeros((len(groups), sizes.max()))
    for row, group in zip(values, groups, strict=True):
        row[: len(group)] = group
    parent = generator.integers(len(groups), size=(resamples, len(groups)))
    child = generator.integers(sizes[parent][..., None], size=(*parent.shape, sizes.max()))
    drawn = values[parent[..., None], child]
    used = np.arange(sizes.max()) < sizes[parent][..., None]
    means = (drawn * used).sum(-1) / sizes[parent]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means.mean(-1), [tail, 1 - tail])
    return float(low), float(high)


def components(groups: Sequence[NDArray[np.float64]]) -> Components:
    """Variance components of one-way analysis of variance, as standard deviations; ``groups`` one array per parent.

    Between parents: (mean square between - mean square within) / n0, at least 0, n0 being the mean group size
    corrected for unequal ones (Searle, Casella and McCulloch, 1992, section 3.6).
    """
    sizes = np.array([len(group) for group in groups])
    total, k = sizes.sum(), len(groups)
    if k < 2 or total == k:
        return Components(math.nan, math.nan)
    means = np.array([group.mean() for group in groups])
    grand = float((sizes * means).sum() / total)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (total - k)
    between = float((sizes * (means - grand) ** 2).sum()) / (k - 1)
    n0 = (total - (sizes**2).sum() / total) / (k - 1)
    return Components(math.sqrt(max(0.0, (between - within) / n0)), math.sqrt(within))


def variance_ratio(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Interval:
    """Ratio of the variances of the paired values ``x`` and ``y``, var(x) / var(y), with p against a ratio of 1.

    Pitman (1939) and Morgan (1939), Biometrika 31: x + y and x - y are uncorrelated where the variances are
    equal, which gives a t-test with n - 2 degrees of freedom and, inverted, the interval
    F (K -+ sqrt(K^2 - 1)) with K = 1 + 2 (1 - r^2) t^2 / (n - 2). Below three pairs, or where either has no
    spread, there is none.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(a)
    if n < 3 or _equal(a) or _equal(b):
        return Interval(math.nan, math.nan, math.nan, math.nan, n)
    ratio = float(a.var(ddof=1) / b.var(ddof=1))
    r = float(np.corrcoef(a, b)[0, 1])
    t = float(stats.t.ppf((1 + confidence) / 2, n - 2))
    k = 1 + 2 * max(0.0, 1 - r * r) * t * t / (n - 2)
    root = math.sqrt(k * k - 1)
    p = 1.0 if _equal(a - b) or _equal(a + b) else float(stats.pearsonr(a + b, a - b).pvalue)
    return Interval(ratio, ratio * (k - root), ratio * (k + root), p, n)


def spread_ratio(paired: pd.DataFrame, confidence: float = 0.95) -> Interval:
    """The :func:`variance_ratio` of parents' mean accuracies to those of their children's partners.

    ``paired``: rows of :func:`ssa.results.children.pairs`.
    """
    means = beside_partners(paired)
    return variance_ratio(means["accuracy"], means["partner"], confidence)


def beside_partners(paired: pd.DataFrame) -> pd.DataFrame:
    """Each parent's mean ``accuracy``, and that of its children's partners as ``partner``; of rows as above."""
    means = paired.groupby(PARENT)[["accuracy", "difference"]].mean().dropna()
    return means.assign(partner=means["accuracy"] - means["difference"])


def is_usual(width: pd.Series) -> pd.Series:
    """Which intervals, of these widths, set an axis: one that is far wider would flatten all others."""
    return ~(width > WIDEST * width.median())


def p_text(p: float) -> str:
    """``p`` as tables print it: three decimals, or below 0.001; a dash if there is none."""
    if math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def decimals(bound: float, *levels: float) -> int:
    """How many decimals ``bound`` is printed with: two, or up to four to tell it from any of ``levels`` but itself."""
    return next((n for n in (2, 3) if not any(round(bound, n) == level != bound for level in levels)), 4)


def capitalise(text: str) -> str:
    """``text`` with its first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def n_text(n: pd.Series) -> str:
    """Numbers of parents as they are told: ``6`` or ``5 to 6``."""
    low, high = int(n.min()), int(n.max())
    return str(low) if low == high else f"{low} to {high}"
