import hashlib
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import special
from synthetic import children, history, study, write

from ssa.analysis.claims.judge import claims_in_markdown, judge_claims, write_claims
from ssa.analysis.claims.standing import standing
from ssa.analysis.claims.tests import TESTS
from ssa.analysis.claims.verdicts import deviations
from ssa.analysis.statistics import PARENT, t_interval
from ssa.errors import UserError
from ssa.report.record import Record
from ssa.report.write import write_verdicts
from ssa.study.claims import CLAIMS, percent, rule_of, settings_of_claim, validate_claims


def judged(section, frame=None, past=None):
    """The rows of claims.csv as a frame."""
    frame = children() if frame is None else frame
    past = history(frame) if past is None else past
    return pd.DataFrame([vars(row) for row in judge_claims(section, frame, past)])


def overall(rows):
    """By claim the verdict on its arm; on several arms, by claim and arm."""
    ends = rows[rows["role"] == "overall"]
    keys = ends["claim"] if ends["claim"].is_unique else ends["claim"] + ": " + ends["arm"]
    return dict(zip(keys, ends["verdict"], strict=True))


def compared(rows, role="judged"):
    return rows[rows["role"] == role]


def only(**verdicts):
    """A claims section with these claims alone."""
    return {"smallest_difference": 0.2, **verdicts}


def test_every_claim_has_a_test_and_the_shipped_section_is_valid():
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 11)] == list(TESTS)
    validate_claims(study()["claims"])
    validate_claims({})
    validate_claims({"C1": None, "cells": {"epochs": 20, "lr": {"one-cycle": 0.1}}})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"C11": {}}, r"^claims: unknown key 'C11'; did you mean 'C1'\? allowed: .*smallest_difference, confidence"),
        ({"C1": {"sparsity": [95]}}, r"^claims.C1: unknown key 'sparsity'; did you mean 'sparsities'\?"),
        ({"C1": {"small": 0.5}}, r"^claims.C1: unknown key 'small'"),
        (
            {"C3": {"sparsities": [95]}},
            r"^claims.C3: unknown key 'sparsities'; allowed: fixed, remark, ensembles, baselines$",
        ),
        (
            {"C1": {"sparsities": 95}},
            r"^claims.C1.sparsities: 95 is not allowed; allowed: a list, each once, of: float in \[1, 100\)$",
        ),
        ({"C1": {"sparsities": [0.95, 100]}}, r"^claims.C1.sparsities: \[0.95, 100\] is not allowed"),
        ({"C1": {"sparsities": [95, 95]}}, r"^claims.C1.sparsities: \[95, 95\] is not allowed"),
        ({"C1": {"sparsities": []}}, r"^claims.C1.sparsities: \[\] is not allowed"),
        (
            {"C1": {"baselines": ["oneshot"]}},
            r"^claims.C1.baselines: 'oneshot' is not allowed; .*one-shot, weight-rewinding, iterative",
        ),
        (
            {"C1": {"criteria": ["size"]}},
            r"^claims.C1.criteria: \['size'\] is not allowed; .*random, anti-random, magnitude, taylor, synflow$",
        ),
        ({"C1": {"lr_schedules": ["cosine"]}}, r"^claims.C1.lr_schedules: \['cosine'\] is not allowed; .*one-cycle"),
        ({"C1": {"stem": "none"}}, r"^claims.C1.stem: 'none' is not allowed; allowed: pruned, dense$"),
        ({"C1": {"parents": "small"}}, r"^claims.C1.parents: 'small' is not allowed; allowed: a list"),
        (
            {"C1": {"epochs": 2.5}},
            r"^claims.C1.epochs: 2.5 is not allowed; allowed: int, at least 1 or a list, each once, of: int, at",
        ),
        ({"C1": {"epochs": True}}, r"^claims.C1.epochs: True is not allowed"),
        ({"C1": {"lr": 0.1}}, r"^claims.C1.lr: 0.1 is not allowed; allowed: a mapping from .*one-cycle"),
        ({"C4": {"best": [0]}}, r"^claims.C4.best: \[0\] is not allowed"),
        ({"C5": {"quoted": {"linear": 4}}}, r"^claims.C5.quoted: unknown key 'linear'; did you mean 'step-linear'"),
        ({"C5": {"quoted": {"one-cycle": "4"}}}, r"^claims.C5.quoted.one-cycle: '4' is not allowed"),
        ({"C1": [95]}, r"^claims.C1: \[95\] is not allowed; allowed: a mapping of fixed, remark, parents, structure"),
        ({"C1": {"fixed": "yesterday"}}, r"^claims.C1.fixed: 'yesterday' is not allowed; allowed: a date such as"),
        ({"C1": {"exploratory": {}, "tuned": 1}}, r"^claims.C1.tuned: 1 is not allowed; allowed: bool$"),
        (
            {"C1": {"exploratory": [{"epoch": 1}]}},
            r"^claims.C1.exploratory\[0\]: unknown key 'epoch'; did you mean 'epochs'",
        ),
        ({"confidence": 95}, r"^claims.confidence: 95 is not allowed; allowed: float in \[0.5, 1\)$"),
        ({"looks": [4]}, r"^claims.confidence: 0.95 is not allowed; an interim look needs 0.97 or more$"),
        ({"smallest_difference": float("nan")}, r"^claims.smallest_difference: nan is not allowed"),
        ({"ssa": {"method": "ssa"}}, r"^claims.ssa.method: 'ssa' is not allowed"),
        ({"ssa": {"taus": 0.5}}, r"^claims.ssa: unknown key 'taus'; did you mean 'tau'\?"),
        ({"cells": {"best": [5]}}, r"^claims.cells: unknown key 'best'"),
    ],
)
def test_a_slip_in_the_section_is_refused_in_one_line(section, message):
    with pytest.raises(UserError, match=message) as caught:
        validate_claims(section)
    assert "\n" not in str(caught.value)


