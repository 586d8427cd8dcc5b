import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from synthetic import children, write

from ssa.analysis import statistics
from ssa.report.record import Record
from ssa.report.tables import study as tables
from ssa.report.tables import style as table_style
from ssa.report.write import write_tables
from ssa.results.children import read_children

NAMES = ("table1_accuracy", "table2_ablation", "table3_differences")


def chosen(frame, **cell):
    """The rows of ``frame`` in one cell."""
    for key, value in cell.items():
        frame = frame[frame[key] == value]
    return frame


def simple():
    """The invented study's constant rate, 98% and random masks alone."""
    frame = chosen(children(), lr_schedule="constant")
    return frame[(frame["method"] == "dense") | ((frame["sparsity"] == 98) & (frame["criterion"] == "random"))]


def printed(part, method):
    """A printed row by its first cell."""
    return part.shown[part.shown.iloc[:, 0] == method].iloc[0]


def test_accuracy_is_the_mean_over_parents_with_its_interval():
    frame = children()
    table = tables.accuracy(frame)
    cell = {"criterion": "random", "lr_schedule": "one-cycle", "sparsity": 90, "method": "temperature"}
    row = chosen(table.long, **cell).iloc[0]
    mine = chosen(frame, reference=True, **cell)
    assert len(chosen(table.long, **cell)) == 1
    assert row["mean"] == pytest.approx(mine["accuracy"].mean())
    assert (row["n"], row["children"], row["diverged"]) == (6, 12, 0)
    assert row["low"] == pytest.approx(statistics.over_parents(mine, "accuracy").low)


def test_each_recipe_and_criterion_has_a_part():
    table = tables.accuracy(children())
    assert len(table.parts) == 4  # two criteria, two learning-rate schedules
    assert table.parts[0].caption.startswith("Constant rate, peak rate 0.01, magnitude masks. Parents 9")
    assert table.parts[0].caption.endswith("; n = 6 parents on test device.")
    assert "(%)" in table.note
    assert table.note.endswith(
        ' Settings: parents "small", digits, small-net, 1,000 training images, augmented, 20 epochs, connections '
        "pruned, layerwise allocation, pruned stem."
    )
    folder = tables.accuracy(children().assign(train_images=np.nan)).note
    assert ", all training images, " in folder
    assert ", 1 epoch, " in tables.accuracy(children().assign(epochs=1.0)).note
    (alone,) = tables.accuracy(simple()).parts
    assert alone.caption.startswith("Parents 9")  # with one part there is nothing to tell apart


def test_parent_and_dense_child_stand_in_the_caption():
    frame = simple()
    table = tables.accuracy(frame)
    assert list(table.parts[0].shown.columns) == ["Method", "98%"]
    dense = frame.loc[frame["method"] == "dense", "accuracy"].mean()
    assert f", dense children {dense:.2f} ± " in table.parts[0].caption
    assert f"Parents {frame['parent_accuracy'].mean():.2f} ± " in table.parts[0].caption
    assert list(table.long["method"][:2]) == ["parent", "dense"]


def test_bold_marks_the_best_and_those_not_significantly_worse():
    frame = simple()
    rng = np.random.default_rng(0)
    best = frame.loc[frame["method"] == "temperature", "accuracy"].to_numpy()
    for method, loss in (("random", rng.normal(0, 0.1, 12)), ("expected", rng.normal(0.5, 0.1, 12))):
        frame.loc[frame["method"] == method, "accuracy"] = best - loss
    part = tables.accuracy(frame).parts[0]
    bold = {row["Method"] for _, row in part.shown.iterrows() if row["98%"].startswith("**")}
    assert bold == {"SSA temperature", "SSA random"}
    long = tables.accuracy(frame).long
    assert chosen(long, method="expected")["p_to_best"].item() < 0.001


