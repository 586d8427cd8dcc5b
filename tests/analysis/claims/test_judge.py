import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from synthetic import children, history, study, write

from ssa.analysis.claims.judge import judge_claims, write_claims
from ssa.analysis.claims.tests import TESTS
from ssa.study.claims import CLAIMS, rule_of, settings_of, validate_claims


def judged(section, frame=None, past=None):
    """The rows of claims.csv as a frame."""
    frame = children() if frame is None else frame
    past = history(frame) if past is None else past
    return pd.DataFrame([vars(row) for row in judge_claims(section, frame, past)])


def overall(rows):
    return dict(rows[rows["comparison"] == "overall"][["claim", "verdict"]].to_numpy())


def compared(rows):
    return rows[rows["comparison"] != "overall"]


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
        ({"C11": {}}, r"^claims: unknown key 'C11'; did you mean 'C1'\? allowed: smallest_difference, confidence, ssa"),
        ({"C1": {"sparsity": [95]}}, r"^claims.C1: unknown key 'sparsity'; did you mean 'sparsities'\?"),
        ({"C1": {"small": 0.5}}, r"^claims.C1: unknown key 'small'"),
        ({"C3": {"sparsities": [95]}}, r"^claims.C3: unknown key 'sparsities'; allowed: ensembles, baselines$"),
        (
            {"C1": {"sparsities": 95}},
            r"^claims.C1.sparsities: 95 is not allowed; allowed: a list, each once, of: percent",
        ),
        ({"C1": {"sparsities": [0.95, 100]}}, r"^claims.C1.sparsities: \[0.95, 100\] is not allowed"),
        ({"C1": {"sparsities": [95, 95]}}, r"^claims.C1.sparsities: \[95, 95\] is not allowed"),
        ({"C1": {"sparsities": []}}, r"^claims.C1.sparsities: \[\] is not allowed"),
        (
            {"C1": {"baselines": ["oneshot"]}},
            r"^claims.C1.baselines: \['oneshot'\] is not allowed; .*one-shot, weight-rewinding, iterative",
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
            r"^claims.C1.epochs: 2.5 is not allowed; allowed: whole number, at least 1, or a list, each once, of",
        ),
        ({"C1": {"epochs": True}}, r"^claims.C1.epochs: True is not allowed"),
        ({"C1": {"lr": 0.1}}, r"^claims.C1.lr: 0.1 is not allowed; allowed: a mapping from .*one-cycle"),
        ({"C4": {"best": [0]}}, r"^claims.C4.best: \[0\] is not allowed"),
        ({"C5": {"quoted": {"linear": 4}}}, r"^claims.C5.quoted: {'linear': 4} is not allowed"),
        ({"C5": {"quoted": {"one-cycle": "4"}}}, r"^claims.C5.quoted: {'one-cycle': '4'} is not allowed"),
        ({"C1": [95]}, r"^claims.C1: \[95\] is not allowed; allowed: a mapping of parents, structure"),
        ({"confidence": 95}, r"^claims.confidence: 95 is not allowed; allowed: number above 0 and below 1$"),
        ({"smallest_difference": float("nan")}, r"^claims.smallest_difference: nan is not allowed"),
        ({"ssa": {"method": "ssa"}}, r"^claims.ssa.method: 'ssa' is not allowed"),
        ({"ssa": {"taus": 0.5}}, r"^claims.ssa: unknown key 'taus'; did you mean 'tau'\?"),
        ({"cells": {"criteria": ["random"]}}, r"^claims.cells: unknown key 'criteria'"),
    ],
)
def test_a_slip_in_the_section_is_refused_in_one_line(section, message):
    with pytest.raises(ValueError, match=message) as caught:
        validate_claims(section)
    assert "\n" not in str(caught.value)


def test_names_that_the_study_knows_are_allowed():
    validate_claims({"C1": {"baselines": ["mine"]}}, methods=["mine"], parents=["small"])
    with pytest.raises(ValueError, match=r"^claims.C1.parents: \['large'\] is not allowed; .*: small$"):
        validate_claims({"C1": {"parents": ["large"]}}, parents=["small"])


def test_checking_a_section_imports_neither_pandas_nor_scipy():
    code = "import sys, ssa.study.claims; print({'pandas', 'scipy', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert found.stdout.strip() == "set()"


def test_a_claims_own_keys_come_before_the_shared_ones():
    section = {"cells": {"epochs": 20, "stem": "dense"}, "C9": {"epochs": 10}}
    found = settings_of(section, "C9")
    assert (found["epochs"], found["stem"], found["criteria"], found["small"]) == (10, "dense", ["magnitude"], 0.5)
    assert settings_of(section, "C3") == {"ensembles": None, "baselines": None}