def test_names_that_the_study_knows_are_allowed():
    validate_claims({"C1": {"baselines": ["mine"]}}, methods=["mine"], parents=["small"])
    with pytest.raises(UserError, match=r"^claims.C1.parents: 'large' is not allowed; .*: small$"):
        validate_claims({"C1": {"parents": ["large"]}}, parents=["small"])


def test_checking_a_section_imports_neither_pandas_nor_scipy():
    code = "import sys, ssa.study.claims; print({'pandas', 'scipy', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert found.stdout.strip() == "set()"


def test_a_claims_own_keys_come_before_the_shared_ones():
    section = {"fixed": "2026-01-01", "cells": {"epochs": 20, "stem": "dense"}, "C9": {"epochs": 10}}
    found = settings_of_claim(section, "C9")
    assert (found["epochs"], found["stem"], found["criteria"], found["small"]) == (10, "dense", ("magnitude",), 0.5)
    assert found["fixed"] == "2026-01-01"
    assert settings_of_claim(section, "C9", {"epochs": 5})["fixed"] is None  # beside the arm that was fixed
    assert settings_of_claim({}, "C3") == {"ensembles": None, "baselines": None, "fixed": None, "remark": None}


def test_a_level_is_told_as_it_is():
    assert [percent(level) for level in (0.95, 0.97, 0.975, 0.995)] == ["95%", "97%", "97.5%", "99.5%"]


def test_rules_in_words_carry_the_studys_numbers():
    assert "below 0.3 points" in rule_of({"smallest_difference": 0.3}, "C2")
    assert "the interval at 1 − 0.03/k" in rule_of({"confidence": 0.97}, "C1")
    assert "one-sided at 0.015" in rule_of({"confidence": 0.97}, "C1")
    assert "below 0.7 points" in rule_of({"C9": {"small": 0.7}}, "C9")


def test_known_effects_give_the_verdicts_that_they_should():
    assert overall(judged(study()["claims"])) == {
        "C1": "supported",
        "C2": "supported",
        "C3": "not testable",
        "C4": "supported",
        "C5": "not testable",
        "C6": "supported",
        "C7": "supported",
        "C8": "not testable",
        "C9": "contradicted",
        "C10": "undecided",  # six parents are too few for 16 cells
    }


def test_a_pooled_number_is_the_mean_over_cells_within_each_parent():
    frame = children()
    rows = judged(only(C2={"sparsities": [95, 98], "lr_schedules": ["constant"]}), frame)
    pooled, *cells = rows.itertuples()
    chosen = frame[
        frame["sparsity"].isin([95, 98]) & (frame["lr_schedule"] == "constant") & (frame["criterion"] == "random")
    ]
    means = chosen.groupby([*PARENT, "sparsity", "method"])["accuracy"].mean().unstack()
    by_cell = (means["temperature"] - means["random"]).unstack()
    interval = t_interval(by_cell.mean(axis=1))
    assert pooled.comparison == "SSA temperature minus SSA random: mean over 2 cells"
    assert (pooled.estimate, pooled.low, pooled.high) == pytest.approx((interval.mean, interval.low, interval.high))
    assert (pooled.role, pooled.n, pooled.arm) == ("judged", 6, "small, random masks, 95 and 98%")
    assert [cell.comparison for cell in cells[:2]] == [
        "SSA temperature minus SSA random: 95%, constant rate",
        "SSA temperature minus SSA random: 98%, constant rate",
    ]
    assert [cell.estimate for cell in cells[:2]] == pytest.approx(list(by_cell.mean()))
    assert [cell.verdict for cell in cells[:2]] == ["above 0", "above 0"]


def test_cells_count_alike_however_many_children_they_have():
    frame = children()
    cell = {"sparsities": [95, 98], "lr_schedules": ["constant"]}
    fewer = frame[(frame["seed"] == 0) | (frame["sparsity"] != 98)]
    rows = judged(only(C2=cell), fewer)
    assert rows["estimate"].iloc[0] == pytest.approx(rows["estimate"].iloc[1:3].mean())


def test_a_single_cell_is_the_pooled_number():
    rows = judged(only(C2={"sparsities": [98], "lr_schedules": ["constant"]}))
    assert list(rows["role"]) == ["judged", "overall"]
    assert rows["comparison"].iloc[0] == "SSA temperature minus SSA random: 98%, constant rate"


