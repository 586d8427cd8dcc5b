"""The claim about ensembles: its baselines, each of its verdicts, and how often it errs where there is no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import children, history
from synthetic_ensembles import PAT, SSA, ensembles, write

from ssa.analysis.claims.ensembles import compare_ensembles
from ssa.analysis.claims.judge import judge_claims, write_claims
from ssa.analysis.statistics import overall_verdict
from ssa.study.claims import validate_claims

NAMED = {"ensembles": None, "baselines": None}
GAINS = {"accuracy": 1.0, "nll": -0.02, "ece": -1.0}  # points, nats and points by which SSA is better, or more

TWINS = ensembles()[lambda made: made["ensemble"] == PAT].reset_index(drop=True)


def pair(
    seed: int = 0, seeds: int = 5, share: float = 0.75, epochs: int = 16, twin: bool = True, **gains: float
) -> pd.DataFrame:
    """SSA and its plain twin alone; SSA's scores are the twin's plus ``gains`` and noise of a tenth of GAINS.

    SSA trains for ``epochs`` and takes ``share`` of their masked FLOPs; the twin 16 epochs and 0.75. Where it is no
    ``twin``, the other has masks of another kind.
    """
    rng = np.random.default_rng(seed)
    plain = TWINS.head(seeds).assign(masks="anti-random" if twin else "random")
    ours = TWINS.head(seeds).assign(ensemble=SSA, tuning="temperature", epochs=epochs)
    ours["masked_flops"] = plain["dense_flops"] * epochs / 16 * share
    for key, usual in GAINS.items():
        ours[key] = plain[key] + gains.get(key, usual) + rng.normal(0, abs(usual) / 10, seeds)
    return pd.concat([plain, ours], ignore_index=True)


def verdicts(frame: pd.DataFrame, smallest: float = 0.2, **named: list[str]) -> dict[str, str]:
    found = compare_ensembles(frame, {**NAMED, **named}, "temperature", smallest, 0.95)
    return {comparison.text: comparison.verdict for comparison in found}


def one(frame: pd.DataFrame, measure: str, smallest: float = 0.2) -> str:
    return verdicts(frame, smallest)[f"{measure}: {SSA} against {PAT}"]


def test_a_gain_for_no_more_training_is_supported() -> None:
    assert set(verdicts(pair()).values()) == {"supported"}


def test_a_gain_too_small_to_matter_is_negligible() -> None:
    assert one(pair(accuracy=1.0), "accuracy", smallest=2.0) == "supported, negligible"


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"share": 0.79}, "masked FLOPs"),
        ({"epochs": 17, "share": 0.5}, "epochs"),
        ({"epochs": 17}, "epochs and masked FLOPs"),
    ],
)
def test_a_gain_for_more_training_is_undecided(cost: dict[str, Any], words: str) -> None:
    assert set(verdicts(pair(**cost, twin=False)).values()) == {f"undecided (better for more {words})"}


def test_of_the_plain_twin_only_the_difference_is_asked() -> None:
    assert set(verdicts(pair(share=0.79)).values()) == {"supported"}
    assert one(pair(share=0.79, accuracy=-1.0), "accuracy") == "contradicted"


def test_the_same_sum_in_another_order_is_no_more_training() -> None:
    assert one(pair(share=0.75 * (1 + 1e-12), twin=False), "accuracy") == "supported"


@pytest.mark.parametrize(
    ("measure", "key", "loss"), [("accuracy", "accuracy", -1), ("NLL", "nll", 0.02), ("ECE", "ece", 1)]
)
def test_a_loss_is_contradicted_in_every_measure(measure: str, key: str, loss: float) -> None:
    found = verdicts(pair(**{key: loss}))
    assert found.pop(f"{measure}: {SSA} against {PAT}") == "contradicted"
    assert set(found.values()) == {"supported"}


def test_a_gain_below_the_smallest_that_may_be_none_is_contradicted_else_undecided() -> None:
    assert one(pair(accuracy=0.0), "accuracy", smallest=0.5) == "contradicted"
    assert one(pair(accuracy=0.0), "accuracy", smallest=0.01) == "undecided"


def test_gains_are_paired_by_seed_and_in_points_or_hundredths_of_a_nat() -> None:
    frame = pair()
    ours, plain = (frame[frame["ensemble"] == name].reset_index(drop=True) for name in (SSA, PAT))
    found = {c.text.split(":")[0]: c for c in compare_ensembles(frame, NAMED, "temperature", 0.2, 0.95)}
    for name, key, factor in (("accuracy", "accuracy", 1), ("NLL", "nll", -100), ("ECE", "ece", -1)):
        assert found[name].interval.mean == pytest.approx(factor * (ours[key] - plain[key]).mean())
        assert found[name].interval.n == 5
    assert found["NLL"].measure == "gain in NLL (nats / 100)"
    later = frame[(frame["ensemble"] == SSA) | (frame["seed"] > 1)]
    assert compare_ensembles(later, NAMED, "temperature", 0.2, 0.95)[0].interval.n == 3


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
    assert {text.split(": ")[1].split(" against ")[0] for text in found} == {"PAT (R) + SSA", SSA}
    assert len(found) == 2 * 7 * 3


def test_the_claim_may_name_both_sides() -> None:
    frame = ensembles()
    found = verdicts(frame[frame["model"] == "lenet-l"], ensembles=[SSA], baselines=[PAT, "Deep ensemble"])
    assert list(found) == [
        f"{m}: {SSA} against {other}" for other in (PAT, "Deep ensemble") for m in ("accuracy", "NLL", "ECE")
    ]


def judged(frame: pd.DataFrame | None, **settings: Any) -> dict[str, str]:
    """By arm, the overall verdict."""
    rows = judge_claims({"C3": settings}, children(parents=1), history(children(parents=1)), frame)
    return {row.arm: row.verdict for row in rows if row.comparison == "overall"}


def test_each_data_set_and_model_is_an_arm() -> None:
    frame = ensembles()
    plain = frame.drop(frame.index[(frame["model"] == "wrn-28-10") & (frame["tuning"] == "temperature")])
    assert judged(frame) == {"cifar10, lenet-l": "undecided", "cifar10, wrn-28-10": "contradicted"}
    assert judged(plain)["cifar10, wrn-28-10"] == "not testable"
    assert judged(pair()) == {"cifar10, lenet-l": "supported"}
    assert judged(pair(ece=1)) == {"cifar10, lenet-l": "contradicted"}
    assert judged(pair().iloc[5:]) == {"cifar10, lenet-l": "not testable"}  # nothing to compare with
    assert judged(None) == {"small": "not testable"}


def test_names_are_checked_where_they_are_known() -> None:
    section = {"C3": {"ensembles": [SSA], "baselines": [PAT]}}
    validate_claims(section)
    validate_claims(section, ensembles=[SSA, PAT])
    with pytest.raises(
        ValueError, match=r"^claims.C3.baselines: \['PAT \(AR\)'\] is not allowed; .*: PAT \(AR\) \+ SSA$"
    ):
        validate_claims(section, ensembles=[SSA])
    with pytest.raises(ValueError, match=r"^claims.C1.baselines: \['PAT \(AR\)'\] is not allowed"):
        validate_claims({"C1": {"baselines": [PAT]}}, ensembles=[PAT])


def test_without_an_effect_the_claim_is_hardly_ever_supported() -> None:
    # One measure's interval lies above 0 in 2.5% of cases, so 3 of 120 are expected and 11 or more have probability
    # 0.03%; all three measures at once, here independent, in 0.0016%.
    none = {"accuracy": 0.0, "nll": 0.0, "ece": 0.0}
    found = [list(verdicts(pair(seed, **none), 0.0).values()) for seed in range(120)]
    assert sum(verdict[0].startswith("supported") for verdict in found) <= 10
    assert not any(overall_verdict(verdict).startswith("supported") for verdict in found)
    wrong = sum(one.startswith("contradicted") for one in (verdict[0] for verdict in found))
    assert wrong <= 10  # with 0 as the smallest difference, the other side errs as often


def test_files(tmp_path: Path) -> None:
    write_claims(write(tmp_path), tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "claims.csv")
    mine = frame[frame["claim"] == "C3"]
    assert set(mine["measure"]) == {
        *("gain in accuracy (points)", "gain in NLL (nats / 100)", "gain in ECE (points)"),
        "gain (points; NLL: nats / 100)",
    }
    assert set(mine["arm"]) == {"cifar10, lenet-l", "cifar10, wrn-28-10"}
    text = (tmp_path / "out" / "claims.md").read_text(encoding="utf-8")
    assert "no more training epochs and no more masked FLOPs" in text
