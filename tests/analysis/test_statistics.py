import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import children

from ssa.analysis import statistics
from ssa.analysis.statistics import Interval
from ssa.results.children import differences_to, pairs

NAN = math.nan


def of_parents(values: dict[int, list[float]]) -> pd.DataFrame:
    """A frame with a row for each child's value, by parent."""
    rows = [("a", seed, value) for seed, group in values.items() for value in group]
    return pd.DataFrame(rows, columns=["parent", "parent_seed", "value"])


def arrays(*groups: list[float]) -> list[np.ndarray]:
    return [np.array(group, dtype=float) for group in groups]


def test_t_interval_of_one_two_three():
    found = statistics.t_interval([1, 2, 3])
    # mean 2, standard error 1 / sqrt(3), t quantile 4.30265 at 2 degrees of freedom
    assert found.mean == 2
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert found.p == pytest.approx(0.074180, abs=1e-6)
    assert found.n == 3
    assert statistics.t_interval([1, 2, 3], 0.5).half_width == pytest.approx(0.816497 / math.sqrt(3), abs=1e-6)


@pytest.mark.parametrize("values", [[3.0], [0.5, 0.5], [93.1 - 92.6, 88.4 - 87.9], [0.0, 1e-15], [0.0, 0.0]])
def test_values_without_spread_have_no_interval(values):
    found = statistics.t_interval(values)
    assert (found.mean, found.n) == (pytest.approx(sum(values) / len(values)), len(values))
    assert all(math.isnan(bound) for bound in (found.low, found.high, found.p))


def test_nothing_has_no_mean():
    assert statistics.t_interval([]).n == 0


def test_children_are_averaged_within_their_parent_first():
    found = statistics.over_parents(of_parents({0: [1, 3], 1: [6], 2: [NAN]}), "value")
    # parents 2 and 6: mean 4, standard error 2, t quantile 12.7062 at 1 degree of freedom
    assert (found.mean, found.n) == (4, 2)
    assert found.half_width == pytest.approx(25.4124, abs=1e-4)


def test_equal_seeds_of_two_kinds_of_parents_are_two_parents():
    frame = pd.DataFrame({"parent": ["a", "b"], "parent_seed": [0, 0], "value": [1.0, 5.0]})
    assert statistics.over_parents(frame, "value").n == 2


def test_the_probability_of_improvement_counts_ties_half():
    # 2 of 4 above 0, one tie, which is one in spite of its rounding: (2 + 0.5) / 4
    found = statistics.share_above([0.3, 0.1, 93.1 - 92.6 - 0.5, -0.2])
    assert (found.mean, found.n) == (0.625, 4)
    assert statistics.share_above([]).n == 0


def test_wilsons_interval_by_hand():
    # z squared is 3.8415. All n above 0: from n / (n + 3.8415) to 1
    all_of_four = statistics.share_above([1, 2, 3, 4])
    assert (all_of_four.low, all_of_four.high) == (pytest.approx(4 / 7.8415, abs=1e-5), pytest.approx(1))
    none_of_four = statistics.share_above([-1, -2, -3, -4])
    assert (none_of_four.low, none_of_four.high) == (pytest.approx(0), pytest.approx(3.8415 / 7.8415, abs=1e-5))
    # a half of 4: 0.5 -+ sqrt(z2 (0.25 / 4 + z2 / 64)) / (1 + z2 / 4) = sqrt(0.47066) / 1.96036 = 0.34996
    half = statistics.share_above([1, 1, -1, -1])
    assert (half.low, half.high) == (pytest.approx(0.15004, abs=1e-5), pytest.approx(0.84996, abs=1e-5))
    # z is 0.67449 at 50%: from 4 / 4.45494
    assert statistics.share_above([1, 2, 3, 4], 0.5).low == pytest.approx(0.89788, abs=1e-5)


def test_holm_by_hand():
    # sorted 0.01 x 3, 0.03 x 2, 0.04 x 1, and never below the one before
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert list(statistics.holm([])) == []