def test_criteria_and_numbers_of_epochs_are_arms_of_their_own():
    frame = children()
    both = pd.concat([frame, frame.assign(epochs=10, child_id=frame["child_id"] + "-short")])
    section = {"C1": {"sparsities": [95], "criteria": ["random", "magnitude"], "epochs": [10, 20]}}
    validate_claims(section)
    rows = judged(section, both, history(both))
    assert list(dict.fromkeys(rows["arm"])) == [
        f"small, {criterion} masks, 95%, {epochs} epochs"
        for criterion in ("random", "magnitude")
        for epochs in (10, 20)
    ]
    mixed = judged({"C1": {"sparsities": [95]}}, both, history(both))
    assert set(compared(mixed)["verdict"]) == {"not testable: several recipes, epochs 10, 20; the claim must name one"}


def test_a_loss_to_one_baseline_contradicts_whatever_the_gain_over_the_other():
    frame = children(effects={"temperature": 1.0, "iterative": 2.0})
    rows = judged(only(C1={}), frame)
    assert list(compared(rows)["verdict"]) == ["supported", "contradicted"]
    assert overall(rows) == {"C1": "contradicted"}


def test_cells_on_both_sides_of_zero_make_an_arm_mixed_and_are_named():
    frame = children()
    lost = (frame["method"] == "temperature") & (frame["sparsity"] == 98)
    frame.loc[lost, "accuracy"] -= 4
    rows = judged(only(C1={"lr_schedules": ["one-cycle"]}), frame)
    assert overall(rows) == {
        "C1": "mixed: above 0 in SSA temperature minus One-shot: 95%, one-cycle rate; "
        "below 0 in SSA temperature minus One-shot: 98%, one-cycle rate"
    }
    assert "A loss in SSA temperature minus One-shot: 98%, one-cycle rate: −2." in rows["note"].iloc[-1]


def test_a_cell_that_lies_above_zero_and_fails_holm_is_not_said_to_lie_on_both_sides():
    frame = children(parents=4)
    base = frame[(frame["method"] == "one-shot") & (frame["criterion"] == "random") & (frame["sparsity"] >= 95)]
    base = base[base["lr_schedule"] == "constant"].sort_values(["sparsity", "parent_seed"])
    gains = np.repeat([0.4, 1.0, 1.6, 2.2, -0.8, 0.9, 0.4, -0.5], 2)  # p = 0.044 at 95%, 0.088 after Holm
    made = [base.assign(method="random", reference=True)]
    made += [base.assign(method="temperature", accuracy=base["accuracy"] + gains, reference=True)]
    found = {n: compared(judged(only(C2={}), pd.concat(made).query(f"parent_seed < {n}")), "cell") for n in (4, 1)}
    assert list(found[4]["low"] > 0) == [True, False]
    assert list(found[4]["verdict"]) == ["undecided after Holm"] * 2
    assert list(found[1]["verdict"]) == ["undecided (n < 2)"] * 2


def test_a_cell_that_is_named_and_was_not_run_leaves_nothing_to_pool():
    rows = judged(only(C1={"sparsities": [97, 98]}))
    assert set(compared(rows)["verdict"]) == {"not testable: no children of SSA temperature"}
    assert set(compared(rows, "cell")["verdict"]) == {"above 0", "not testable: no children of SSA temperature"}
    assert overall(rows) == {"C1": "not testable"}


def test_values_that_were_run_but_not_together_make_no_cell():
    frame = children()
    fewer = frame[(frame["lr_schedule"] == "one-cycle") | (frame["sparsity"] == 98)]
    rows = judged(only(C2={}), fewer)
    assert len(compared(rows, "cell")) == 5  # four sparsities with one-cycle, one with the constant rate
    assert overall(rows) == {"C2": "supported"}


@pytest.mark.parametrize("claim", ["C8", "C10"])
def test_a_claim_about_cells_that_were_not_run_together_is_not_testable(claim):
    frame = children()
    frame = frame[(frame["sparsity"] == 98) != (frame["lr_schedule"] == "constant")]
    rows = judged(only(**{claim: {"sparsities": [98], "lr_schedules": ["constant"]}}), frame)
    assert list(rows["verdict"]) == ["not testable: no cell was run", "not testable"]


def test_every_parent_needs_every_cell():
    frame = children()
    lacks = (frame["parent_seed"] == 0) & (frame["sparsity"] == 95) & (frame["method"] == "temperature")
    rows = judged(only(C2={"sparsities": [95, 98]}), frame[~lacks])
    assert compared(rows)["n"].item() == 5
    assert list(compared(rows, "cell")["n"]) == [5, 6, 5, 6]


def test_each_judged_comparison_has_its_probability_of_improvement():
    # 1.4 to 1.5 points with a noise of 0.1 over parents: all six are above 0, so from 6 / (6 + 3.8415) at 95%
    rows = compared(judged(study()["claims"]))
    first = rows[rows["claim"] == "C1"]
    assert list(first["group"]) == ["one-shot", "iterative"]
    assert list(first["better"]) == [1, 1]
    assert list(first["better_low"]) == pytest.approx([6 / 9.8415] * 2, abs=1e-4)
    assert rows.loc[rows["estimate"].notna(), "better"].between(0, 1).all()
    assert rows.loc[rows["estimate"].isna(), "better"].isna().all()