def test_rules_in_words_carry_the_studys_numbers():
    assert "below 0.3 points" in rule_of({"smallest_difference": 0.3}, "C2")
    assert "p below 0.1 after" in rule_of({"confidence": 0.9}, "C1")
    assert "below 0.7 points" in rule_of({"C9": {"small": 0.7}}, "C9")


def test_known_effects_give_the_verdicts_that_they_should():
    assert overall(judged(study()["claims"])) == {
        "C1": "supported",
        "C2": "supported",
        "C3": "not testable",
        "C4": "supported",
        "C5": "contradicted",
        "C6": "supported",
        "C7": "supported",
        "C8": "undecided",
        "C9": "contradicted",
        "C10": "supported",
    }


def test_an_estimate_is_the_mean_over_parents_of_the_paired_difference():
    frame = children()
    row = judged(only(C2={"sparsities": [98], "lr_schedules": ["constant"]}), frame).iloc[0]
    cell = frame[(frame["sparsity"] == 98) & (frame["lr_schedule"] == "constant") & (frame["criterion"] == "random")]
    means = cell.groupby("method")["accuracy"].mean()  # every parent has two children
    assert row["comparison"] == "SSA temperature minus SSA random: 98%, random masks, constant rate"
    assert row["estimate"] == pytest.approx(means["temperature"] - means["random"])
    assert row["low"] < row["estimate"] < row["high"]
    assert row["n"] == 6
    assert math.isnan(row["p_holm"])


def test_a_harmful_method_is_contradicted():
    frame = children(effects={"temperature": -1.0})
    assert overall(judged(only(C1={}, C2={}), frame)) == {"C1": "contradicted", "C2": "contradicted"}


def test_holm_adjusts_over_all_of_an_arms_comparisons_of_c1():
    rows = compared(judged(only(C1={})))
    assert len(rows) == 8  # two sparsities, two baselines, two learning-rate schedules
    assert rows["p_holm"].min() == pytest.approx(8 * rows["p"].min())
    assert (rows["p_holm"] >= rows["p"]).all()


def test_a_gain_that_fails_after_holm_is_undecided():
    frame = children(parents=3, effects={"temperature": 0.6})
    rows = compared(judged(only(C1={}), frame))
    lost = rows[(rows["low"] > 0) & (rows["p_holm"] >= 0.05)]
    assert len(lost) > 0
    assert set(lost["verdict"]) == {"undecided"}


def test_a_missing_comparison_stays_in_the_family_and_keeps_the_claim_open():
    rows = judged(only(C1={"sparsities": [97, 98]}))
    missing = compared(rows)[compared(rows)["comparison"].str.contains("97%")]
    assert set(missing["verdict"]) == {"not testable: no children of SSA temperature"}
    assert rows["p_holm"].min() == pytest.approx(8 * rows["p"].min())
    assert overall(rows) == {"C1": "undecided"}


def test_the_best_length_of_annealing():
    # the invented children lose 0.6 points at e = 1, and nothing else depends on e
    cell = {"sparsities": [90], "lr_schedules": ["one-cycle"]}
    rows = judged(only(C4={"best": [5, 10], **cell}))
    assert list(compared(rows)["comparison"]) == [
        "e = 1 minus the better of e = 5, 10: 90%, random masks, one-cycle rate"
    ]
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
    rows = judged(only(C4={"best": [5, 7], "sparsities": [90, 95], "lr_schedules": ["one-cycle"]}))
    assert list(compared(rows)["verdict"]) == [
        "not testable: no children at e = 7",
        "not testable: no children at e = 7",
        "not testable: no other length of annealing",
    ]
    assert overall(rows) == {"C4": "not testable"}


@pytest.mark.parametrize(("quoted", "verdict"), [(0.5, "supported"), (1.5, "supported"), (4.0, "contradicted")])
def test_a_quoted_gain(quoted, verdict):
    rows = judged(only(C5={"quoted": {"one-cycle": quoted}}))
    assert compared(rows)["comparison"].item().endswith(f"98%, random masks, one-cycle rate; quoted +{quoted:g}")
    assert overall(rows) == {"C5": verdict}


