"""The ensembles' tables, with numbers worked out by hand on small frames."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_ensembles import PAT, SSA, bins, corruptions, ensembles, sizes, write

from ssa.report.record import Record
from ssa.report.tables import ensembles as ensemble_tables
from ssa.report.tables.style import Part, Table, latex, markdown
from ssa.report.write import write_tables
from ssa.results.aggregate_ensembles import TABLES
from ssa.results.ensembles import twins

T4 = 2.776445  # the 97.5% quantile of Student's t at 4 degrees of freedom
NAMES = ("table_ensembles", "table_ensembles_conventions", "table_ensembles_differences", "table_ensembles_diversity")


def frame(**columns: Any) -> pd.DataFrame:
    """The invented ensembles of five seeds, as they are read, with ``columns`` set to the same in every row."""
    return ensembles().assign(**columns)


def exact(*values: float, name: str = SSA, column: str = "accuracy") -> pd.DataFrame:
    """The invented ensembles, those of ``name`` with these ``values`` of ``column`` at seeds 0 to 4."""
    made = frame()
    made.loc[made["ensemble"] == name, column] = values
    return made


def test_the_invented_files_hold_what_the_real_ones_do() -> None:
    made = ensembles()
    files = {"ensembles": made, "ensemble_sizes": sizes(made), "ensemble_bins": bins(made)}
    for name, found in {**files, "corruptions": corruptions(made)}.items():
        assert set(found.columns) == set(TABLES[name])


def row(table: Table, **cell: Any) -> pd.Series:
    found = table.long
    for key, value in cell.items():
        found = found[found[key] == value]
    assert len(found) == 1
    return found.iloc[0]


def printed(part: Part, name: str, source: str | None = None) -> dict[str, str]:
    shown = part.shown
    found = shown[shown["Ensemble"] == name]
    found = found if source is None else found[found["Source"] == source]
    assert len(found) == 1
    return dict(found.iloc[0])


def test_a_score_is_the_mean_over_seeds_with_its_interval() -> None:
    # mean 76; deviations -2, -1, 0, 1, 2: sd sqrt(10 / 4), half-width T4 sd / sqrt(5)
    table = ensemble_tables.scores(exact(74, 75, 76, 77, 78))
    found = row(table, ensemble=SSA, source="this study")
    assert found["accuracy"] == 76
    assert found["accuracy_high"] - 76 == pytest.approx(T4 * math.sqrt(2.5 / 5), rel=1e-6)
    assert found["n"] == 5
    assert printed(table.parts[0], SSA)["Accuracy (%)"] == "76.00 ± 1.96"
    nll = printed(ensemble_tables.scores(exact(0.48, 0.49, 0.5, 0.51, 0.52, column="nll")).parts[0], SSA)["NLL"]
    assert nll == "0.500 ± 0.020"


def test_costs_are_relative_to_the_single_model() -> None:
    table = ensemble_tables.scores(frame())
    clean, cost = table.parts[0], table.parts[2]
    line = printed(cost, SSA)
    assert [line[head] for head in ("Epochs", "Dense FLOPs", "Masked FLOPs", "Seconds")] == [
        "16",
        "1.00",
        "0.79",
        "64.0",
    ]
    asked = [line[head] for head in ("Passes", "FLOPs asked", "Masked FLOPs asked", "Parameters")]
    assert asked == ["8", "8.00", "4.00", "4,017,546"]
    assert printed(clean, "Deep ensemble")["Masked FLOPs"] == "4.00"
    assert row(table, ensemble=SSA)["relative_masked_flops"] == pytest.approx(0.79)
    for part in (clean, cost):
        assert part.caption.endswith("FLOPs are relative to Independent (16 epochs).")


def test_without_a_single_model_costs_are_relative_to_the_largest_budget() -> None:
    made = frame()
    table = ensemble_tables.scores(made[(made["ensemble"] != "Independent") & (made["model"] == "lenet-l")])
    assert printed(table.parts[2], "Deep ensemble")["Dense FLOPs"] == "1.00"
    assert printed(table.parts[2], PAT)["Masked FLOPs"] == "0.19"  # 0.75 of 16 of 64 epochs
    assert "relative to Deep ensemble (64 epochs)" in table.parts[2].caption


def test_published_rows_stand_below_in_a_part_of_their_own_with_their_digits_and_source() -> None:
    table = ensemble_tables.scores(frame())
    assert "Source" not in table.parts[0].shown
    lenet, wrn = table.parts[1], table.parts[5]
    assert lenet.caption.startswith("Published: cifar10, lenet-l. PAT: Whitaker")
    assert list(lenet.shown["Source"]) == ["PAT"] * 5
    line = printed(lenet, "PAT (AR)")
    assert (line["Accuracy (%)"], line["n"], line["Epochs"]) == ("75.75 ± 0.06 SE", "30", "16")
    assert "SE: standard error, as published." in table.note
    assert "| Ensemble | Members | Accuracy (%) | Epochs | n | Source |" in markdown(table)  # no column of dashes
    wide = printed(wrn, "MIMO", "PAT, from earlier papers")
    assert (wide["NLL"], wide["ECE (%)"], wide["Masked FLOPs"], wide["Brier"]) == ("0.123", "1.0", "4.00", "–")
    assert "low-cost ensembles survey" not in wrn.caption
    assert "PAT, from earlier papers: as PAT, which took the row over" in wrn.caption
    found = row(table, ensemble="PAT (AR)", source="PAT")
    assert (found["accuracy"], found["accuracy_se"], found["n"]) == (75.75, 0.06, 30)
    assert math.isnan(found["accuracy_low"])


def test_another_data_set_has_no_published_rows() -> None:
    table = ensemble_tables.scores(frame(dataset="digits"))
    assert set(table.long["source"]) == {"this study"}
    assert not any(part.caption.startswith("Published") for part in table.parts)


def corrupted(table: Table) -> dict[str, list[Part]]:
    """The parts on corrupted test sets by the first words of their captions."""
    found: dict[str, list[Part]] = {}
    for part in table.parts:
        if "orrupted" in part.caption:
            found.setdefault(part.caption.split(":")[0], []).append(part)
    return found


def test_generated_official_and_published_corruptions_never_share_a_part() -> None:
    found = corrupted(ensemble_tables.scores(frame()))
    assert list(found) == ["Corrupted test set, generated", "Published on corrupted test sets"]
    assert printed(found["Corrupted test set, generated"][1], "WRN PAT")["Accuracy (%)"].startswith("81.")
    (theirs,) = found["Published on corrupted test sets"]  # nobody published LeNet's
    assert printed(theirs, "EDST", "PAT, from earlier papers")["NLL"] == "0.880"
    some = frame()
    some.loc[some["ensemble"] == "WRN PAT", "corrupted_label"] = "official"
    parts = corrupted(ensemble_tables.scores(some))
    assert list(parts["Corrupted test set, official"][0].shown["Ensemble"]) == ["WRN PAT"]
    assert "WRN PAT" not in [name for part in parts["Corrupted test set, generated"] for name in part.shown["Ensemble"]]


def test_each_row_says_over_which_corruptions_its_scores_are_means() -> None:
    found = corrupted(ensemble_tables.scores(frame(dataset="cifar100", corrupted_images=1000)))
    ours, (theirs,) = found["Corrupted test set, generated"][1], found["Published on corrupted test sets"]
    assert printed(ours, "WRN PAT")["Mean over"] == "benchmark-15, 1,000 images"
    each = {
        "PAT (AR, one-cycle)": ("PAT", "19 types (its code) or 20 (its text)"),
        "BatchEnsemble": ("uncertainty-baselines", "17 types, generated by uncertainty-baselines"),
        "DST": ("PAT, from earlier papers", "not said"),
    }
    assert {name: (source, printed(theirs, name, source)["Mean over"]) for name, (source, _) in each.items()} == each


def test_without_corruptions_only_published_ones_are_shown() -> None:
    blank = dict.fromkeys([name for name in ensembles() if name.startswith("corrupted_")], np.nan)
    found = corrupted(ensemble_tables.scores(frame(**blank)))
    ((name, (theirs,)),) = found.items()  # LeNet has none, WRN the published ones
    assert name == "Published on corrupted test sets"
    assert set(theirs.shown["Source"]) == {"PAT", "PAT, from earlier papers", "uncertainty-baselines"}


def test_diverged_ensembles_are_marked_and_counted() -> None:
    made = frame()
    made.loc[(made["ensemble"] == PAT) & (made["seed"] < 2), "diverged"] = True
    table = ensemble_tables.scores(made)
    assert f"{PAT} †2" in list(table.parts[0].shown["Ensemble"])
    assert "†k: k ensembles with a diverged member" in table.note
    assert row(table, ensemble=PAT, source="this study")["diverged"] == 2


def test_conventions_stand_one_below_the_other() -> None:
    made = frame()
    made.loc[made["ensemble"] == PAT, "nll_logits_scaled"] = [0.5, 0.6, 0.7, 0.8, 0.9]
    table = ensemble_tables.conventions(made)
    shown = table.parts[0].shown
    mine = shown[shown["Ensemble"] == PAT]
    assert list(mine["Mean of members'"]) == list(ensemble_tables.CONVENTIONS.values())
    assert mine["NLL"].iloc[-1] == "0.700 ± 0.196"
    assert len(shown[shown["Ensemble"] == "Independent"]) == 4  # no parent
    assert row(table, ensemble=PAT, combined="logits, temperature-scaled")["nll"] == pytest.approx(0.7)


def test_differences_are_paired_by_seed_to_the_twin() -> None:
    made = frame()
    base = made.loc[made["ensemble"] == PAT, "accuracy"].to_numpy()
    made.loc[made["ensemble"] == SSA, "accuracy"] = base + np.arange(5)
    table = ensemble_tables.differences(made)
    found = row(table, ensemble=SSA, measure="accuracy")
    assert (found["twin"], found["n"]) == (PAT, 5)
    assert found["difference"] == pytest.approx(2)
    assert found["high"] - 2 == pytest.approx(T4 * math.sqrt(2.5 / 5), rel=1e-6)
    assert found["p"] == pytest.approx(0.0474, abs=1e-4)  # t = 2 / sqrt(0.5) = 2.828 at 4 degrees of freedom
    line = table.parts[0].shown.iloc[3]
    assert list(line) == [f"{SSA} minus {PAT}", "Accuracy (%)", "2.000 [0.037, 3.963]", 5, "0.047"]


def test_a_missing_seed_leaves_the_pairs_that_there_are() -> None:
    made = frame()
    made = made[(made["ensemble"] != PAT) | (made["seed"] < 3)]
    assert row(ensemble_tables.differences(made), ensemble=SSA, measure="nll")["n"] == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("masks", "partition"),
        ("structure", "neurons"),
        ("sparsity", 75.0),
        ("members", 4),
        ("epochs", 20),
        ("lr", 0.1),
        ("lr_schedule", "one-cycle"),
    ],
)
def test_a_twin_differs_in_the_tuning_alone(key: str, value: Any) -> None:
    made = frame()
    assert (SSA, PAT) in twins(made)
    made.loc[made["ensemble"] == PAT, key] = value
    assert SSA not in dict(twins(made))


def test_diversity_beside_what_was_published() -> None:
    made = exact(0.1, 0.2, 0.3, 0.4, 0.5, column="disagreement")
    table = ensemble_tables.diversity(made)
    assert printed(table.parts[0], SSA)["Disagreement"] == "0.300 ± 0.196"
    assert "Independent" not in list(table.parts[0].shown["Ensemble"])  # one member differs from none
    published = printed(table.parts[2], "EDST", "low-cost ensembles survey")
    assert (published["Disagreement"], published["KL"], published["Q"]) == ("0.026", "0.057", "–")
    assert row(table, ensemble=SSA)["disagreement"] == pytest.approx(0.3)


def test_one_seed_has_no_interval() -> None:
    made = frame()
    table = ensemble_tables.scores(made[made["seed"] == 0])
    assert printed(table.parts[0], PAT)["Accuracy (%)"].endswith(" (n = 1, no interval)")
    assert printed(table.parts[0], PAT)["n"] == "1"


@pytest.mark.slow
def test_files_are_written_where_there_are_ensembles(tmp_path: Path) -> None:
    results = write(tmp_path / "results")
    for out in ("one", "two"):
        write_tables(Record(results), tmp_path / out)
    for path in (f"{name}.{ending}" for name in NAMES for ending in ("csv", "md", "tex")):
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    (results / "ensembles.csv").unlink()
    write_tables(Record(results), tmp_path / "none")
    assert not list((tmp_path / "none").glob("table_ensembles*"))


def test_there_are_no_tables_without_content() -> None:
    single = frame()
    single = single[single["ensemble"] == "Independent"]
    assert ensemble_tables.differences(single) is None
    assert ensemble_tables.diversity(single) is None


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    made = frame(ensemble="50% & R_1")
    every = [
        ensemble_tables.scores(frame()),
        *(make(made) for make in (ensemble_tables.scores, ensemble_tables.diversity)),
    ]
    body = "\n".join(latex(table) for table in [*every, ensemble_tables.differences(frame())])
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "tables.tex").write_text(f"{head}{body}\n\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:]