def test_a_probability_of_improvement_is_over_parents_not_over_their_children():
    frame = children(effects={"temperature": 0.8})
    cell = {"sparsities": [95, 98], "lr_schedules": ["constant"]}
    row = judged(only(C2=cell), frame).iloc[0]
    at = frame["sparsity"].isin([95, 98]) & (frame["lr_schedule"] == "constant") & (frame["criterion"] == "random")
    means = frame[at].groupby([*PARENT, "method"])["accuracy"].mean().unstack()
    assert row["better"] == (means["temperature"] > means["random"]).mean()
    assert 0 < row["better"] < 1


def test_few_parents_are_said_beside_what_is_undecided():
    rows = judged(only(C2={"sparsities": [98]}), children(parents=3, effects={"temperature": 0.8}))
    assert overall(rows) == {"C2": "undecided"}
    assert "With n of 5 or fewer, a true gain of 0 is hardly ever called contradicted" in rows["note"].iloc[-1]
    assert "With n = 3 the interval reaches up to" in rows["note"].iloc[-1]


def test_the_best_length_of_annealing():
    # the invented children lose 0.6 points at e = 1, and nothing else depends on e
    cell = {"sparsities": [90], "lr_schedules": ["one-cycle"]}
    rows = judged(only(C4={"best": [5, 10], **cell}))
    assert list(compared(rows)["comparison"]) == ["e = 1 minus the better of e = 5, 10: 90%, one-cycle rate"]
    assert compared(rows)["estimate"].item() == pytest.approx(-0.6, abs=0.15)
    assert overall(rows) == {"C4": "supported"}
    assert overall(judged(only(C4={"best": [1], **cell}))) == {"C4": "contradicted"}


def test_a_rival_must_beat_the_better_of_the_best_lengths():
    # e = 10 beats e = 1 by 0.6 points, but not e = 5
    rows = compared(judged(only(C4={"best": [1, 5], "sparsities": [90], "lr_schedules": ["one-cycle"]})))
    row = rows.iloc[0]
    assert row["comparison"].startswith("e = 10 minus")
    assert row["estimate"] == pytest.approx(0, abs=0.2)
    assert row["low"] < 0
    assert row["verdict"] == "supported"


def test_the_best_length_needs_the_lengths():
    rows = judged(only(C4={"best": [5, 7], "sparsities": [90], "lr_schedules": ["one-cycle"]}))
    assert set(compared(rows)["verdict"]) == {"not testable: no children at e = 7"}
    alone = judged(only(C4={"best": [5, 10], "sparsities": [95], "lr_schedules": ["one-cycle"]}))
    assert set(compared(alone)["verdict"]) == {"not testable: no other length of annealing"}


@pytest.mark.parametrize(("quoted", "verdict"), [(1.5, "supported"), (1.0, "undecided"), (4.0, "contradicted")])
def test_a_quoted_gain_of_its_network_and_data(quoted, verdict):
    frame = children().assign(dataset="cifar100", model="resnet18")
    frame.loc[frame["method"] == "temperature", "accuracy"] -= 0.03 * frame["parent_seed"]
    rows = judged(only(C5={"quoted": {"one-cycle": quoted}}), frame, history(frame))
    row = compared(rows).iloc[0]
    assert row["comparison"].endswith(f"98%, one-cycle rate; quoted +{quoted:g}")
    expected = (
        "supported"
        if row["low"] > quoted / 2 and row["high"] >= quoted
        else "contradicted"
        if row["high"] < quoted - 0.5
        else "undecided"
    )
    assert overall(rows) == {"C5": expected}
    assert verdict in (expected, "undecided")


def test_lengths_that_no_parent_has_all_of_are_not_testable():
    frame = children(parents=2)
    frame = frame[(frame["lr_schedule"] == "one-cycle") & (frame["sparsity"] == 90)]
    first = frame["parent_seed"] == frame["parent_seed"].min()
    rows = judged(
        only(C4={"best": [5, 10], "sparsities": None}), frame.assign(sparsity=first.map({True: 80, False: 90}))
    )
    assert set(compared(rows)["verdict"]) == {"not testable: no parent has every cell"}


def test_a_quoted_gain_is_not_testable_on_another_network():
    rows = judged(only(C5={"quoted": {"one-cycle": 4.0}}))
    assert compared(rows)["verdict"].item() == "not testable: quoted of ResNet-18 on CIFAR-100, not of digits"
    assert compared(rows)["estimate"].item() == pytest.approx(1.5, abs=0.3)  # shown all the same
    assert overall(rows) == {"C5": "not testable"}