def test_the_drop_is_the_lowest_of_the_epochs_that_ssa_anneals():
    frame = children()
    past = history(frame)
    section = only(C6={"sparsities": [98], "lr_schedules": ["constant"]})
    found = judged(section, frame, past).iloc[0]
    # lowest after epoch 1: one-shot is 30 exp(-1/2) below its end, SSA 5 exp(-1/2)
    cell = frame[(frame["sparsity"] == 98) & (frame["lr_schedule"] == "constant") & (frame["criterion"] == "random")]
    means = cell.groupby("method")["accuracy"].mean()
    expected = means["temperature"] - means["one-shot"] + 25 * math.exp(-0.5)
    assert found["estimate"] == pytest.approx(expected)
    assert found["verdict"] == "supported"
    elsewhere = past.assign(test_accuracy=past["test_accuracy"].where(past["epoch"].between(1, 5), -100))
    assert judged(section, frame, elsewhere).iloc[0]["estimate"] == pytest.approx(expected)
    last = past.assign(test_accuracy=past["test_accuracy"].where(past["epoch"] != 5, -100))
    assert judged(section, frame, last).iloc[0]["estimate"] == pytest.approx(0)


def test_the_drop_needs_scores():
    frame = children(parents=2)
    past = history(frame).assign(test_accuracy=np.nan)
    rows = judged(only(C6={"sparsities": [98], "lr_schedules": ["constant"]}), frame, past)
    assert rows.iloc[0]["verdict"] == "not testable: no pairs of children with scores"


def test_controls_are_those_that_were_run_and_temperature_on_all_weights():
    frame = children()
    section = only(C7={"sparsities": [98], "lr_schedules": ["constant"]})
    names = compared(judged(section, frame))["comparison"].str.split(" minus |:", regex=True).str[1]
    assert list(names) == ["SSA temperature, all weights", "Expected mask (no sampling)"]
    without = judged(section, frame[frame["method"] != "temperature-all"])
    assert without.iloc[0]["verdict"] == "not testable: no children of SSA temperature, all weights"


def test_a_ratio_of_variances_needs_twenty_parents():
    section = only(C8={"sparsities": [98], "lr_schedules": ["constant"], "baselines": ["one-shot"]})
    assert judged(section).iloc[0]["verdict"] == "undecided (n < 20)"
    frame = children(parents=20)
    calm = frame["method"] == "temperature"
    frame.loc[calm, "accuracy"] = 80 + 0.2 * (frame.loc[calm, "accuracy"] - 80)
    row = judged(section, frame).iloc[0]
    assert row["measure"] == "ratio of variances"
    assert row["estimate"] == pytest.approx(0.04, abs=0.02)
    assert row["high"] < 1
    assert row["verdict"] == "supported"


def test_a_small_gain_is_small_by_its_own_bound():
    assert overall(judged(only(C9={}))) == {"C9": "contradicted"}
    assert overall(judged(only(C9={"small": 2.5}))) == {"C9": "supported"}


def test_iterative_is_judged_by_most_cells():
    frame = children()
    better = (frame["method"] == "iterative") & (frame["sparsity"] == 98)
    frame.loc[better, "accuracy"] += 3
    rows = judged(only(C10={}), frame)
    verdicts = list(compared(rows)["verdict"])
    assert len(verdicts) == 16  # two criteria, two learning-rate schedules, four sparsities
    assert verdicts.count("contradicted") == 4
    assert overall(rows) == {"C10": "supported"}


def test_one_parent_is_undecided():
    rows = judged(only(C1={}, C5={}, C9={}), children(parents=1))
    assert set(compared(rows)["verdict"]) == {"undecided (n < 2)"}
    assert set(overall(rows).values()) == {"undecided"}


def test_a_claim_against_a_part_of_what_it_is_about_says_so():
    rows = judged(only(C1={"baselines": ["one-shot"], "sparsities": [98], "lr_schedules": ["one-cycle"]}))
    assert overall(rows) == {"C1": "supported (against One-shot alone)"}
    both = judged(only(C1={"sparsities": [98], "lr_schedules": ["one-cycle"]}))
    assert "alone" not in overall(both)["C1"]


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


def test_cells_that_no_child_is_in_count_only_where_the_claim_names_them():
    frame = children()
    fewer = frame[(frame["lr_schedule"] == "one-cycle") | (frame["sparsity"] == 98)]
    rows = compared(judged(only(C2={}), fewer))
    assert len(rows) == 5  # four sparsities with one-cycle, one with the constant rate
    assert set(rows["verdict"]) == {"supported"}
    named = judged(only(C2={"sparsities": [50, 98], "lr_schedules": ["constant"]}), fewer)
    assert named.iloc[0]["comparison"] == "SSA temperature minus SSA random: 50%, random masks, constant rate"
    assert named.iloc[0]["verdict"] == "not testable: no children of SSA temperature"


