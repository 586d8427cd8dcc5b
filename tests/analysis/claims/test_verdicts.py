"""Each rule of a claim on numbers whose verdict can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ssa.analysis.claims import verdicts
from ssa.analysis.claims.verdicts import ABOVE, BELOW, OPEN
from ssa.analysis.statistics import Interval, t_interval

NAN = math.nan


def around(mean: float, half: float) -> list[float]:
    """Three values whose 95% t-interval is ``mean`` plus or minus ``half``."""
    step = half * math.sqrt(3) / 4.302653  # of -1, 0, 1 the standard deviation is 1, the t quantile 4.302653
    return [mean - step, mean, mean + step]


def between(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.5, 6)


@pytest.mark.parametrize(
    ("mean", "half", "baselines", "verdict"),
    [
        (0.5, 0.4, 1, "supported"),
        (0.1, 0.05, 1, "supported, negligible"),
        (0.1, 0.12, 1, "undecided"),  # to 0.22
        (0.1, 0.1001, 1, "undecided"),  # -0.0001 to 0.2001
        (0.0, 0.15, 1, "contradicted"),
        (0.0, 0.15, 2, "undecided"),  # at 97.5% the half width is 0.15 x 6.2053 / 4.3027 = 0.216
        (-0.5, 0.4, 2, "contradicted"),  # to -0.5 + 0.577
        (-0.5, 0.6, 2, "undecided"),
    ],
)
def test_a_gain(mean: float, half: float, baselines: int, verdict: str) -> None:
    assert verdicts.gain(around(mean, half), 0.2, 0.95, baselines) == verdict


def test_a_look_widens_the_interval() -> None:
    # at 97% the t quantile is 5.6428: 0.4 becomes 0.525
    assert verdicts.gain(around(0.5, 0.4), 0.2, 0.95) == "supported"
    assert verdicts.gain(around(0.5, 0.4), 0.2, 0.97) == "undecided"


def test_holm_turns_supported_into_undecided_and_nothing_else() -> None:
    assert verdicts.gain(around(0.5, 0.4), 0.2, 0.95, 1, 0.04) == "supported"
    assert verdicts.gain(around(0.5, 0.4), 0.2, 0.95, 1, 0.05) == "undecided"
    assert verdicts.gain(around(-0.5, 0.4), 0.2, 0.95, 1, 1.0) == "contradicted"


def test_values_without_spread_decide_nothing() -> None:
    assert verdicts.gain([1.0, 1.0, 1.0], 0.2, 0.95) == "undecided"
    assert verdicts.one_sided([1.0, 1.0, 1.0]) == 1


def test_one_sided_is_half_of_two_sided_on_the_side_of_the_mean() -> None:
    p = t_interval([1, 2, 3]).p
    assert verdicts.one_sided([1, 2, 3]) == pytest.approx(p / 2)
    assert verdicts.one_sided([1, 2, 3], -1) == pytest.approx(1 - p / 2)


def test_sides_are_adjusted_in_each_direction_apart() -> None:
    # one-sided p: 0.0004, 0.0004 below, 0.037; of three cells 3 x 0.0004 passes 0.025 in each direction, 2 x 0.037 not
    cells = [[10, 10.5, 11], [-10, -10.5, -11], [1, 2, 3]]
    assert verdicts.sides(cells, 0.95) == [ABOVE, BELOW, OPEN]
    assert verdicts.sides([[1, 2, 3]] * 2, 0.95) == [OPEN, OPEN]
    assert verdicts.crossing([ABOVE, OPEN, BELOW])
    assert not verdicts.crossing([ABOVE, OPEN])
    once = [[2.0, 2.4, 2.8]]
    assert verdicts.one_sided(once[0]) == pytest.approx(0.00458, abs=1e-4)
    assert verdicts.sides(once, 0.95) == [ABOVE]
    assert verdicts.sides([*once, *([[0.0, 1.0, -1.2]] * 5)], 0.95)[0] == OPEN


@pytest.mark.parametrize(
    ("low", "high", "figure", "verdict"),
    [
        (-12.8, 8.8, 4.0, "undecided"),  # wide for lack of data
        (2.1, 4.0, 4.0, "supported"),
        (2.0, 4.5, 4.0, "undecided"),  # not above half
        (2.1, 3.9, 4.0, "undecided"),  # does not reach it
        (2.1, 3.49, 4.0, "contradicted"),
        (2.1, 3.5, 4.0, "undecided"),  # the figure is rounded
        (NAN, NAN, 4.0, "undecided"),
    ],
)
def test_a_quoted_gain(low: float, high: float, figure: float, verdict: str) -> None:
    assert verdicts.quoted(Interval(NAN, low, high, NAN, 3), figure) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.9, -0.1, "a loss"),
        (-0.1, 0.49, "supported"),
        (0.2, 0.49, "supported"),
        (0.51, 0.9, "contradicted"),
        (0.4, 0.6, "undecided"),
        (NAN, NAN, "undecided"),
    ],
)
def test_a_gain_claimed_small(low: float, high: float, verdict: str) -> None:
    assert verdicts.small(between(low, high), 0.5) == verdict


def test_a_rival_length() -> None:
    better, alike, unclear = (
        Interval(NAN, low, high, p, 3) for low, high, p in ((0.1, 0.9, 0.01), (-0.1, 0.2, 0.5), (-0.1, 0.21, 0.5))
    )
    assert verdicts.rivals([better, alike, unclear], 0.2, 0.95)[0] == ["contradicted", "supported", "undecided"]
    barely = Interval(NAN, 0.1, 0.9, 0.04, 3)  # three rivals: 0.12 after Holm
    assert verdicts.rivals([barely, alike, unclear], 0.2, 0.95)[0][0] == "undecided"
    small = Interval(NAN, 0.1, 0.15, 0.001, 3)
    assert verdicts.rivals([small], 0.2, 0.95)[0] == ["supported"]


def test_the_gain_over_the_better_of_two_is_the_lowest_of_each_number() -> None:
    first, second = around(1.0, 0.5), around(2.0, 2.5)
    found = verdicts.gain_over_better([first, second], 0.95)
    assert (found.mean, found.n) == (1.0, 3)
    assert found.low == pytest.approx(-0.5, abs=1e-6)
    assert found.high == pytest.approx(1.5, abs=1e-6)
    assert found.p == pytest.approx(t_interval(second).p)  # the weaker evidence


def test_the_probability_of_improvement_over_the_better_of_two_is_the_lower_one() -> None:
    found = verdicts.lowest_share([[1, 2, 3, 4], [1, 1, -1, -1]], 0.95)
    assert (found.mean, found.n) == (0.5, 4)
    assert (found.low, found.high) == (pytest.approx(0.15004, abs=1e-5), pytest.approx(0.84996, abs=1e-5))


def test_cells_are_counted_against_the_bound() -> None:
    cells = [around(0.0, 0.1), around(1.0, 0.1), around(0.5, 0.1)]
    assert verdicts.small_in_cells(cells, 0.5, 0.95) == ["supported", "contradicted", "undecided"]


def test_deviations_are_from_each_methods_own_median() -> None:
    # medians 2 and 20: |1-2| - |10-20|, 0 - 0, |6-2| - |21-20|
    assert list(verdicts.deviations([1, 2, 6], [10, 20, 21])) == [-9, 0, 3]
    rng = np.random.default_rng(0)
    calm, wild = rng.normal(0, 0.2, 40), rng.normal(0, 1, 40)
    assert verdicts.steadier([verdicts.deviations(calm, wild)], 0.95) == ["supported"]
    assert verdicts.steadier([verdicts.deviations(wild, calm)], 0.95) == ["contradicted"]


NO = "not testable: no children"


@pytest.mark.parametrize(
    ("found", "overall", "most"),
    [
        (["supported", "supported, negligible"], "supported, negligible", "supported"),
        (["supported"] * 2, "supported", "supported"),
        (["supported", "supported", "contradicted"], "contradicted", "supported"),
        (["supported", "undecided"], "undecided", "undecided"),
        (["contradicted", "contradicted", NO], "contradicted", "contradicted"),
        (["a loss"], "a loss", "undecided"),
        (["supported", NO], "undecided", "undecided"),
        ([NO, NO], "not testable", "not testable"),
        (["undecided (n < 2)"], "undecided", "undecided"),
        ([], "undecided", "undecided"),
    ],
)
def test_overall_verdicts(found: list[str], overall: str, most: str) -> None:
    assert verdicts.overall(iter(found)) == overall
    assert verdicts.most(iter(found)) == most