def test_nothing_is_bold_if_no_method_is_worse_than_the_best():
    frame = simple()
    frame = frame[frame["method"].isin(["dense", "one-shot", "temperature"])]
    base = frame.loc[frame["method"] == "one-shot", "accuracy"].to_numpy()
    # Gains of -1, 0, 1, -1, 0 and 1.6 points: mean 0.1, half-width 2.57 x 1.1 / sqrt(6) = 1.2
    frame.loc[frame["method"] == "temperature", "accuracy"] = base + np.repeat([-1, 0, 1, -1, 0, 1.6], 2)
    table = tables.accuracy(frame)
    assert "**" not in "".join(table.parts[0].shown["98%"])
    assert "Bold" not in table.note
    assert not chosen(table.long, method="temperature")["bold"].item()
    two = tables.accuracy(simple()[simple()["parent_seed"] < 2])  # two parents decide nothing
    assert "**" not in "".join(two.parts[0].shown["98%"])


def test_one_method_alone_is_not_bold():
    frame = simple()
    part = tables.accuracy(frame[frame["method"] == "one-shot"]).parts[0]
    assert "**" not in printed(part, "One-shot")["98%"]


def test_diverged_children_are_marked_and_counted():
    frame = simple()
    rows = frame.index[frame["method"] == "iterative"][:2]
    frame.loc[rows, "diverged"] = True
    table = tables.accuracy(frame)
    assert printed(table.parts[0], "Iterative")["98%"].endswith(" †2")
    assert chosen(table.long, method="iterative")["diverged"].item() == 2
    assert chosen(table.long, method="iterative")["n"].item() == 6
    assert "†k: k diverged children" in table.note
    assert "†k" not in tables.accuracy(simple()).note
    differences = tables.paired_differences(frame)
    assert printed(differences.parts[0], "Iterative")["Difference"].endswith("] †2")


def test_an_unusual_number_of_parents_is_said_in_the_cell():
    frame = simple()
    short = frame[(frame["method"] != "random") | (frame["parent_seed"] < 4)]
    assert printed(tables.accuracy(short).parts[0], "SSA random")["98%"].endswith(" (n = 4)")


@pytest.mark.parametrize("parents", [1, 2])
def test_one_parent_or_two_have_no_interval(parents):
    frame = simple()[simple()["parent_seed"] < parents]
    table = tables.accuracy(frame)
    words = rf"\(n = {parents}, no interval\)"
    assert re.fullmatch(rf"\d\d\.\d\d {words}", printed(table.parts[0], "One-shot")["98%"])
    row = printed(tables.paired_differences(frame).parts[0], "Iterative")
    assert re.fullmatch(rf"−?\d\.\d\d {words}", row["Difference"])
    assert (row["p"], row["Bootstrap"]) == ("–", "[–, –]")
    assert chosen(table.long, method="one-shot")["low"].notna().item() == (parents == 2)  # CSV keeps it


def test_columns_of_dashes_are_not_printed():
    frame = simple()[simple()["parent_seed"] < 4]
    table = tables.paired_differences(frame[(frame["seed"] == 0)])
    head = "| Method | Sparsity | Difference | n | p | BN re-estimated |"
    assert head in table_style.markdown(table)
    assert head.replace(" | ", " & ")[2:-2] in table_style.latex(table)


def test_a_few_parents_are_not_resampled():
    frame = simple()
    for parents, shown in ((4, False), (5, True)):
        row = printed(tables.paired_differences(frame[frame["parent_seed"] < parents]).parts[0], "Iterative")
        assert (row["Bootstrap"] != "[–, –]") is shown


def test_ablation_holds_every_setting_of_one_cell():
    frame = children()
    table = tables.ablation(frame)
    assert len(table.parts) == 1
    assert len(table.long) == 12  # two tau, three lengths, two schedules
    assert list(table.parts[0].shown.columns) == ["Sparsity", "Schedule", "tau", "e = 1", "e = 5", "e = 10"]
    cells = table.parts[0].shown.to_numpy().ravel()
    assert sum(cell.endswith("(ref.)") for cell in cells) == 1
    assert set(table.parts[0].shown["Sparsity"]) == {"90%"}
    assert "(ref.): the setting" in table.note
    row = chosen(table.long, tau=0.1, anneal_epochs=1, anneal_schedule="linear").iloc[0]
    assert row["difference"] == pytest.approx(1.5 - 0.6 - 0.5, abs=0.25)
    assert not row["reference"]
    assert chosen(table.long, tau=0.5, anneal_epochs=5, anneal_schedule="linear")["reference"].item()