def test_the_drop_is_of_the_network_as_it_is_used_and_averaged_over_the_epochs_of_annealing():
    frame = children()
    past = history(frame)
    cell = {"sparsities": [98], "lr_schedules": ["constant"]}
    rows = judged(only(C6=cell), frame, past)
    drops = {}
    for method in ("one-shot", "temperature", "iterative"):
        mine = frame[(frame["method"] == method) & (frame["sparsity"] == 98) & (frame["lr_schedule"] == "constant")]
        mine = mine[mine["criterion"] == "random"]
        used = past[past["child_id"].isin(mine["child_id"])].groupby("epoch")["test_accuracy_used"].mean()
        drops[method] = mine["parent_accuracy"].mean() - used[:6]  # epochs 0 to 5
    judged_row = compared(rows).iloc[0]
    assert judged_row["comparison"] == "drop of One-shot minus drop of SSA temperature: 98%, constant rate"
    assert judged_row["estimate"] == pytest.approx((drops["one-shot"] - drops["temperature"]).mean())
    beside = compared(rows, "beside").set_index(["measure", "comparison"])["estimate"]
    for epochs, words in (
        (slice(0, 0), " before the first step"),
        (slice(1, 5), ", epochs 1 to e"),
        (slice(5, 5), " at epoch e"),
    ):
        for method, name in (("one-shot", "One-shot"), ("iterative", "Iterative")):
            found = beside[
                f"difference in the drop{words} (points)",
                f"drop of {name} minus drop of SSA temperature: 98%, constant rate",
            ]
            assert found == pytest.approx((drops[method] - drops["temperature"]).loc[epochs].mean())
    assert beside[
        "difference in the drop (points)", "drop of Iterative minus drop of SSA temperature: 98%, constant rate"
    ] == (pytest.approx((drops["iterative"] - drops["temperature"]).mean()))
    target = past.assign(test_accuracy=-100.0)  # that of the target judges nothing
    pd.testing.assert_frame_equal(rows, judged(only(C6=cell), frame, target))


def test_a_drop_that_is_shared_out_is_no_gain():
    """SSA loses 12 points in each epoch, one-shot 72 before the first step and nothing after: the same mean."""
    frame = children()
    past = history(frame)
    one_shot = past["child_id"].isin(frame.loc[frame["method"] == "one-shot", "child_id"])
    parent = past["child_id"].map(frame.set_index("child_id")["parent_accuracy"])
    noise = past["child_id"].map(
        dict(zip(frame["child_id"], np.random.default_rng(0).normal(0, 1, len(frame)), strict=True))
    )
    lost = pd.Series(12.0, index=past.index).where(~one_shot, (past["epoch"] == 0) * 72.0)
    rows = judged(only(C6={"sparsities": [98]}), frame, past.assign(test_accuracy_used=parent - lost + noise))
    assert overall(rows)["C6"] != "supported"
    assert compared(rows)["estimate"].item() == pytest.approx(0, abs=1.5)


def test_the_drop_needs_scores_at_every_epoch():
    frame = children(parents=2)
    cell = {"sparsities": [98], "lr_schedules": ["constant"]}
    without = history(frame).drop(columns="test_accuracy_used")
    reason = "not testable: the network as training uses it was not scored (score_used)"
    assert judged(only(C6=cell), frame, without).iloc[0]["verdict"] == reason
    past = history(frame)
    holes = past.assign(test_accuracy_used=past["test_accuracy_used"].where(past["epoch"] != 3))
    assert judged(only(C6=cell), frame, holes).iloc[0]["verdict"] == "not testable: no pairs of children with scores"


def test_a_child_that_diverged_counts_in_the_drop_at_the_accuracy_that_it_has_left():
    frame = children()
    past = history(frame)
    cell = {"sparsities": [98], "lr_schedules": ["constant"]}
    lost = frame[(frame["method"] == "temperature") & (frame["sparsity"] == 98) & (frame["lr_schedule"] == "constant")]
    lost = lost[(lost["criterion"] == "random") & (lost["parent_seed"] == lost["parent_seed"].min())]
    ill = frame.assign(
        diverged=frame["child_id"].isin(lost["child_id"]),
        accuracy=frame["accuracy"].where(~frame["child_id"].isin(lost["child_id"]), 10.0),
    )
    seen = past[~(past["child_id"].isin(lost["child_id"]) & (past["epoch"] > 1))]
    rows = compared(judged(only(C6=cell), ill, seen)).iloc[0]
    whole = past.assign(  # the same, had it been scored at 10% in each epoch after
        test_accuracy_used=past["test_accuracy_used"].where(
            ~(past["child_id"].isin(lost["child_id"]) & (past["epoch"] > 1)), 10.0
        )
    )
    assert rows["estimate"] == pytest.approx(compared(judged(only(C6=cell), ill, whole)).iloc[0]["estimate"])
    assert rows["n"] == compared(judged(only(C6=cell), frame, past)).iloc[0]["n"]


def test_controls_are_those_that_were_run_and_temperature_on_all_weights():
    frame = children()
    section = only(C7={"sparsities": [98], "lr_schedules": ["constant"]})
    rows = compared(judged(section, frame))
    assert list(rows["comparison"].str.split(" minus |:", regex=True).str[1]) == [
        "SSA temperature, all weights",
        "Expected mask (no sampling)",
    ]
    assert rows["p_holm"].min() == pytest.approx(2 * rows["p"].min())
    without = judged(section, frame[frame["method"] != "temperature-all"])
    assert without.iloc[0]["verdict"] == "not testable: no children of SSA temperature, all weights"


