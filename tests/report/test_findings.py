"""The findings' tables and figures, on children whose numbers can be checked by hand."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic
import synthetic_ensembles
import yaml
from matplotlib.figure import Figure
from synthetic_ensembles import SSA, ensembles

from ssa.errors import UserError
from ssa.report.figures.style import look
from ssa.report.record import Record
from ssa.report.registry import FIGURES, TABLES
from ssa.report.write import write_figures, write_tables
from ssa.study import study
from ssa.study.questions import FINDINGS

# A parent's accuracy in each of three replicates: it cancels from every paired difference.
PARENTS = (50.0, 52.0, 57.0)
SEEDS = range(len(PARENTS))


def child(parent_seed: int, method: str, accuracy: float, **other: Any) -> dict[str, Any]:
    annealed = method != "one-shot"
    row = {
        **{"parent": "small", "parent_seed": parent_seed, "seed": 0, "criterion": "random", "sparsity": 95.0},
        **{"structure": "connections", "allocation": "layerwise", "stem": "pruned", "augment": False},
        **{"epochs": 20, "lr_schedule": "one-cycle", "lr": 0.1, "method": method, "reference": True, "diverged": False},
        **{"tau": 0.5 if annealed else None, "anneal_epochs": 5.0 if annealed else None},
        **{"anneal_schedule": "linear" if annealed else None, "train_images": 5000, "effective_sparsity": 96.0},
        **{"train_loss_clean": 0.5, "train_accuracy_clean": 80.0, "accuracy": PARENTS[parent_seed] + accuracy},
        "validation_accuracy": PARENTS[parent_seed] + accuracy,
    }
    return {**row, **other}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def each(method: str, gains: tuple[float, float, float], **other: Any) -> list[dict[str, Any]]:
    """One child of each parent; ``gains`` in points. An ``other`` of three values has one for each parent."""
    own = [{key: value[seed] if isinstance(value, tuple) else value for key, value in other.items()} for seed in SEEDS]
    return [child(seed, method, gain, **own[seed]) for seed, gain in enumerate(gains)]


def answer(finding: str, data: pd.DataFrame) -> pd.DataFrame:
    """The table of ``finding``."""
    table: pd.DataFrame = import_module(f"ssa.report.findings.{finding}").table(data)
    return table


def about(value: float, spread: float = 0.01) -> tuple[float, float, float]:
    """Three values with this mean."""
    return value - spread, value, value + spread


def test_a_controls_gain_and_temperatures_lead_over_it() -> None:
    children = frame(*each("one-shot", (0, 0, 0)), *each("temperature", (1, 2, 3)), *each("expected", (2, 1, 0)))
    table = answer("controls", children).set_index("method")
    # The mean of 1, 2, 3 is 2; its sd is 1, and t(0.975, 2) = 4.3027: half-width 4.3027 / sqrt(3) = 2.4842.
    assert table.loc["temperature", "gain"] == 2
    assert table.loc["temperature", "gain_low"] == pytest.approx(2 - 2.4842, abs=1e-3)
    assert table.loc["expected", "gain"] == 1
    assert table.loc["expected", "lead"] == 1  # of -1, 1, 3
    assert set(table["n"]) == {3}
    assert answer("controls", children[children["method"] != "expected"]).empty  # no control, no answer


@pytest.mark.parametrize(("gains", "loss"), [((1.0, 1.1, 1.2), 0.6), ((-1.0, 0.0, 1.0), 0.4)])
def test_gains_and_training_losses_are_told_by_sparsity_and_in_the_mean(
    gains: tuple[float, float, float], loss: float
) -> None:
    cells = [
        row
        for sparsity in (90.0, 95.0)
        for row in (
            *each("one-shot", (0, 0, 0), sparsity=sparsity),
            *each("temperature", gains, sparsity=sparsity, train_loss_clean=about(loss)),
        )
    ]
    table = answer("losses", frame(*cells))
    assert list(table["sparsity"].fillna(0)) == [90, 95, 0]
    assert table["loss"].tolist() == pytest.approx([loss - 0.5] * 3)


def test_what_leads_under_each_kind_of_mask_is_told_by_sparsity() -> None:
    leads = {
        ("random", 90.0): (1.0, 1.1, 1.2),
        ("random", 95.0): (-1.0, 0.0, 1.0),
        ("magnitude", 90.0): (-2.0, -2.1, -2.2),
    }
    cells = [
        row
        for (criterion, sparsity), gains in leads.items()
        for row in (
            *each("iterative", (0, 0, 0), criterion=criterion, sparsity=sparsity),
            *each("temperature", gains, criterion=criterion, sparsity=sparsity),
        )
    ]
    table = answer("criteria", frame(*cells))
    assert dict(zip(zip(table["criterion"], table["sparsity"], strict=True), table["lead"], strict=True)) == {
        cell: pytest.approx(sum(gains) / 3) for cell, gains in leads.items()
    }


def test_gains_in_calibration_are_told_as_they_are_and_scaled() -> None:
    made = ensembles()
    made = made[(made["model"] == "lenet-l") & made["ensemble"].isin([SSA, "Snapshot"])]
    ours = made["ensemble"] == SSA
    for key, mine, theirs in (
        ("nll", 0.7, 0.9),
        ("nll_scaled", 0.7, 0.65),
        ("ece", 2.0, 6.0),
        ("ece_scaled", 1.0, 1.5),
    ):
        made[key] = [
            mine + 0.001 * seed if own else theirs + 0.002 for own, seed in zip(ours, made["seed"], strict=True)
        ]
    table = answer("calibration", made)
    row = table.iloc[0]
    assert (row["ensemble"], row["other"], row["n"]) == (SSA, "Snapshot", 5)
    gains = [row[key] for key in ("nll", "nll_scaled", "ece", "ece_scaled")]
    assert gains == pytest.approx([0.2, -0.05, 4.0, 0.5])
    one = answer("calibration", made[made["seed"] == 0]).iloc[0]
    assert np.isnan(one["nll_low"])  # one seed has no interval
    assert answer("calibration", made.assign(nll_scaled=float("nan"))).empty  # no validation images


def test_each_method_is_compared_at_the_rate_that_validation_chose() -> None:
    better, worse = {"lr": 0.1}, {"lr": 0.01}
    rows = [
        *each("one-shot", (0, 0, 0), **better),
        *each("one-shot", (5, 5, 5), **worse),  # better in test, but not chosen
        *each("temperature", (1, 1, 1), **better),
        *each("temperature", (2, 3, 4), **worse),
    ]
    children = frame(*rows)
    children.loc[(children["method"] == "one-shot") & (children["lr"] == 0.01), "validation_accuracy"] = 0.0
    table = answer("rates", children).set_index(["method", "lr"])
    assert table["chosen"].to_dict() == {
        ("one-shot", 0.01): False,
        ("one-shot", 0.1): True,
        ("temperature", 0.01): True,
        ("temperature", 0.1): False,
    }
    assert table.loc[("temperature", 0.01), "gain"] == 3  # at rate 0.01, minus one-shot at 0.1
    assert table["lead"].dropna().to_dict() == {("one-shot", 0.1): 3}  # of the tuned SSA over what else is tuned
    with pytest.raises(UserError, match="without validation images"):
        answer("rates", children.assign(validation_accuracy=None))


def test_the_best_length_is_chosen_on_validation_and_judged_in_test() -> None:
    lengths = [
        row
        for e, gains in ((2.5, (0, 1, 2.1)), (5.0, (1, 2, 3)), (15.0, (-1, 0, 1.1)))
        for row in each("temperature", gains, anneal_epochs=e, reference=e == 5)
    ]
    table = answer("lengths", frame(*each("one-shot", (0, 0, 0)), *lengths)).set_index("share")
    assert table["best"].to_dict() == {0.125: False, 0.25: True, 0.75: False}
    assert table["gain"].to_dict() == pytest.approx({0.125: 3.1 / 3, 0.25: 2, 0.75: 0.1 / 3})
    assert table["behind"].fillna(0).to_dict() == pytest.approx({0.125: -2.9 / 3, 0.25: 0, 0.75: -5.9 / 3})


def test_the_regime_map_has_a_row_for_each_images_and_epochs() -> None:
    rows = [
        row
        for images, epochs, gain in ((5000, 10, 1.0), (5000, 40, 2.0), (20000, 10, -1.0))
        for row in (
            *each("one-shot", (0, 0, 0), train_images=images, epochs=epochs),
            *each("temperature", about(gain), train_images=images, epochs=epochs),
        )
    ]
    table = answer("regime", frame(*rows))
    assert table[["train_images", "epochs", "gain"]].to_numpy() == pytest.approx(
        np.array([[5000, 10, 1], [5000, 40, 2], [20000, 10, -1]])
    )


def test_a_gain_that_a_dense_stem_takes_away_is_a_change_of_minus_as_much() -> None:
    rows = [
        *(*each("one-shot", (0, 0, 0)), *each("temperature", (2, 2, 2))),
        *(*each("one-shot", (4, 4, 4), stem="dense"), *each("temperature", about(4.5), stem="dense")),
    ]
    table = answer("allocation", frame(*rows)).set_index("stem")
    assert table["gain"].to_dict() == {"dense": 0.5, "pruned": 2}
    assert table.loc["dense", "change"] == -1.5
    assert pd.isna(table.loc["pruned", "change"])


def test_variances_of_gradients_are_compared_as_ratios() -> None:
    up, same, down = (1 / 1.1, 1.0, 1.1), (1.0, 1.0, 1.0), (1.1, 1.0, 1 / 1.1)
    rows = [
        row
        for method, variance, masks, factors in (
            ("temperature", 0.01, 0.0025, up),
            ("random", 0.1, 0.05, down),
            ("one-shot", 0.02, 0.0, same),
        )
        for row in each(
            method,
            (0, 0, 0),
            epoch=1,
            gradient_square=factors,
            gradient_variance=tuple(variance * factor for factor in factors),
            gradient_mask_variance=tuple(masks * factor for factor in factors),
        )
    ]
    table = answer("gradients", frame(*rows)).set_index("method")
    assert table["variance"].to_dict() == pytest.approx({"one-shot": -1.69897, "random": -1, "temperature": -2})
    assert table["noise"].to_dict() == pytest.approx({"one-shot": 2, "random": 10, "temperature": 1})
    assert table["masks"].to_dict() == pytest.approx({"one-shot": 0, "random": 50, "temperature": 25})
    assert table["lead"].fillna(9).to_dict() == pytest.approx({"one-shot": -0.30103, "random": -1, "temperature": 9})
    # log10(1.1) = 0.0414 is the sd of the lead over one-shot, times 4.3027 / sqrt(3): 0.1028; twice that over random.
    assert (table["lead_high"] - table["lead"]).dropna().to_dict() == pytest.approx(
        {"one-shot": 0.1028, "random": 0.2056}, abs=1e-4
    )
    assert answer("gradients", frame(*each("random", (0, 0, 0)))).empty  # nothing was measured


def test_every_finding_has_a_table_and_a_figure() -> None:
    for entries in (TABLES, FIGURES):
        assert {f"finding_{name}" for name in FINDINGS} <= set(entries)


def lengths_of(share: float) -> pd.DataFrame:
    """Lengths at one sparsity, of which the first is chosen."""
    rows = [
        row
        for e, gain in ((5.0, 2.0), (10.0, share))
        for row in each("temperature", about(gain), anneal_epochs=e, reference=e == 5)
    ]
    return frame(*each("one-shot", (0, 0, 0)), *rows)


def drawn(finding: str, data: pd.DataFrame) -> Figure:
    """The figure of ``finding``, laid out."""
    with look():
        figure: Figure = import_module(f"ssa.report.findings.{finding}").figure(answer(finding, data))
        figure.draw_without_rendering()
    return figure


def test_the_legend_says_what_a_filled_mark_is() -> None:
    figure = drawn("lengths", lengths_of(1.0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["95%", "chosen on validation images"]


def test_each_method_keeps_its_mark_at_a_rewound_rate_and_stands_near_it() -> None:
    rows = [
        row
        for method in ("one-shot", "rewind", "temperature")
        for schedule, rates in (("one-cycle", (0.1, 0.2)), ("rewound", (0.1,)))
        for lr in rates
        for row in each(method, about(10 * lr), lr=lr, lr_schedule=schedule)
    ]
    figure = drawn("rates", frame(*rows))
    (ax,) = figure.axes
    points = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    assert len({line.get_marker() for line in points}) == 3
    assert {line.get_fillstyle() for line in points} == {"full", "left"}
    for line in points:
        at = line.get_transform().transform(line.get_xydata()) - ax.transData.transform(line.get_xydata())
        assert abs(at[:, 0]).max() * 72 / figure.dpi <= 4
    low, high = ax.get_ylim()
    assert sum(low <= tick <= high for tick in ax.get_yticks()) > 2


def test_a_panel_of_gradients_names_its_quantity() -> None:
    measured = {"gradient_square": 1.0, "gradient_variance": 0.5, "gradient_mask_variance": 0.1}
    rows = [row for epoch in (0, 1) for row in each("temperature", (0, 0, 0), epoch=epoch, **measured)]
    labels = [ax.get_ylabel() for ax in drawn("gradients", frame(*rows)).axes]
    assert all(labels)
    assert len(set(labels)) == 3


def test_a_sparsity_is_written_away_from_all_marks() -> None:
    rows = [
        row
        for sparsity in (90.0, 98.0)
        for method, aside in (("one-shot", 0.0), ("iterative", 0.01), ("random", 0.02), ("temperature", 0.03))
        for row in each(method, about(aside * 10), sparsity=sparsity, train_loss_clean=about(0.5 + aside))
    ]
    figure = drawn("losses", frame(*rows))
    (ax,) = figure.axes
    (text,) = ax.texts
    assert text.get_text() == "98%"
    box = text.get_window_extent()
    for line in ax.lines:
        if line.get_marker() not in ("None", ""):
            assert not any(box.contains(*point) for point in ax.transData.transform(line.get_xydata()))


@pytest.mark.slow
@pytest.mark.parametrize("made_by", [synthetic, synthetic_ensembles], ids=["children alone", "with ensembles"])
def test_findings_write_a_table_and_a_figure_each_and_again_the_same_bytes(
    made_by: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, entries in (("TABLES", TABLES), ("FIGURES", FIGURES)):  # the others have tests of their own
        asked = {name: entry for name, entry in entries.items() if name.startswith("finding_")}
        monkeypatch.setattr(f"ssa.report.write.{kind}", asked)
    results = made_by.write(tmp_path / "results")
    few = pd.read_csv(results / "children.csv").query("lr_schedule == 'one-cycle' and criterion == 'random'")
    few.to_csv(results / "children.csv", index=False)
    (results / "study.json").write_text(json.dumps({**synthetic.study(), "findings": list(FINDINGS)}), encoding="utf-8")
    made = []
    for folder in ("one", "two"):
        record = Record(results)
        write_tables(record, tmp_path / folder)
        write_figures(record, tmp_path / folder)
        made.append({path.name: path.read_bytes() for path in (tmp_path / folder).glob("finding_*")})
    assert made[0] == made[1]
    names = set(FINDINGS) - (set() if made_by is synthetic_ensembles else {"calibration"})  # which is of ensembles
    assert sorted(made[0]) == sorted(f"finding_{name}.{end}" for name in names for end in ("csv", "pdf", "png"))
    (results / "study.json").write_text(json.dumps(synthetic.study()), encoding="utf-8")
    unasked = Record(results)
    write_tables(unasked, tmp_path / "one")
    write_figures(unasked, tmp_path / "one")
    assert not list((tmp_path / "one").glob("finding_*"))  # the study asks none any more


@pytest.mark.parametrize("wrong", [["control"], "controls", ["losses", "losses"]])
def test_an_unknown_finding_is_one_line(wrong: object, tiny: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**tiny, "findings": wrong}), encoding="utf-8")
    with pytest.raises(UserError, match=r"tiny.yaml: findings: .* allowed: a list, each once, of controls"):
        study.load(path)
