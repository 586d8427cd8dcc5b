"""Failure signatures, on records whose intervals can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import synthetic

from ssa.analysis import diagnosis
from ssa.analysis.diagnosis import SIGNATURES
from ssa.analysis.statistics import PARENT, Interval
from ssa.cli import main

DROP, NO_GAIN, VARIANCE = SIGNATURES
FIXED = {
    **{"parent": "small", "criterion": "random", "structure": "connections", "allocation": "layerwise"},
    **{"stem": "pruned", "sparsity": 90.0, "augment": False, "epochs": 24, "lr_schedule": "one-cycle", "lr": 0.1},
    **{"seed": 0, "reference": True, "diverged": False, "device": "test device"},
}
# Uncorrelated, and of one standard deviation.
LEFT, RIGHT = (1, -1, 1, -1, 0, 0), (1, 1, -1, -1, 0, 0)


def children(accuracies: Sequence[float], one_shot: Sequence[float], method: str = "temperature") -> pd.DataFrame:
    """One annealed and one one-shot child of each parent."""
    annealed = {"method": method, "tau": 0.5, "anneal_epochs": 6.0, "anneal_schedule": "linear"}
    none = {"method": "one-shot", "tau": None, "anneal_epochs": None, "anneal_schedule": None}
    rows = [
        {
            **FIXED,
            **setting,
            "parent_seed": i,
            "accuracy": accuracy,
            "accuracy_bn": accuracy,
            "child_id": f"{setting['method']}-{i}",
        }
        for setting, values in ((annealed, accuracies), (none, one_shot))
        for i, accuracy in enumerate(values)
    ]
    return pd.DataFrame(rows)


def history(frame: pd.DataFrame, changes: Sequence[float] = (1.0, 1.1)) -> pd.DataFrame:
    """50% before the first step and ``changes`` more after it, child by child and then over again."""
    rows = [
        {"child_id": child, "epoch": epoch, "test_accuracy": 50 + epoch * changes[i % len(changes)]}
        for i, child in enumerate(frame["child_id"])
        for epoch in (0, 1)
    ]
    return pd.DataFrame(rows)


def write(folder: Path, frame: pd.DataFrame, curves: pd.DataFrame) -> Path:
    frame.to_csv(folder / "children.csv", index=False)
    curves.to_parquet(folder / "history.parquet", index=False)
    return folder / "history.parquet"


def halves(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return frame[frame["method"] != "one-shot"], frame[frame["method"] == "one-shot"]


def test_a_drop_is_the_change_over_the_first_epoch() -> None:
    frame = children([90.0] * 6, [90.0] * 6)
    rows = diagnosis.examined(frame, history(frame, (-3, -2, -1)))
    found = diagnosis.first_epoch(rows, frame)
    # The mean of -3, -2, -1 twice is -2; their standard error sqrt(0.8 / 6), times t = 2.571 at 5 degrees of freedom.
    assert (found.mean, found.n) == (-2, 6)
    assert found.high == pytest.approx(-2 + 2.571 * (0.8 / 6) ** 0.5, abs=1e-3)
    assert DROP.testable(found)
    assert DROP.shows(found)
    rows = diagnosis.examined(frame, history(frame, (-3, 2, 1)))
    assert not DROP.shows(diagnosis.first_epoch(rows, frame))


def test_a_drop_needs_scores_at_both_epochs() -> None:
    frame = children([90.0] * 6, [90.0] * 6)
    late = history(frame, (-3.0,))
    rows = diagnosis.examined(frame, late[late["epoch"] == 1])
    assert not DROP.testable(diagnosis.first_epoch(rows, frame))


@pytest.mark.parametrize(
    ("gains", "shown"),
    [
        ((1, 1.1, 1, 1.1, 1, 1.1), False),
        ((0, 0.1, 0, 0, -0.1, 0), True),
        ((-1, -2, -1, -2, -1, -2), True),
        # Mean 1, standard error sqrt(1.2 / 6) = 0.447, times 2.571: from -0.15. With 0.5 more, above 0.
        ((0, 2, 0, 2, 0, 2), True),
        ((0.5, 2.5, 0.5, 2.5, 0.5, 2.5), False),
    ],
)
def test_no_gain_is_an_interval_not_above_0(gains: Sequence[float], shown: bool) -> None:
    found = diagnosis.gain_over_one_shot(*halves(children([90 + gain for gain in gains], [90.0] * 6)))
    assert NO_GAIN.testable(found)
    assert NO_GAIN.shows(found) is shown


@pytest.mark.parametrize(("times", "shown"), [(3.0, False), (3.2, True)])
def test_variance_is_high_from_three_times_on(times: float, shown: bool) -> None:
    # r = 0 and t = 2.776 at 4 degrees of freedom: K = 1 + t^2 / 2 = 4.854, and sqrt(K + sqrt(K^2 - 1)) = 3.099.
    found = diagnosis.spread(*halves(children([90 + times * x for x in LEFT], [85.0 + x for x in RIGHT])))
    assert (found.mean, found.n) == (pytest.approx(times), 6)
    assert found.low == pytest.approx(times / 3.099, abs=1e-3)
    assert VARIANCE.testable(found)
    assert VARIANCE.shows(found) is shown


def test_variance_needs_six_parents() -> None:
    found = diagnosis.spread(*halves(children([90 + 100 * x for x in LEFT[:5]], [85.0 + x for x in RIGHT[:5]])))
    assert VARIANCE.shows(found)
    assert not VARIANCE.testable(found)


def test_children_of_a_parent_are_averaged_first() -> None:
    frame = children([91.0, 92.0], [90.0, 90.0])
    twice = pd.concat([frame, frame.assign(seed=1, accuracy=frame["accuracy"] + 4, child_id=frame["child_id"] + "b")])
    assert twice.groupby([*PARENT, "method"]).size().eq(2).all()
    assert diagnosis.gain_over_one_shot(*halves(twice)).n == 2


def test_one_parent_tells_nothing() -> None:
    assert not any(signature.testable(Interval(-1, float("nan"), float("nan"), 1, 1)) for signature in SIGNATURES)


def test_baselines_and_controls_are_not_examined() -> None:
    frame = synthetic.children()
    assert set(diagnosis.examined(frame, synthetic.history(frame))["method"]) == {"random", "temperature"}
    mine = children([1.0], [1.0], method="mine")
    assert set(diagnosis.examined(mine, history(mine))["method"]) == {"mine"}


def test_the_report_names_setting_evidence_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = children([90 + 4 * x for x in LEFT], [85.0 + x for x in RIGHT])
    frame.loc[0, "diverged"] = True
    path = write(tmp_path, frame, history(frame, (-3, -2, -1)))
    assert main(["diagnose", str(path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == (
        f"{path}: failure signatures in 1 of 1 settings (drop at the first epoch: 1 of 1; "
        "no gain over one-shot: 0 of 1; high variance over seeds: 1 of 1)"
    )
    setting = lines.index("  SSA temperature, tau 0.5, annealed for 6 epochs, linear; 1 diverged")
    assert lines[setting + 1 : setting + 5] == [
        "    drop at the first epoch: -2.00 points of test accuracy from before the first step to epoch 1 "
        "[-2.94, -1.06], n = 6",
        "      the paper's remedy: anneal for longer, or lower tau",
        "    high variance over seeds: standard deviation over parents 4.00 times that of one-shot "
        "[1.29, 12.40], n = 6",
        "      the paper's remedy: anneal for longer, or adjust tau",
    ]
    assert "criterion random" in lines[1]
    assert lines[-1].endswith("Hardware: test device.")


def test_remedies_name_tau_only_where_there_is_one(tmp_path: Path) -> None:
    frame = children([79.9, 80.1] * 3, [85.0] * 6, method="random").assign(tau=float("nan"))
    report = diagnosis.diagnose(write(tmp_path, frame, history(frame)))
    assert "no gain over one-shot: -5.00 points of test accuracy, paired [-5.11, -4.89], n = 6\n" in report
    assert "      the paper's remedy: anneal for longer\n" in report
    assert "tau" not in report.split("\n", 1)[1]


def test_cells_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    frame = pd.concat([children([79.9, 80.1] * 3, [85.0] * 6).assign(sparsity=sparsity) for sparsity in (90.0, 98.0)])
    frame["child_id"] += frame["sparsity"].astype(str)
    lines = diagnosis.diagnose(write(tmp_path, frame, history(frame))).splitlines()
    assert [line for line in lines if line.startswith("sparsity")] == ["sparsity 90", "sparsity 98"]


def test_nothing_found_is_one_line(tmp_path: Path) -> None:
    frame = children([90.0 + x for x in LEFT], [88.0 + x for x in RIGHT])
    assert diagnosis.diagnose(write(tmp_path, frame, history(frame))).endswith(
        "failure signatures in 0 of 1 settings (drop at the first epoch: 0 of 1; no gain over one-shot: 0 of 1; "
        "high variance over seeds: 0 of 1)"
    )


def test_what_cannot_be_tested_is_said(tmp_path: Path) -> None:
    frame = halves(children([90.0] * 6, [88.0] * 6))[0]
    report = diagnosis.diagnose(write(tmp_path, frame, history(frame)))
    assert "no gain over one-shot: 0 of 0 testable; the others lack one-shot children of the same cell" in report


def test_a_study_without_annealing_has_nothing_to_diagnose(tmp_path: Path) -> None:
    frame = halves(children([90.0] * 6, [88.0] * 6))[1]
    assert "no child was annealed" in diagnosis.diagnose(write(tmp_path, frame, history(frame)))


def test_known_effects_are_found_in_a_whole_record(tmp_path: Path) -> None:
    # Every gain over one-shot is 0.8 or 1.5 points, several standard errors (0.1) above 0; the ablation's shortest and
    # coolest setting has 1.5 - 0.6 - 0.5 = 0.4. All is seeded: 4 sparsities, 2 schedules, random annealing with random
    # masks alone, and 11 more settings of the ablation.
    report = diagnosis.diagnose(synthetic.write(tmp_path) / "history.parquet")
    assert "failure signatures in 0 of 35 settings" in report


def test_missing_and_wrong_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "history.parquet"
    assert main(["diagnose", str(missing)]) == 2
    assert capsys.readouterr().err.startswith(f"ssa: {missing} is not a file; ssa aggregate writes")
    frame = children([90.0], [88.0])
    write(tmp_path, frame, history(frame))
    assert main(["diagnose", str(tmp_path / "children.csv")]) == 2
    assert "children.csv is damaged, or another file (" in capsys.readouterr().err
    (tmp_path / "children.csv").unlink()
    assert main(["diagnose", str(missing)]) == 2
    assert capsys.readouterr().err.startswith(f"ssa: {tmp_path / 'children.csv'} is not a file")