def test_a_control_whose_interval_lies_above_zero_but_fails_holm_is_undecided():
    frame = children(parents=4)
    rng = np.random.default_rng(1)
    base = frame[(frame["method"] == "one-shot") & (frame["criterion"] == "random") & (frame["sparsity"] == 98)]
    base = base[base["lr_schedule"] == "constant"]
    gains = np.repeat([0.4, 1.0, 1.6, 2.2], 2)  # mean 1.3, standard error 0.387, p = 0.044
    made = [base.assign(method="temperature", accuracy=base["accuracy"] + gains, reference=True)]
    made += [base.assign(method=name, reference=True) for name in ("expected", "frozen")]
    made[2]["accuracy"] += np.repeat(rng.normal(0, 0.01, 4), 2)
    rows = compared(judged(only(C7={"baselines": ["expected", "frozen"], "sparsities": [98]}), pd.concat(made)))
    assert (rows["low"] > 0).all()
    assert set(rows["verdict"]) == {"undecided"}


def test_stability_needs_forty_parents_and_shows_the_ratio_before():
    section = only(C8={"sparsities": [98], "lr_schedules": ["constant"], "baselines": ["one-shot"]})
    rows = judged(section)
    assert overall(rows) == {"C8": "not testable"}
    assert compared(rows)["verdict"].item().startswith("not testable: 6 parents; 40 are needed")
    assert compared(rows, "beside")["measure"].item() == "ratio of variances"
    frame = children(parents=40)
    calm = frame["method"] == "temperature"
    frame.loc[calm, "accuracy"] = 80 + 0.2 * (frame.loc[calm, "accuracy"] - 80)
    rows = judged(section, frame)
    chosen = frame[(frame["sparsity"] == 98) & (frame["lr_schedule"] == "constant") & (frame["criterion"] == "random")]
    means = chosen.groupby([*PARENT, "method"])["accuracy"].mean().unstack()
    assert compared(rows)["estimate"].item() == pytest.approx(
        deviations(means["temperature"], means["one-shot"]).mean()
    )
    assert overall(rows) == {"C8": "supported (against One-shot only)"}
    assert compared(rows, "beside")["estimate"].item() == pytest.approx(0.04, abs=0.02)


def test_magnitude_masks_are_judged_against_iterative_and_a_loss_is_said_first():
    assert overall(judged(only(C9={}))) == {"C9": "contradicted"}  # 1.4 points over iterative
    assert overall(judged(only(C9={"small": 2.5}))) == {"C9": "supported"}
    rows = judged(only(C9={}), children(effects={"iterative": 3.0}))
    assert overall(rows) == {"C9": "a loss"}
    assert rows["note"].iloc[-1].count("A loss in SSA temperature minus Iterative:") == 8
    assert compared(rows, "beside")["measure"].item() == "gain over one-shot (points)"


def test_iterative_is_judged_by_most_cells():
    frame = children(parents=20)
    better = (frame["method"] == "iterative") & (frame["sparsity"] == 98)
    frame.loc[better, "accuracy"] += 3
    rows = judged(only(C10={}), frame)
    verdicts = list(compared(rows)["verdict"])
    assert len(verdicts) == 16  # two criteria, two learning-rate schedules, four sparsities
    assert verdicts.count("contradicted") == 4
    assert overall(rows) == {"C10": "supported"}


def test_a_p_is_against_what_a_row_is_judged_by_so_that_holm_never_lowers_it():
    frame, section = children(parents=3), study()["claims"]
    rows = judge_claims(section, frame, history(frame))
    cells = pd.DataFrame([vars(row) for row in rows if row.claim == "C10" and row.role == "judged"])
    error = (cells["high"] - cells["low"]) / 2 / special.stdtrit(2, 0.975)
    expected = 2 * special.stdtr(2, -(cells["estimate"] - 0.5).abs() / error)
    assert list(cells["p"]) == pytest.approx(list(expected))
    known = [row for row in rows if row.p_holm == row.p_holm and row.p == row.p]
    assert {row.claim for row in known} == {"C1", "C2", "C4", "C6", "C7", "C9", "C10"}
    assert all(row.p_holm >= row.p - 1e-12 for row in known)
    text = claims_in_markdown(section, rows)
    assert text.count(" (against 0.5) |") == 16 + 1  # C10's cells, and C9
    assert " (against 4) | – |" in text


def test_one_parent_is_undecided():
    rows = judged(only(C1={}, C2={}, C9={}), children(parents=1))
    assert set(compared(rows)["verdict"]) == {"undecided (n < 2)"}
    assert set(overall(rows).values()) == {"undecided"}


def test_a_claim_against_a_part_of_what_it_is_about_says_so():
    rows = judged(only(C1={"baselines": ["one-shot"], "sparsities": [98], "lr_schedules": ["one-cycle"]}))
    assert overall(rows) == {"C1": "supported (against One-shot only)"}
    both = judged(only(C1={"sparsities": [98], "lr_schedules": ["one-cycle"]}))
    assert "only" not in overall(both)["C1"]