def test_differences_by_hand():
    frame = simple()
    gain = pd.Series({0: 1.0, 1: 2.0, 2: 3.0, 3: 1.0, 4: 2.0, 5: 3.0})
    base = frame[frame["method"] == "one-shot"].set_index(["parent_seed", "seed"])
    mine = frame["method"] == "iterative"
    keys = list(zip(frame.loc[mine, "parent_seed"], frame.loc[mine, "seed"], strict=True))
    # child 0 gains 0.5 less than its parent's mean, child 1 gains 0.5 more; half as much with BN re-estimated
    extra = np.array([gain[parent] + (0.5 if child else -0.5) for parent, child in keys])
    frame.loc[mine, "accuracy"] = base.loc[keys, "accuracy"].to_numpy() + extra
    frame.loc[mine, "accuracy_bn"] = base.loc[keys, "accuracy_bn"].to_numpy() + extra / 2
    row = chosen(tables.paired_differences(frame).long, method="iterative").iloc[0]
    # parents' means 1, 2, 3, 1, 2, 3: mean 2, sd sqrt(0.8), t quantile 2.570582 at 5 degrees of freedom
    assert row["difference"] == pytest.approx(2)
    assert row["difference_high"] - 2 == pytest.approx(2.570582 * np.sqrt(0.8 / 6))
    assert row["difference_bn"] == pytest.approx(1)
    assert row["n"] == 6
    # within: 0.5^2 x 2 / 1; between: (mean square 2 x 0.8 - 0.5) / 2
    assert row["sd_within"] == pytest.approx(np.sqrt(0.5))
    assert row["sd_between"] == pytest.approx(np.sqrt(0.55))
    assert row["bootstrap_low"] == pytest.approx(2 - 0.8, abs=0.3)
    shown = printed(tables.paired_differences(frame).parts[0], "Iterative")
    assert shown["Difference"] == "2.00 [1.06, 2.94]"
    assert shown["p"] == "0.003"


def test_a_blank_second_column_leaves_a_dash():
    part = tables.paired_differences(simple().assign(accuracy_bn=np.nan)).parts[0]
    assert set(part.shown["BN re-estimated"]) == {"–"}


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert [table_style.number(value) for value in (-0.004, -0.006, 1.005, np.nan)] == ["0.00", "−0.01", "1.00", "–"]
    assert [table_style.signed(value) for value in (-0.004, 0.004, 0.006)] == ["0.00", "0.00", "+0.01"]


def test_latex_escapes_what_is_special():
    assert table_style.escape("50% of a_b & c #1") == r"50\% of a\_b \& c \#1"
    assert table_style.escape("**91.00 ± 0.50** †2") == r"\textbf{91.00 $\pm$ 0.50} $\dagger$2"
    assert table_style.escape("[−0.10, –] < one-shot") == r"[$-$0.10, --] $<$ one-shot"
    assert table_style.escape("\\{}~^$") == r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\$"


def test_markdown_rows_have_as_many_cells_as_the_head():
    frame = simple()
    frame["parent"] = "a|b"
    lines = table_style.markdown(tables.accuracy(frame)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert rows[0] == "| Method | 98% |"
    assert {line.count("|") for line in rows} == {3}


def test_files_are_the_same_bytes_every_time(tmp_path):
    results = write(tmp_path / "results")
    for out in ("one", "two"):
        write_tables(Record(results), tmp_path / out)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(f"{name}.{ending}" for name in (*NAMES, "table4_sanity") for ending in ("csv", "md", "tex"))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_table_without_content_is_not_written_and_an_earlier_one_goes(tmp_path):
    results = write(tmp_path / "results")
    write_tables(Record(results), tmp_path / "out")
    frame = read_children(results)
    frame[frame["method"] == "dense"].to_csv(results / "children.csv", index=False)
    write_tables(Record(results), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    frame = children(parents=3).assign(parent="wide_net & 100%", device="GPU #1 <80 GB>")
    made = (tables.accuracy(frame), tables.ablation(frame), tables.paired_differences(frame))
    body = "\n".join(table_style.latex(table) for table in made)
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").exists()
