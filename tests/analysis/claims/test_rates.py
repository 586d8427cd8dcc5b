"""How often each rule of a claim errs, by simulation of the functions that write claims.csv; the seeds are fixed.

An interval at 95% should err in 2.5% of cases on each side. Of 10,000 cases that has a standard error of 0.16%,
of 4,000 of 0.25%: the bound of 3% below is at least two of them away.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from conftest import ROOT
from scipy import optimize, stats
from synthetic import children, history

from ssa.analysis.claims import verdicts
from ssa.analysis.claims.judge import judge_claims
from ssa.analysis.statistics import PARENT, t_interval

NS = (3, 4, 5, 12)
MOST = 0.03


def drawn(n: int, runs: int = 4000, sd: float = 1.0, mean: float = 0.0, cells: int = 1) -> np.ndarray:
    """float (runs, cells, n): differences of n parents in each of several cells."""
    return np.random.default_rng(n).normal(mean, sd, (runs, cells, n))


def rate(found: Iterable[object]) -> float:
    return float(np.mean([bool(one) for one in found]))


@pytest.mark.parametrize("n", NS)
def test_an_interval_errs_by_at_most_three_percent_on_each_side(n: int) -> None:
    found = [t_interval(x[0]) for x in drawn(n, 10_000)]
    assert rate(one.low > 0 for one in found) == pytest.approx(0.025, abs=0.005)
    assert rate(one.high < 0 for one in found) == pytest.approx(0.025, abs=0.005)
    look = [t_interval(x[0], 0.97) for x in drawn(n, 10_000)]
    assert rate(one.low > 0 for one in look) == pytest.approx(0.015, abs=0.004)


@pytest.mark.parametrize("n", NS)
@pytest.mark.parametrize("sd", [0.4, 1.9])
def test_a_gain_of_nothing_is_rarely_supported_and_one_of_the_smallest_size_rarely_contradicted(
    n: int, sd: float
) -> None:
    nothing = [verdicts.gain(x[0], 0.2, 0.95) for x in drawn(n, sd=sd)]
    assert rate(said.startswith("supported") for said in nothing) <= MOST
    pairs = [[verdicts.gain(x, 0.2, 0.95, 2) for x in both] for both in drawn(n, sd=sd, mean=0.2, cells=2)]
    assert rate(verdicts.overall(both) == "contradicted" for both in pairs) <= MOST
    against_both = [[verdicts.gain(x, 0.2, 0.95, 2) for x in both] for both in drawn(n, sd=sd, cells=2)]
    assert rate(verdicts.overall(both).startswith("supported") for both in against_both) <= 0.002  # both by chance


@pytest.mark.parametrize("n", [3, 4, 5])
def test_few_parents_hardly_ever_contradict_a_gain_of_nothing(n: int) -> None:
    for sd in (0.4, 1.0, 1.9):
        found = [verdicts.gain(x[0], 0.2, 0.95, 2) for x in drawn(n, sd=sd)]
        assert rate(said == "contradicted" for said in found) <= 0.09


@pytest.mark.parametrize(("shape", "between"), [(1.0, (0.08, 0.13)), (2.0, (0.05, 0.10))])
def test_strong_left_skew_supports_too_often(shape: float, between: tuple[float, float]) -> None:
    """A gamma distribution turned round, mean 0, skewness -2 or -1.4, as where some children collapse."""
    for n in (3, 4, 5, 12):
        x = shape - np.random.default_rng(n).gamma(shape, size=(4000, n))
        found = [t_interval(row) for row in x]
        assert between[0] <= rate(one.low > 0 for one in found) <= between[1]
        assert rate(one.high < 0 for one in found) <= 0.02


@pytest.mark.parametrize("n", NS)
def test_a_quoted_figure_is_not_supported_for_lack_of_data(n: int) -> None:
    nothing = [verdicts.quoted(t_interval(x[0]), 4.0) for x in drawn(n, sd=1.9)]
    assert rate(said == "supported" for said in nothing) <= 0.005
    true = [verdicts.quoted(t_interval(x[0]), 4.0) for x in drawn(n, sd=1.9, mean=4.0)]
    assert rate(said == "contradicted" for said in true) <= MOST
    two = [verdicts.quoted(t_interval(x[0]), 4.0) for x in drawn(2, sd=1.9)]
    assert rate(said == "supported" for said in two) <= 0.01


@pytest.mark.parametrize("n", NS)
def test_a_gain_claimed_small_errs_rarely_in_each_direction(n: int) -> None:
    at_bound = [verdicts.small(t_interval(x[0]), 0.5) for x in drawn(n, mean=0.5)]
    assert rate(said in ("supported", "a loss") for said in at_bound) <= MOST
    assert rate(said == "contradicted" for said in at_bound) <= MOST
    assert rate(verdicts.small(t_interval(x[0]), 0.5) == "a loss" for x in drawn(n)) <= MOST


@pytest.mark.parametrize("n", NS)
def test_lengths_that_are_all_alike_are_rarely_contradicted(n: int) -> None:
    rng = np.random.default_rng(n)
    wrong = []
    for accuracy in rng.normal(0, 0.7, (2000, 5, n)):  # two lengths named, three rivals
        found = [verdicts.gain_over_better([rival - best for best in accuracy[:2]], 0.95) for rival in accuracy[2:]]
        said, _ = verdicts.rivals(found, 0.2, 0.95)
        wrong.append(verdicts.overall(said) == "contradicted")
    assert rate(wrong) <= MOST


@pytest.mark.parametrize("n", NS)
def test_controls_as_good_as_ssa_are_rarely_beaten_all(n: int) -> None:
    def said(gains: np.ndarray) -> str:
        adjusted = verdicts.holm([t_interval(x).p for x in gains])
        each = zip(gains, adjusted, strict=True)
        return verdicts.overall(verdicts.gain(x, 0.2, 0.95, len(gains), p) for x, p in each)

    one_alike = drawn(n, 2000, cells=6) + np.array([0, 9, 9, 9, 9, 9])[:, None]
    assert rate(said(gains).startswith("supported") for gains in one_alike) <= MOST


@pytest.mark.parametrize("n", NS)
def test_cells_without_an_effect_rarely_say_anything(n: int) -> None:
    found = [verdicts.sides(cells, 0.95) for cells in drawn(n, 2000, cells=4)]
    assert rate(verdicts.ABOVE in one for one in found) <= MOST
    assert rate(verdicts.BELOW in one for one in found) <= MOST
    assert rate(verdicts.crossing(one) for one in found) <= 0.003
    counted = [verdicts.small_in_cells(cells, 0.5, 0.95) for cells in drawn(n, 2000, mean=0.5, cells=8)]
    assert rate("supported" in one for one in counted) <= MOST
    assert rate("contradicted" in one for one in counted) <= MOST
    assert rate(verdicts.most(one) != "undecided" for one in counted) == 0


def test_equal_spread_is_rarely_called_less_or_more() -> None:
    rng = np.random.default_rng(0)
    found = []
    for shared, mine, theirs in rng.normal(size=(1000, 3, 4, 40)):
        cells = [verdicts.deviations(s + a, s + b) for s, a, b in zip(shared, mine, theirs, strict=True)]
        found.append(verdicts.steadier(cells, 0.95))
    assert rate("supported" in one for one in found) <= 0.04  # two standard errors of 1,000 cases
    assert rate("contradicted" in one for one in found) <= 0.04


def test_the_verdict_in_the_table_is_that_of_the_functions_above() -> None:
    """Twenty records without an effect of SSA, judged as a record is, and by hand."""
    cell = {"sparsities": [95, 98], "lr_schedules": ["one-cycle"]}
    for seed in range(20):
        effects = {"iterative": -0.2 * (seed % 3), "temperature": 0.05 * (seed % 5)}
        frame = children(seed=seed, parents=3 + seed % 3, effects=effects)
        rows = judge_claims({"C1": cell}, frame, history(frame[:1]))
        said = []
        for baseline in ("one-shot", "iterative"):
            chosen = frame[(frame["criterion"] == "random") & (frame["lr_schedule"] == "one-cycle")]
            chosen = chosen[chosen["sparsity"].isin(cell["sparsities"])]
            means = chosen.groupby([*PARENT, "method"])["accuracy"].mean().unstack()  # as many children in each cell
            values = means["temperature"] - means[baseline]
            pooled = next(row for row in rows if row.role == "judged" and baseline.capitalize() in row.comparison)
            assert pooled.estimate == pytest.approx(values.mean())
            assert pooled.low == pytest.approx(t_interval(values).low)
            said.append(verdicts.gain(values, 0.2, 0.95, 2))
        assert [row.verdict for row in rows if row.role == "judged"] == said
        if not rows[-1].verdict.startswith("mixed"):
            assert rows[-1].verdict == verdicts.overall(said)


def power_row(n: int) -> list[float]:
    """The numbers of docs/rules.md for n parents: half an interval and the gain seen in 80% of studies, in standard
    deviations; and how often, in percent, a true gain of 0 is contradicted against one of two baselines.
    """
    t, strict, root = stats.t.ppf(0.975, n - 1), stats.t.ppf(1 - 0.05 / 4, n - 1), math.sqrt(n)
    missed: Callable[[float], float] = lambda gain: stats.nct.sf(t, n - 1, gain * root) - 0.8  # noqa: E731
    seen = optimize.brentq(missed, 0.01, 20)
    wrong = [100 * stats.nct.cdf(-strict, n - 1, -0.2 / sd * root) for sd in (0.4, 1.0, 1.9)]
    return [round(t / root, 2), round(seen, 2), *(round(one, 1) for one in wrong)]


def test_the_table_of_power_is_right() -> None:
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \|$", text, re.MULTILINE
    )
    assert [int(row[0]) for row in rows] == [3, 4, 5, 6, 8, 12, 40]
    for row in rows:
        assert [float(value) for value in row[1:]] == power_row(int(row[0]))