def test_augmented_children_and_others_are_no_one_arm():
    frame = children()
    frame.loc[frame["parent_seed"] == 0, "augment"] = ~frame["augment"]
    rows = judged(only(C2={"sparsities": [98]}), frame)
    assert set(compared(rows)["verdict"]) == {
        "not testable: augmented children and others; they must be of kinds of parents of their own"
    }


def test_several_recipes_are_refused_unless_the_claim_names_one():
    frame = children()
    swept = frame[frame["lr_schedule"] == "one-cycle"].assign(lr=0.2, accuracy=50.0)
    both = pd.concat([frame, swept], ignore_index=True)
    cell = {"sparsities": [98], "lr_schedules": ["one-cycle"]}
    rows = judged(only(C2=cell), both, history(frame))
    assert rows.iloc[0]["verdict"] == "not testable: several recipes, lr 0.1, 0.2; the claim must name one"
    named = judged(only(C2={**cell, "lr": {"one-cycle": 0.1}}), both, history(frame))
    alone = judged(only(C2=cell), frame)
    assert named["comparison"].iloc[0] == f"{alone['comparison'].iloc[0]}, peak rate 0.1"  # said where there are others
    pd.testing.assert_frame_equal(named.drop(columns="comparison"), alone.drop(columns="comparison"))


def test_tuned_methods_are_compared_each_at_the_rate_that_is_best_on_validation_images():
    frame = children()
    cell = {"sparsities": [98], "lr_schedules": ["one-cycle"], "baselines": ["one-shot"]}
    faster = frame[frame["lr_schedule"] == "one-cycle"].assign(lr=0.2)
    gains = faster["method"].map({"one-shot": 1.0, "temperature": -1.0}).fillna(0)
    faster = faster.assign(accuracy=faster["accuracy"] + 5, validation_accuracy=faster["validation_accuracy"] + gains)
    rows = judged(only(C1={**cell, "tuned": True}), pd.concat([frame, faster], ignore_index=True), history(frame))
    plain = judged(only(C1=cell), frame)
    assert rows["arm"].iloc[0] == "small, random masks, 98%, each method at its tuned rate"
    assert rows["estimate"].iloc[0] == pytest.approx(plain["estimate"].iloc[0] - 5)  # one-shot at 0.2, SSA at 0.1


def test_of_rates_that_are_equally_good_the_lowest_is_taken():
    frame = children()
    cell = {"sparsities": [98], "lr_schedules": ["one-cycle"], "tuned": True}
    faster = frame[frame["lr_schedule"] == "one-cycle"].assign(lr=0.2)
    twice = pd.concat([frame, faster.assign(accuracy=faster["accuracy"] - 5)], ignore_index=True)
    rows = judged(only(C1=cell), twice, history(frame))
    pd.testing.assert_frame_equal(rows, judged(only(C1=cell), frame))


def test_ablation_variants_do_not_stand_for_ssa():
    cell = {"sparsities": [90], "lr_schedules": ["one-cycle"]}
    frame = children()
    rows = judged(only(C2=cell), frame)
    pd.testing.assert_frame_equal(rows, judged(only(C2=cell), frame[frame["reference"]]))


def test_arms_are_judged_apart():
    frame = pd.concat([children(seed=0), children(seed=1, effects={"temperature": -1.0}).assign(parent="worse")])
    rows = judged(only(C1={}), frame.reset_index(drop=True), history(children()))
    assert overall(rows) == {
        "C1: small, random masks, 95 and 98%": "supported",
        "C1: worse, random masks, 95 and 98%": "contradicted",
    }
    assert set(judged(only(C1={"parents": ["small"]}), frame)["arm"]) == {"small, random masks, 95 and 98%"}
    absent = judged(only(C2={"parents": ["other"]}), frame)
    assert list(absent["comparison"]) == ["SSA temperature minus SSA random: all", "overall"]
    assert list(absent["verdict"]) == ["not testable: no children of SSA temperature", "not testable"]


def test_how_sparsity_is_spread_is_said_where_the_arm_has_other_ways_too():
    frame = children()
    rows = judged(only(C2={"sparsities": [98], "lr_schedules": ["constant"]}), frame)
    assert rows["comparison"].iloc[0].endswith(": 98%, constant rate")
    several = pd.concat([frame, frame.assign(allocation="erk")], ignore_index=True)
    rows = judged(only(C2={"sparsities": [98], "lr_schedules": ["constant"]}), several, history(frame))
    assert rows["comparison"].iloc[0].endswith(": 98%, constant rate, layerwise allocation, pruned stem")


def test_exploratory_arms_stand_beside_the_one_that_was_fixed():
    section = only(
        C1={"sparsities": [98], "fixed": "2026-01-02", "remark": "So it was", "exploratory": [{"sparsities": [95]}]}
    )
    validate_claims(section)
    rows = pd.DataFrame(
        [vars(row) for row in judge_claims(section, children(), history(children()), None, "2026-01-02T03")]
    )
    ends = rows[rows["role"] == "overall"]
    assert list(ends["standing"]) == [
        "confirmatory: fixed on 2026-01-02, before the first run",
        "exploratory: beside the arm that was named beforehand",
    ]
    assert list(ends["note"]) == ["So it was", ""]


