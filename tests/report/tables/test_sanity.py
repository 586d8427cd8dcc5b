"""Our numbers beside known ones, on small frames whose numbers can be checked by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import synthetic
import synthetic_ensembles

from ssa.analysis.claims.verdicts import UNDECIDED
from ssa.analysis.statistics import Interval
from ssa.report.tables.sanity import ABOVE, BELOW, NEAR, NOT_JUDGED, WITHIN, sanity, verdict

T5 = 2.570582  # the 97.5% quantile of Student's t at 5 degrees of freedom


def children(accuracy: float = 93.0, lost: float = 2.0, spread: float = 0.1, **columns: object) -> pd.DataFrame:
    """ResNet-18s with max-pool on all of CIFAR-10, their accuracies ``spread`` up and down, pruned at once.

    One-shot magnitude pruning to 90% costs parents ``lost`` points, or 0.01 more or less.
    """
    made = synthetic.children().assign(dataset="cifar10", model="resnet18-maxpool", train_images=50_000, augment=True)
    made["parent_accuracy"] = accuracy + spread * (2 * (made["parent_seed"] % 2) - 1)
    made["accuracy"] = made["parent_accuracy"] - lost - 0.01 * (made["parent_seed"] % 3 - 1)
    return made.assign(**columns)


def only(frame: pd.DataFrame, check: str) -> pd.Series:
    found = frame[frame["check"] == check]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize(
    ("mean", "low", "high", "said"),
    [
        (93.0, 92.0, 94.0, WITHIN),
        (92.5, 92.0, 93.0, WITHIN),  # the limits belong to what is known
        (92.4, 92.2, 92.6, UNDECIDED),
        (92.4, 92.3, 92.49, BELOW),
        (93.6, 93.51, 93.7, ABOVE),
        (93.6, 93.4, 93.8, UNDECIDED),
        (92.4, math.nan, math.nan, UNDECIDED),  # one run
        (93.0, math.nan, math.nan, WITHIN),
    ],
)
def test_where_an_interval_lies_beside_what_is_known(mean: float, low: float, high: float, said: str) -> None:
    assert verdict(Interval(mean, low, high, 0.5, 3), 92.5, 93.5) == said


def test_dense_parents_are_compared_with_known_networks() -> None:
    # six parents at 93 +- 0.1: sd 0.1 sqrt(6 / 5), half-width T5 sd / sqrt(6) = T5 0.1 / sqrt(5)
    row = only(sanity(children(), None).long, "dense parent (%)")
    assert (row["estimate"], row["n"]) == (pytest.approx(93.0), 6)
    assert row["high"] - row["estimate"] == pytest.approx(T5 * 0.1 / math.sqrt(5))
    assert (row["known_low"], row["known_high"]) == (pytest.approx(93.07 - NEAR), pytest.approx(93.07 + NEAR))
    assert row["verdict"] == WITHIN
    assert only(sanity(children(accuracy=91.0), None).long, "dense parent (%)")["verdict"] == BELOW


@pytest.mark.parametrize("other", [{"train_images": 45_000}, {"augment": False}, {"model": "resnet-small"}])
def test_parents_that_were_trained_otherwise_are_not(other: dict[str, object]) -> None:
    assert "dense parent (%)" not in set(sanity(children(**other), None).long["check"])


@pytest.mark.parametrize(("lost", "said"), [(2.0, WITHIN), (2.6, BELOW), (-1.0, WITHIN)])
def test_what_one_shot_pruning_by_magnitude_costs(lost: float, said: str) -> None:
    frame = children(lost=lost).query("lr_schedule == 'constant'")
    row = only(sanity(frame, None).long, "one-shot, magnitude, 90%, minus parent (points)")
    assert (row["estimate"], row["verdict"]) == (pytest.approx(-lost), said)
    assert "constant rate (0.01)" in row["arm"]


def test_random_masks_and_other_methods_are_not_held_to_it() -> None:
    frame = children()
    frame = frame[(frame["criterion"] != "magnitude") | (frame["method"] != "one-shot")]
    assert set(sanity(frame, None).long["check"]) == {"dense parent (%)"}


def test_ensembles_are_compared_with_published_ones_of_their_name_size_and_budget() -> None:
    made = synthetic_ensembles.ensembles().assign(train_images=50_000)
    made = made[made["model"] == "lenet-l"]
    rival = made["ensemble"] == "PAT (AR)"
    made.loc[rival, "accuracy"] = [75.75, 75.95, 75.55, 75.75, 75.75]
    made.loc[made["ensemble"] == "Bagged", "epochs"] = 32
    made.loc[made["ensemble"] == "PAT (R)", "members"] = 4
    found = sanity(children(train_images=1000), made).long.query("check == 'published ensemble (%)'").set_index("arm")
    assert list(found.index) == ["cifar10, lenet-l: Independent", "cifar10, lenet-l: PAT (AR)"]
    row = found.loc["cifar10, lenet-l: PAT (AR)"]
    assert (row["estimate"], row["n"], row["verdict"]) == (pytest.approx(75.75), 5, WITHIN)
    assert (row["known_low"], row["known_high"]) == (pytest.approx(75.63), pytest.approx(75.87))  # 2 SE of 0.06
    assert sanity(children(), made.assign(train_images=45_000)).long["check"].nunique() == 2


def test_the_printed_table_tells_what_the_numbers_do() -> None:
    table = sanity(children(lost=2.6).query("lr_schedule == 'constant'"), None)
    dense, pruned = table.parts[0].shown.to_dict("records")
    assert (dense["Ours"], dense["Known"], dense["n"]) == ("93.00 ± 0.11", "92.57 to 93.57", 6)
    assert (pruned["Ours"], pruned["Known"], pruned["Source"]) == ("−2.60 ± 0.01", "at least −2.50", "rule of thumb")
    assert pruned["Verdict"] == BELOW


def test_accuracies_quoted_from_the_paper_stand_beside_children_and_judge_nothing() -> None:
    frame = children(dataset="cifar100").query("criterion == 'magnitude' and lr_schedule == 'one-cycle'")
    found = sanity(frame, None)
    rows = found.long[found.long["check"] == "accuracy quoted from the paper (%)"]
    assert set(rows["verdict"]) == {NOT_JUDGED}
    mine = frame[(frame["method"] == "iterative") & (frame["sparsity"] == 98)]
    (row,) = rows[rows["arm"].str.contains("iterative, magnitude masks, 98%")].itertuples()
    assert (row.estimate, row.n) == (pytest.approx(mine.groupby("parent_id")["accuracy"].mean().mean()), 6)
    assert (row.known_low, row.known_high) == (56.4, 56.4)
    shown = found.parts[0].shown.query("Check == 'accuracy quoted from the paper (%)'")
    assert set(shown["Known"]) == {"56.40", "56.60"}
    assert "reviews" in set(shown["Source"])
