"""The claim about ensembles: its baselines, each of its verdicts, and how often it errs where there is no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import children, history
from synthetic_ensembles import PAT, SSA, ensembles, write

from ssa.analysis.claims.comparison import BESIDE, JUDGED, Comparison
from ssa.analysis.claims.ensembles import compare_ensembles
from ssa.analysis.claims.judge import claims_in_markdown, judge_claims
from ssa.errors import UserError
from ssa.report.record import Record
from ssa.report.write import write_verdicts
from ssa.study.claims import validate_claims

NAMED = {"ensembles": None, "baselines": None}
GAINS = {"accuracy": 1.0, "nll": -0.02, "ece": -1.0}  # points, nats and points by which SSA is better, or more

TWINS = ensembles()[lambda made: made["ensemble"] == PAT].reset_index(drop=True)


def pair(seed: int = 0, seeds: int = 5, share: float = 0.75, epochs: int = 16, **gains: float) -> pd.DataFrame:
    """SSA and its plain twin alone; SSA's scores are the twin's plus ``gains`` and noise of a tenth of GAINS.

    SSA trains for ``epochs`` and takes ``share`` of their masked FLOPs; the twin 16 epochs and 0.75.
    """
    rng = np.random.default_rng(seed)
    plain = TWINS.head(seeds)
    ours = TWINS.head(seeds).assign(ensemble=SSA, tuning="temperature", epochs=epochs)
    ours["masked_flops"] = plain["dense_flops"] * epochs / 16 * share
    for key, usual in GAINS.items():
        ours[key] = plain[key] + gains.get(key, usual) + rng.normal(0, abs(usual) / 10, seeds)
    return pd.concat([plain, ours], ignore_index=True)


def compare(frame: pd.DataFrame, smallest: float = 0.2, **named: list[str]) -> list[Comparison]:
    return compare_ensembles(frame, {**NAMED, **named}, "temperature", smallest, 0.95)


def verdicts(frame: pd.DataFrame, smallest: float = 0.2, **named: list[str]) -> dict[str, str]:
    """The verdict on each pair by accuracy, which only is judged."""
    return {one.text: one.verdict for one in compare(frame, smallest, **named) if one.role == JUDGED}


def one(frame: pd.DataFrame, smallest: float = 0.2) -> str:
    return verdicts(frame, smallest)[f"{SSA} against {PAT}"]


def test_a_gain_is_supported_a_loss_contradicted_and_a_small_gain_negligible() -> None:
    assert one(pair()) == "supported"
    assert one(pair(accuracy=-1.0)) == "contradicted"
    assert one(pair(), smallest=2.0) == "supported, negligible"
    assert one(pair(accuracy=0.0), smallest=0.5) == "contradicted"
    assert one(pair(accuracy=0.0), smallest=0.01) == "undecided"


def test_calibration_and_cost_are_shown_and_judge_nothing() -> None:
    worse = pair(nll=0.02, ece=1.0, share=0.79, epochs=17)
    assert one(worse) == "supported"
    beside = {c.measure: c.interval.mean for c in compare(worse) if c.role == BESIDE}
    assert beside["gain in NLL (nats / 100)"] == pytest.approx(-2, abs=0.5)
    assert beside["gain in ECE (points)"] == pytest.approx(-1, abs=0.2)
    assert beside["ratio of training epochs"] == pytest.approx(17 / 16)
    assert beside["ratio of masked FLOPs of training"] == pytest.approx(17 / 16 * 0.79 / 0.75, rel=1e-3)


def test_gains_are_paired_by_seed() -> None:
    frame = pair()
    ours, plain = (frame[frame["ensemble"] == name].reset_index(drop=True) for name in (SSA, PAT))
    found = compare(frame)[0].interval
    assert (found.mean, found.n) == (pytest.approx((ours["accuracy"] - plain["accuracy"]).mean()), 5)
    later = frame[(frame["ensemble"] == SSA) | (frame["seed"] > 1)]
    assert compare(later)[0].interval.n == 3


def test_the_probability_of_improvement_is_over_seeds() -> None:
    frame = pair(accuracy=0.0)
    ours, plain = (frame[frame["ensemble"] == name].reset_index(drop=True) for name in (SSA, PAT))
    found = compare(frame)[0]
    assert (found.group, found.better.n) == (PAT, 5)
    assert found.better.mean == (ours["accuracy"] > plain["accuracy"]).mean()


def test_holm_is_over_all_that_are_compared() -> None:
    frame = ensembles()
    found = [c for c in compare(frame[frame["model"] == "lenet-l"]) if c.role == JUDGED]
    assert min(c.p_holm for c in found) == pytest.approx(len(found) * min(c.interval.p for c in found))


def test_one_seed_is_undecided_and_none_in_common_not_testable() -> None:
    assert set(verdicts(pair(seeds=1)).values()) == {"undecided (n < 2)"}
    apart = pair()
    apart.loc[apart["ensemble"] == PAT, "seed"] += 10
    assert set(verdicts(apart).values()) == {"not testable: no seeds in common"}


def test_baselines_are_all_others_but_annealed_ones_and_longer_trained_independent_networks() -> None:
    frame = ensembles()
    annealed = frame[frame["ensemble"] == SSA].assign(ensemble="PAT (AR) + SSA random", tuning="random")
    frame = pd.concat([frame, annealed], ignore_index=True)
    found = verdicts(frame[frame["model"] == "lenet-l"])
    others = {text.split(" against ")[1] for text in found}
    assert others == {"Independent", "Bagged", "MC-dropout", "Snapshot", "PAT (R)", PAT, "Dense children"}
    assert {text.split(" against ")[0] for text in found} == {"PAT (R) + SSA", SSA}
    assert len(found) == 2 * 7


def test_the_claim_may_name_both_sides_and_one_that_was_not_run_is_said() -> None:
    frame = ensembles()
    found = verdicts(frame[frame["model"] == "lenet-l"], ensembles=[SSA], baselines=[PAT, "Deep ensemble", "None such"])
    assert list(found) == [f"{SSA} against {other}" for other in (PAT, "Deep ensemble", "None such")]
    assert found[f"{SSA} against None such"] == "not testable: no ensembles None such"


def test_a_ratio_of_costs_has_no_n_and_each_row_its_measure() -> None:
    past = children(parents=1)
    rows = judge_claims({"C3": {}}, past, history(past), pair())
    assert {row.measure for row in rows if row.n is None and row.role == BESIDE} == {
        "ratio of training epochs",
        "ratio of masked FLOPs of training",
    }
    text = claims_in_markdown({"C3": {}}, rows)
    assert "| arm | comparison | estimate | n |" in text
    assert f"| gain in accuracy (points): {SSA} against {PAT} |" in text
    assert f"| ratio of training epochs: {SSA} against {PAT} | 1.00 | – | – | – | shown |" in text


def judged(frame: pd.DataFrame | None, **settings: Any) -> dict[str, str]:
    """By arm, the overall verdict."""
    rows = judge_claims({"C3": settings}, children(parents=1), history(children(parents=1)), frame)
    return {row.arm: row.verdict for row in rows if row.comparison == "overall"}


def test_each_data_set_and_model_is_an_arm() -> None:
    frame = ensembles()
    plain = frame.drop(frame.index[(frame["model"] == "wrn-28-10") & (frame["tuning"] == "temperature")])
    assert judged(frame) == {"cifar10, lenet-l": "supported", "cifar10, wrn-28-10": "supported"}
    assert judged(plain)["cifar10, wrn-28-10"] == "not testable"
    assert judged(pair()) == {"cifar10, lenet-l": "supported"}
    assert judged(pair().iloc[5:]) == {"cifar10, lenet-l": "not testable"}  # nothing to compare with
    assert judged(None) == {"ensembles": "not testable"}


def test_names_are_checked_where_they_are_known() -> None:
    section = {"C3": {"ensembles": [SSA], "baselines": [PAT]}}
    validate_claims(section)
    validate_claims(section, ensembles=[SSA, PAT])
    with pytest.raises(UserError, match=r"^claims.C3.baselines: 'PAT \(AR\)' is not allowed; .*: PAT \(AR\) \+ SSA$"):
        validate_claims(section, ensembles=[SSA])
    with pytest.raises(UserError, match=r"^claims.C1.baselines: 'PAT \(AR\)' is not allowed"):
        validate_claims({"C1": {"baselines": [PAT]}}, ensembles=[PAT])


def test_without_an_effect_the_claim_is_hardly_ever_supported() -> None:
    # The interval lies above 0 in 2.5% of cases: 3 of 120 are expected, 11 or more have probability 0.03%.
    found = [one(pair(seed, accuracy=0.0), 0.0) for seed in range(120)]
    assert sum(verdict.startswith("supported") for verdict in found) <= 10
    assert sum(verdict == "contradicted" for verdict in found) <= 10  # with 0 as the smallest difference


def test_files(tmp_path: Path) -> None:
    results = write(tmp_path)
    write_verdicts(Record(results), tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "claims.csv")
    mine = frame[frame["claim"] == "C3"]
    assert set(mine["measure"]) == {
        *("gain in accuracy (points)", "gain in NLL (nats / 100)", "gain in ECE (points)"),
        *("ratio of training epochs", "ratio of masked FLOPs of training"),
    }
    assert set(mine["arm"]) == {"cifar10, lenet-l", "cifar10, wrn-28-10"}
    text = (tmp_path / "out" / "claims.md").read_text(encoding="utf-8")
    assert "NLL, ECE and what training costs stand beside it" in text