def test_a_rule_that_came_after_the_runs_is_exploratory():
    assert standing({"fixed": "2026-01-02"}, "2026-01-01T23:59:59+00:00", False).startswith(
        "exploratory: its rule is of"
    )
    assert standing({"fixed": None}, "2026-01-01T23:59:59+00:00", False).startswith(
        "exploratory: its rule was not fixed"
    )


def test_files(tmp_path):
    results = write(tmp_path / "results")
    (results / "earlier_verdicts.csv").write_text(
        "claim,arm,verdict,changed\nC2,small,undecided,2024-02-03\n", encoding="utf-8"
    )
    write_verdicts(Record(results), tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "claims.csv")
    assert list(frame["claim"].unique()) == list(CLAIMS)
    assert list(frame.columns[-8:]) == ["n", "p", "p_holm", "against", "verdict", "standing", "note", "earlier"]
    judged_by = frame[frame["role"] == "judged"].dropna(subset="estimate").groupby("claim")["against"].agg(set)
    assert (judged_by["C1"], judged_by["C9"]) == ({0.0}, {0.5})
    assert judged_by["C5"] == {4.0, 6.0}
    assert frame["earlier"].dropna().tolist() == ["by the rule until 2024-02-03: undecided"]
    text = (tmp_path / "out" / "claims.md").read_text(encoding="utf-8")
    assert "## C1: SSA ends more accurate" in text
    assert "**small, random masks, 95 and 98%: supported**. Exploratory: its rule was not fixed" in text
    assert "By the rule until 2024-02-03: undecided." in text
    assert "| ensembles | all | – | 0 | – | – | not testable: no ensembles in this study |" in text
    assert text.endswith("\nHardware: test device.\n")
    first = [(tmp_path / "out" / name).read_bytes() for name in ("claims.csv", "claims.md")]
    write_verdicts(Record(results), tmp_path / "again")
    assert first == [(tmp_path / "again" / name).read_bytes() for name in ("claims.csv", "claims.md")]


def test_every_page_of_claims_names_the_rules_by_their_digest(tmp_path):
    results = write(tmp_path / "results")
    write_verdicts(Record(results), tmp_path)
    digest = hashlib.sha256((ROOT / "docs" / "rules.md").read_bytes()).hexdigest()
    assert f"docs/rules.md, SHA-256 `{digest}`" in (tmp_path / "claims.md").read_text(encoding="utf-8")


def test_a_study_without_claims_says_so(tmp_path):
    results = write(tmp_path / "results")
    (results / "study.json").write_text(json.dumps({**study(), "claims": {}}), encoding="utf-8")
    record = Record(results)
    write_claims({}, record.judged, record.children, tmp_path)
    assert pd.read_csv(tmp_path / "claims.csv").empty
    assert "This study tests no claims." in (tmp_path / "claims.md").read_text(encoding="utf-8")


def test_a_claim_of_a_study_without_children_is_not_testable():
    frame = children()
    rows = judged({name: {} for name in CLAIMS}, frame[:0], history(frame)[:0])
    assert overall(rows) == dict.fromkeys(CLAIMS, "not testable")
    assert {arm.split(", ")[0] for arm in rows["arm"]} == {"children", "ensembles"}
    rows = judged({"C1": {"parents": ["other"], "criteria": []}}, frame)
    assert {arm.split(", ")[0] for arm in rows["arm"]} == {"other"}
    assert overall(rows) == {"C1": "not testable"}


def test_pairs_on_two_kinds_of_hardware_count_and_a_second_line_is_without_them():
    frame = children()
    moved = (frame["parent_seed"] == 0) & (frame["method"] == "temperature")
    frame.loc[moved, "device"] = "another device"
    frame.loc[moved, "accuracy"] += 6
    cell = {"sparsities": [98], "lr_schedules": ["constant"], "baselines": ["one-shot"]}
    rows = judged(only(C1=cell), frame)
    (all_pairs,), (without,) = compared(rows).itertuples(), compared(rows, "beside").itertuples()
    assert (all_pairs.n, without.n) == (6, 5)
    assert all_pairs.estimate == pytest.approx(2.5, abs=0.4)  # 1.5, and 6 points for one parent of six
    assert without.estimate == pytest.approx(1.5, abs=0.3)
    assert "one kind of hardware" in without.measure
    assert compared(judged(only(C1=cell), children()), "beside").empty


def test_children_that_collapse_are_said_where_batchnorm_is_reestimated():
    frame = children()
    lost = (frame["parent_seed"] == 0) & (frame["method"] == "one-shot") & (frame["criterion"] == "random")
    lost &= (frame["sparsity"] == 98) & (frame["seed"] == 0) & (frame["lr_schedule"] == "constant")
    frame.loc[lost, "accuracy_bn"] = frame.loc[lost, "accuracy"] - 5.5
    rows = judged(only(C1={"sparsities": [98]}, C6={"sparsities": [98]}), frame)
    notes = rows[rows["role"] == "overall"].set_index("claim")["note"]
    assert notes["C6"] == "1 children lose more than 5 points when their BatchNorm is re-estimated"
    assert notes["C1"] == ""