def test_ablation_variants_do_not_stand_for_ssa():
    cell = {"sparsities": [90], "lr_schedules": ["one-cycle"]}
    frame = children()
    rows = judged(only(C2=cell), frame)
    pd.testing.assert_frame_equal(rows, judged(only(C2=cell), frame[frame["reference"]]))


def test_arms_are_judged_apart():
    frame = pd.concat([children(seed=0), children(seed=1, effects={"temperature": -1.0}).assign(parent="worse")])
    rows = judged(only(C1={}), frame.reset_index(drop=True), history(children()))
    ends = rows[rows["comparison"] == "overall"]
    assert dict(zip(ends["arm"], ends["verdict"], strict=True)) == {"small": "supported", "worse": "contradicted"}
    assert set(judged(only(C1={"parents": ["small"]}), frame)["arm"]) == {"small"}
    absent = judged(only(C2={"parents": ["other"]}), frame)
    assert list(absent["comparison"]) == ["SSA temperature minus SSA random: random masks", "overall"]
    assert list(absent["verdict"]) == ["not testable: no children of SSA temperature", "not testable"]


def test_how_sparsity_is_spread_is_said_where_the_arm_has_other_ways_too():
    frame = children()
    rows = judged(only(C2={"sparsities": [98], "lr_schedules": ["constant"]}), frame)
    assert rows["comparison"].iloc[0].endswith(": 98%, random masks, constant rate")
    several = pd.concat([frame, frame.assign(allocation="erk")], ignore_index=True)
    rows = judged(only(C2={"sparsities": [98], "lr_schedules": ["constant"]}), several, history(frame))
    assert rows["comparison"].iloc[0].endswith(": 98%, random masks, constant rate, layerwise allocation, pruned stem")
    assert (
        judged(only(C3={}), several, history(frame))["verdict"].iloc[-1] == "not testable"
    )  # of ensembles, it has none


def test_files(tmp_path):
    results = write(tmp_path / "results")
    write_claims(results, tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "claims.csv")
    assert list(frame["claim"].unique()) == list(CLAIMS)
    assert list(frame.columns[-5:]) == ["n", "p", "p_holm", "against", "verdict"]
    judged_by = frame.dropna(subset="estimate").groupby("claim")["against"].agg(set)
    assert (judged_by["C1"], judged_by["C8"], judged_by["C9"]) == ({0.0}, {1.0}, {0.5})
    assert judged_by["C5"] == {4.0, 6.0}
    text = (tmp_path / "out" / "claims.md").read_text(encoding="utf-8")
    assert "## C1: SSA ends more accurate" in text
    assert "**small: supported**" in text
    assert "| small | all | – | 0 | – | – | not testable: no ensembles in this study |" in text
    assert text.endswith("\nHardware: test device.\n")
    first = [(tmp_path / "out" / name).read_bytes() for name in ("claims.csv", "claims.md")]
    write_claims(results, tmp_path / "again")
    assert first == [(tmp_path / "again" / name).read_bytes() for name in ("claims.csv", "claims.md")]


def test_a_study_without_claims_says_so(tmp_path):
    results = write(tmp_path / "results")
    (results / "study.json").write_text(json.dumps({**study(), "claims": {}}), encoding="utf-8")
    write_claims(results, tmp_path)
    assert pd.read_csv(tmp_path / "claims.csv").empty
    assert "This study tests no claims." in (tmp_path / "claims.md").read_text(encoding="utf-8")


def test_a_claim_that_names_several_lengths_of_tuning_is_tested_at_each() -> None:
    once = children().query("criterion == 'random' and lr_schedule == 'one-cycle'")
    both = pd.concat([once, once.assign(epochs=10, child_id=once["child_id"] + "-short")])
    section = {"C1": {"baselines": ["one-shot"], "sparsities": [95], "epochs": [10, 20]}}
    validate_claims(section)
    rows = judge_claims(section, both, history(both))
    short, long, overall = rows
    assert "95%, random masks, one-cycle rate, 10 epochs" in short.comparison
    assert "20 epochs" in long.comparison
    assert (short.n, short.estimate) == (6, pytest.approx(long.estimate))
    assert overall.verdict == "supported (against One-shot alone)"
    (mixed, _) = judge_claims({"C1": {"baselines": ["one-shot"], "sparsities": [95]}}, both, pd.DataFrame())
    assert "the claim must name one" in mixed.verdict