def test_bootstrap_draws_parents_then_children_from_the_generator_it_is_given():
    # two parents of one child each: a resample's mean is 0, 0.5 or 1 with probabilities 1/4, 1/2, 1/4
    assert statistics.bootstrap_interval(arrays([0], [1]), np.random.default_rng(0)) == (0, 1)
    assert statistics.bootstrap_interval(arrays([0], [1]), np.random.default_rng(0), confidence=0.4) == (0.5, 0.5)
    groups = arrays([0, 1], [2, 5, 3], [4])
    first, again, other = (statistics.bootstrap_interval(groups, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again
    assert first != other
    generator = np.random.default_rng(1)
    assert statistics.bootstrap_interval(groups, generator) != statistics.bootstrap_interval(groups, generator)


def test_bootstrap_weighs_parents_equally_whatever_their_number_of_children():
    low, high = statistics.bootstrap_interval(arrays([0] * 9, [1]), np.random.default_rng(0), confidence=0.01)
    assert (low, high) == (0.5, 0.5)


def test_bootstrap_agrees_with_scipys_where_each_parent_has_one_child():
    values = np.random.default_rng(3).normal(size=30)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(0))
    ours = statistics.bootstrap_interval([values[[i]] for i in range(30)], np.random.default_rng(0), resamples=5000)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


def test_bootstrap_needs_two_parents():
    assert all(math.isnan(bound) for bound in statistics.bootstrap_interval(arrays([1, 2]), np.random.default_rng(0)))


def test_components_by_hand():
    # mean squares: within (2 + 2) / 2 = 2; between 2 (2^2 + 2^2) / 1 = 16; (16 - 2) / 2 = 7
    found = statistics.components(arrays([1, 3], [5, 7]))
    assert found.within == pytest.approx(math.sqrt(2))
    assert found.between == pytest.approx(math.sqrt(7))
    assert statistics.components(arrays([1, 3], [1, 3])).between == 0
    alone = statistics.components(arrays([1], [3]))
    assert math.isnan(alone.between)
    assert math.isnan(alone.within)


def test_components_of_unequal_groups():
    # within 2 / 1; grand mean 8/3; between 2 (2/3)^2 + (4/3)^2 = 8/3; n0 = 3 - 5/3 = 4/3; (8/3 - 2) / (4/3) = 1/2
    found = statistics.components(arrays([1, 3], [4]))
    assert found.within == pytest.approx(math.sqrt(2))
    assert found.between == pytest.approx(math.sqrt(0.5))


def test_variance_ratio_of_uncorrelated_pairs_by_hand():
    found = statistics.variance_ratio([-2, -2, 2, 2], [-1, 1, -1, 1])
    # F = 4, r = 0, t = 4.30265, K = 1 + t^2 = 19.5128, sqrt(K^2 - 1) = 19.4872; p = 1 - 0.6 at 2 degrees of freedom
    assert found.mean == pytest.approx(4)
    assert found.low == pytest.approx(4 * 0.025637, abs=1e-4)
    assert found.high == pytest.approx(4 * 39.0000, abs=1e-2)
    assert found.p == pytest.approx(0.4)
    assert found.n == 4


def test_variance_ratio_excludes_one_exactly_where_its_test_rejects():
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        shared = rng.normal(size=12)
        x, y = shared + rng.normal(size=12), shared + 0.3 * rng.normal(size=12)
        found = statistics.variance_ratio(x, y)
        rejects = found.p < 0.05
        outcomes.add(rejects)
        assert rejects == (not found.low <= 1 <= found.high)
    assert outcomes == {True, False}


def test_variance_ratio_of_equal_values_is_one():
    assert statistics.variance_ratio([1, 2, 4], [1, 2, 4]) == Interval(1, 1, 1, 1, 3)
    assert math.isnan(statistics.variance_ratio([1, 1, 1], [1, 2, 4]).mean)
    assert math.isnan(statistics.variance_ratio([1, 2], [2, 4]).mean)
    assert math.isnan(statistics.variance_ratio([1, 2, 4], [0.1 + 0.2, 0.3, 0.3]).mean)  # equal but for rounding


def test_interval_over_parents_covers_at_its_rate_and_one_over_children_does_not():
    rng = np.random.default_rng(0)
    runs, parents, each = 2000, 5, 4
    # parent sd 1, child sd 0.5: children of a parent are correlated
    values = rng.normal(size=(runs, parents, 1)) + 0.5 * rng.normal(size=(runs, parents, each))
    frames = (of_parents(dict(enumerate(run.tolist()))) for run in values[:400])
    quick = [statistics.over_parents(frame, "value") for frame in frames]
    means = [statistics.t_interval(run.mean(1)) for run in values]
    assert [found.low for found in quick] == pytest.approx([found.low for found in means[:400]])
    covered = np.mean([found.low <= 0 <= found.high for found in means])
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors of 2000 runs
    naive = [statistics.t_interval(run.ravel()) for run in values[:400]]
    assert np.mean([found.low <= 0 <= found.high for found in naive]) < 0.85


def test_variance_ratio_covers_at_its_rate():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2000, 20))
    x, y = shared + rng.normal(size=(2000, 20)), shared + 2 * rng.normal(size=(2000, 20))
    found = [statistics.variance_ratio(a, b) for a, b in zip(x, y, strict=True)]
    assert np.mean([r.low <= 2 / 5 <= r.high for r in found]) == pytest.approx(0.95, abs=0.015)


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 7)
    found, theirs = statistics.t_interval(values, 0.97), stats.ttest_1samp(values, 0)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.97)), abs=1e-14)
    assert found.p == pytest.approx(theirs.pvalue, abs=1e-14)


@pytest.mark.parametrize(
    ("bound", "levels", "printed"),
    [
        (-0.003, [0], "-0.003"),  # two decimals would say that the interval ends at 0
        (-0.0003, [0], "-0.0003"),
        (-0.00003, [0], "-0.0000"),
        (0.0, [0], "0.00"),
        (0.198, [0, 0.2], "0.198"),
        (0.2, [0, 0.2], "0.20"),
        (1.004, [1.0], "1.004"),
        (1.004, [0], "1.00"),
        (math.nan, [0], "nan"),
    ],
)
def test_a_bound_is_not_rounded_onto_what_it_is_judged_by(bound: float, levels: list[float], printed: str) -> None:
    assert f"{bound:.{statistics.decimals(bound, *levels)}f}" == printed


def test_pairs_share_all_but_the_method():
    frame = children(parents=2)
    paired = differences_to(frame[frame["reference"]], "one-shot")
    row = paired[(paired["method"] == "temperature") & (paired["criterion"] == "magnitude")].iloc[0]
    keys = ["parent_seed", "seed", "criterion", "sparsity", "lr_schedule"]
    same = (frame[keys] == row[keys]).all(axis=1) & (frame["method"] == "one-shot")
    assert same.sum() == 1
    assert row["difference"] == pytest.approx(row["accuracy"] - frame.loc[same, "accuracy"].item())
    assert "one-shot" not in set(paired["method"])
    assert "dense" not in set(paired["method"])


def test_a_pair_is_diverged_where_either_child_is():
    frame = children(parents=1)
    cell = (frame["sparsity"] == 50) & (frame["seed"] == 0) & (frame["criterion"] == "random")
    frame["diverged"] = cell & (frame["method"] == "one-shot") & (frame["lr_schedule"] == "constant")
    paired = differences_to(frame, "one-shot")
    marked = paired[paired["diverged"]]
    assert set(marked["lr_schedule"]) == {"constant"}
    assert sorted(marked["method"]) == ["expected", "iterative", "random", "temperature", "temperature-all"]


def test_children_that_the_record_cannot_tell_apart_are_refused():
    frame = children(parents=1)
    base = frame[frame["method"] == "one-shot"]
    with pytest.raises(pd.errors.MergeError):
        pairs(frame, pd.concat([base, base]))


@pytest.mark.parametrize(("p", "text"), [(0.00099, "< 0.001"), (0.001, "0.001"), (0.0495, "0.050"), (NAN, "–")])
def test_p_text(p, text):
    assert statistics.p_text(p) == text
