from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.figure import Figure

from ssa.analysis.statistics import over_parents
from ssa.report.figures import panels as figure_panels
from ssa.report.figures import study as figures
from ssa.report.figures import style as figure_style
from ssa.report.figures.differences import ablation_heatmap, forest_differences
from ssa.report.figures.style import look, styles
from ssa.report.record import Record
from ssa.report.registry import FIGURES, STUDY
from ssa.report.selection import usual_recipe
from ssa.report.write import write_figures
from ssa.study.methods import CATALOGUE

CELL = {
    **{"parent": "small", "augment": False, "seed": 0, "criterion": "random", "structure": "connections"},
    **{"allocation": "layerwise", "stem": "pruned", "epochs": 4, "lr_schedule": "one-cycle", "lr": 0.1},
    **{"reference": True, "diverged": False, "parent_accuracy": 90.0, "dense_accuracy": 91.0},
    **{"tau": np.nan, "anneal_epochs": np.nan, "anneal_schedule": None},
}


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{**CELL, "child_id": f"c{i}", **row} for i, row in enumerate(rows)])


def child(method: str, sparsity: float, parent_seed: int, accuracy: float, **others: object) -> dict[str, object]:
    return {
        "method": method,
        "sparsity": sparsity,
        "parent_seed": parent_seed,
        "accuracy": accuracy,
        "accuracy_bn": accuracy,
        **others,
    }


TWO_PARENTS = frame(
    *(child("one-shot", 50.0, seed, accuracy) for seed, accuracy in enumerate((80.0, 84.0))),
    *(child("one-shot", 98.0, seed, accuracy) for seed, accuracy in enumerate((60.0, 64.0))),
    *(child("temperature", 50.0, seed, accuracy) for seed, accuracy in enumerate((81.0, 86.0))),
    *(child("temperature", 98.0, seed, accuracy) for seed, accuracy in enumerate((63.0, 66.0))),
)


def test_estimates_are_those_over_the_parents_of_each_group() -> None:
    rows = synthetic.children()
    rows.loc[rows["method"] == "random", "accuracy"] = np.nan  # nothing known
    rows.loc[(rows["method"] == "iterative") & (rows["parent_seed"] > 0), "accuracy"] = np.nan  # of one parent alone
    rows.loc[rows.index[::7], "diverged"] = True
    by = ["method", "sparsity"]
    found = figure_panels.estimates(rows, by, "accuracy")
    groups = dict(iter(rows.groupby(by)))
    assert list(found[by].itertuples(index=False, name=None)) == sorted(groups)
    assert {0, 1, 6} == set(found["n"])
    for row in found.itertuples():
        part = groups[row.method, row.sparsity]
        known = over_parents(part, "accuracy")
        np.testing.assert_allclose((row.mean, row.low, row.high), (known.mean, known.low, known.high), rtol=1e-12)
        assert (row.n, row.diverged, row.reference) == (known.n, part["diverged"].any(), part["reference"].any())


NAMES = [name for name, entry in FIGURES.items() if entry.section == STUDY]
OF_CHILDREN = [name for name in NAMES if "claims" not in FIGURES[name].takes]


def draw(name: str, rows: pd.DataFrame) -> Any:
    with look():
        if name == "ablation_heatmap":
            return ablation_heatmap(rows)
        functions = {**vars(figures), "forest_differences": forest_differences}
        return functions[name](rows, styles(rows["method"]))


def lines(figure: Figure, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    """The drawn points of each colour's marked lines in one panel, colours in lower case."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in figure.axes[panel].lines:
        if line.get_marker() not in ("None", ""):
            found.setdefault(str(line.get_color()).lower(), []).extend(map(tuple, line.get_xydata().tolist()))
    return found


def texts(figure: Figure) -> str:
    artists = [*figure.texts, *(text for ax in figure.axes for text in [*ax.texts, ax.title, ax._left_title])]
    return "\n".join(text.get_text() for text in artists)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    synthetic.write(folder)
    write_figures(Record(folder), folder / "figures")
    return folder


def test_every_figure_is_written_as_pdf_and_png(drawn: Path) -> None:
    assert {path.name for path in (drawn / "figures").iterdir()} == {
        f"{n}.{end}" for n in NAMES for end in ("pdf", "png")
    }
    for name in NAMES:
        pdf = (drawn / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"CreationDate" not in pdf
        assert (drawn / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.slow
def test_other_processes_draw_the_same_bytes(drawn: Path) -> None:
    again = drawn / "again"
    code = (
        "import sys, pathlib; from ssa.report import record, write;"
        "write.write_figures(record.Record(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), 2)"
    )
    hashes = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(drawn), str(again)], check=True, env=hashes)
    for path in again.iterdir():
        assert path.read_bytes() == (drawn / "figures" / path.name).read_bytes(), path.name


def test_the_catalogue_has_a_style_each_and_no_two_look_alike() -> None:
    assert set(figure_style.STYLES) == set(CATALOGUE)
    everyone = [*figure_style.STYLES.values(), *figure_style.USER_STYLES]
    assert len({(style.colour, style.marker) for style in everyone}) == len(everyone)


def test_a_style_does_not_depend_on_the_company() -> None:
    alone, among = styles(["temperature"]), styles(["mine", "temperature", "one-shot", "yours"])
    assert alone["temperature"] == among["temperature"] == figure_style.STYLES["temperature"]
    assert [among["mine"], among["yours"]] == figure_style.USER_STYLES[:2]
    assert styles(["yours", "mine"]) == {name: among[name] for name in ("mine", "yours")}


@pytest.mark.parametrize("name", ["accuracy_vs_sparsity", "learning_curves", "keep_probability", "forest_differences"])
def test_a_method_has_its_colour_and_marker_in_every_figure(name: str) -> None:
    children = synthetic.children(parents=2)
    children = children[~children["method"].isin(["iterative", "random"])]  # their keep-probability is the same
    rows = children
    if name in ("learning_curves", "keep_probability"):
        history = synthetic.history(children)[["child_id", "epoch", "test_accuracy", "keep_pruned"]]
        rows = history.merge(children, on="child_id")
    style = figure_style.STYLES["temperature"]
    looks = {(line.get_color(), line.get_marker()) for ax in draw(name, rows).axes for line in ax.lines}
    assert (style.colour, style.marker) in looks
    assert {colour for colour, marker in looks if marker == style.marker} == {style.colour}


def test_accuracy_is_the_mean_over_parents_against_the_weights_that_remain() -> None:
    figure = draw("accuracy_vs_sparsity", TWO_PARENTS)
    found = lines(figure)
    assert found["#666666"] == [(50.0, 82.0), (2.0, 62.0)]
    assert found["#d55e00"] == [(50.0, 83.5), (2.0, 64.5)]
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["50", "98"]
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "None"]
    assert levels == [91.0]


def test_accuracy_has_a_panel_for_each_arm_and_criterion() -> None:
    both = pd.concat([TWO_PARENTS, TWO_PARENTS.assign(criterion="magnitude"), TWO_PARENTS.assign(stem="dense")])
    titles = [
        ax._left_title.get_text().replace("\N{NO-BREAK SPACE}", " ") for ax in draw("accuracy_vs_sparsity", both).axes
    ]
    assert titles == ["random masks, n = 2", "magnitude masks, n = 2", "dense stem, random masks, n = 2"]


def test_settings_other_than_the_fixed_one_stay_out_of_the_comparison() -> None:
    variant = frame(child("temperature", 50.0, 0, 10.0, reference=False))
    assert lines(draw("accuracy_vs_sparsity", pd.concat([TWO_PARENTS, variant])))["#d55e00"][0] == (50.0, 83.5)


def test_a_sweep_of_the_rate_is_left_out() -> None:
    sweep = TWO_PARENTS.iloc[:2].assign(lr=0.2)
    kept = usual_recipe(pd.concat([TWO_PARENTS, sweep]))
    assert len(kept) == len(TWO_PARENTS)
    assert set(kept["lr"]) == {0.1}


def test_a_diverged_child_counts_but_does_not_set_the_axis() -> None:
    rows = TWO_PARENTS.copy()
    rows.loc[rows.index[-2:], "accuracy"] = 10.0
    rows.loc[rows.index[-1], "diverged"] = True
    figure = draw("accuracy_vs_sparsity", rows)
    bottom, _ = figure.axes[0].get_ylim()
    assert bottom > 30  # the lowest interval of the others, that of 60 and 64, begins at 36.6
    assert (2.0, 10.0) in lines(figure)["#d55e00"]
    assert lines(figure)["#000000"] == [(2.0, bottom)]
    assert "10.0" in texts(figure)
    assert "Diverged child" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_ring_beyond_the_axes_stands_at_the_edge_with_its_value() -> None:
    figure = figure_style.blank(2, 2)
    ax = figure.subplots()
    ax.set(xlim=(0, 1), ylim=(50, 60))
    figure_panels.ring(ax, 0.5, 10.0, "10.0")
    figure_panels.ring(ax, 0.5, 55.0, "55.0")
    assert [tuple(line.get_xydata()[0]) for line in ax.lines] == [(0.5, 50.0), (0.5, 55.0)]
    assert [text.get_text() for text in ax.texts] == ["10.0"]


def curves(children: pd.DataFrame, accuracy: dict[int, float], keep: dict[int, float]) -> pd.DataFrame:
    epochs = pd.DataFrame({"epoch": list(accuracy), "test_accuracy": accuracy.values(), "keep_pruned": keep.values()})
    return children.merge(epochs, how="cross")


def test_learning_curves_skip_epochs_that_were_not_scored() -> None:
    rows = curves(TWO_PARENTS, {0: 20.0, 1: np.nan, 2: 70.0}, {0: 0.5, 1: 0.25, 2: 0.0})
    figure = draw("learning_curves", rows)
    assert lines(figure)["#666666"] == [(0.0, 20.0), (2.0, 70.0)]
    assert [ax._left_title.get_text().replace("\N{NO-BREAK SPACE}", " ") for ax in figure.axes] == [
        "random masks, 50%, n = 2",
        "random masks, 98%, n = 2",
    ]


def test_learning_curves_show_the_two_highest_sparsities() -> None:
    more = pd.concat([TWO_PARENTS, TWO_PARENTS[TWO_PARENTS["sparsity"] == 50].assign(sparsity=90.0)])
    titles = texts(draw("learning_curves", curves(more, {0: 20.0, 1: 70.0}, {0: 0.5, 1: 0.0})))
    assert "90%" in titles
    assert "98%" in titles
    assert "50%" not in titles


def test_keep_probability_draws_laws_that_coincide_once() -> None:
    rows = pd.concat([TWO_PARENTS, TWO_PARENTS[TWO_PARENTS["method"] == "temperature"].assign(method="frozen")])
    figure = draw("keep_probability", curves(rows, {0: 20.0, 1: 60.0, 2: 70.0}, {0: 0.5, 1: 0.25, 2: 0.0}))
    assert lines(figure) == {"#d55e00": [(0.0, 0.5), (1.0, 0.25), (2.0, 0.0)]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "SSA temperature (also: Frozen pruned weights)"
    ]


def test_keep_probability_ends_where_annealing_does_and_jumps_where_a_law_jumps() -> None:
    annealed = TWO_PARENTS[TWO_PARENTS["method"] == "temperature"]
    rows = pd.concat(
        [annealed.assign(anneal_epochs=0.5), annealed.assign(method="constant-temperature", anneal_epochs=0.5)]
    )
    figure = draw("keep_probability", curves(rows, {0: 20.0, 1: 60.0}, {0: 0.5, 1: 0.0}))
    (one, two) = figure.axes[0].lines
    for line in (one, two):
        assert list(zip(*line.get_data(), strict=True)) == [(0.0, 0.5), (0.5, 0.0), (1.0, 0.0)]
    assert [line.get_drawstyle() for line in (one, two)] == ["default", "steps-post"]


def test_keep_probability_is_of_a_cell_in_which_something_is_kept() -> None:
    annealed = TWO_PARENTS[TWO_PARENTS["method"] == "temperature"]
    low, high = annealed[annealed["sparsity"] == 50], annealed[annealed["sparsity"] == 98]
    none = curves(pd.concat([high, high.assign(method="expected")]), {0: 20.0, 1: 60.0}, {0: 0.0, 1: 0.0})
    assert draw("keep_probability", none) is None
    some = pd.concat([none, curves(low, {0: 20.0, 1: 60.0}, {0: 0.5, 1: 0.0})])
    assert lines(draw("keep_probability", some)) == {"#d55e00": [(0.0, 0.5), (1.0, 0.0)]}
    little = draw("keep_probability", curves(low, {0: 20.0, 1: 60.0}, {0: 0.0001, 1: 0.0}))
    assert little.axes[0].get_xlim() == (0.0, 1.0)


def test_the_forest_shows_the_paired_difference_and_n() -> None:
    figure = draw("forest_differences", TWO_PARENTS)  # differences 1 and 2 at 50%, 3 and 2 at 98%
    assert lines(figure)["#d55e00"] == [(1.5, 1.0), (2.5, 3.0)]
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "2", "n"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["50%", "SSA temperature", "98%", "SSA temperature"]


def test_one_collapsed_child_does_not_flatten_the_forest() -> None:
    seeds = range(3)
    rows = frame(
        *(child("one-shot", 90.0, seed, 80.0) for seed in seeds),
        *(child("iterative", 90.0, seed, 80.0 + seed / 10) for seed in seeds),  # 0.1 with an interval of 0.1 ± 0.25
        *(child("random", 90.0, seed, 80.0 + seed / 10) for seed in seeds),
        *(child("temperature", 90.0, seed, 20.0 if seed == 2 else 80.0) for seed in seeds),  # mean -20
    )
    figure = draw("forest_differences", rows)
    left, right = figure.axes[0].get_xlim()
    # 0.5 points lie within the axis, with a twentieth of what the intervals need beside them.
    assert (left, right) == pytest.approx((0.1 - 0.2484 * 1.1, 0.5 + 0.05 * 2 * 0.2484 * 1.1), abs=1e-3)
    assert "\N{MINUS SIGN}20.0" in texts(figure)
    assert [point for point in lines(figure)["#d55e00"] if point[0] in (left, right)] == [(left, 3.0), (right, 3.0)]


def test_the_quoted_gain_stands_where_98_percent_is_shown() -> None:
    def levels(rows: pd.DataFrame) -> list[list[float]]:
        axes = draw("forest_differences", rows).axes
        return [[line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] for ax in axes]

    other = TWO_PARENTS[TWO_PARENTS["sparsity"] == 50].assign(criterion="magnitude")
    assert levels(TWO_PARENTS) == [[0.2, 0.5, 4]]
    assert levels(pd.concat([TWO_PARENTS, other])) == [[0.2, 0.5, 4], [0.2, 0.5]]
    assert draw("forest_differences", TWO_PARENTS).axes[0].xaxis.get_zorder() < figure_style.THRESHOLD["zorder"]


def test_the_heatmap_is_centred_at_no_difference_and_frames_the_fixed_setting() -> None:
    setting = {"anneal_schedule": "linear"}
    rows = frame(
        child("one-shot", 90.0, 0, 80.0),
        child("temperature", 90.0, 0, 82.0, tau=0.5, anneal_epochs=1.0, **setting),
        child("temperature", 90.0, 0, 79.7, tau=0.1, anneal_epochs=2.0, reference=False, **setting),
    )
    figure = draw("ablation_heatmap", rows)
    ax = figure.axes[0]
    assert ax.images[0].get_clim() == (-2.0, 2.0)
    assert {text.get_position(): text.get_text() for text in ax.texts} == {(0, 1): "+2.0", (1, 0): "\N{MINUS SIGN}0.3"}
    assert [patch.get_xy() for patch in ax.patches] == [(-0.5, 0.5)]
    assert ax._left_title.get_text().replace("\N{NO-BREAK SPACE}", " ") == "random masks, 90%, n = 1\nlinear annealing"


def test_a_map_in_which_the_first_panel_was_not_run_has_a_scale() -> None:
    rows = [child("one-shot", sparsity, 0, 80.0) for sparsity in (50.0, 90.0)]
    for i, (tau, epochs) in enumerate(itertools.product((0.1, 0.5), (1.0, 2.0))):
        setting = {"tau": tau, "anneal_epochs": epochs, "reference": False}
        rows.append(child("temperature", 50.0, 0, 80.0, **setting, anneal_schedule="linear"))
        rows.append(child("temperature", 90.0, 0, 80.0 + i, **setting, anneal_schedule="cosine"))
    panels = draw("ablation_heatmap", frame(*rows)).axes[:4]
    assert [ax.images[0].get_clim() for ax in panels] == 4 * [(-3.0, 3.0)]


def test_a_sweep_over_tau_alone_is_a_line_and_the_fixed_setting_is_filled() -> None:
    rows = frame(
        child("one-shot", 90.0, 0, 80.0),
        child("constant-temperature", 90.0, 0, 82.0, tau=0.5, anneal_epochs=1.0),
        child("constant-temperature", 90.0, 0, 79.7, tau=0.1, anneal_epochs=1.0, reference=False),
    )
    figure = draw("ablation_heatmap", rows)
    swept, fixed = ([tuple(point) for point in line.get_xydata()] for line in marked(figure))
    assert swept == [pytest.approx((0.1, -0.3)), pytest.approx((0.5, 2.0))]
    assert fixed == [(0.5, 2.0)]
    assert figure.axes[0].get_xlabel() == "tau"
    assert figure.axes[0].get_ylabel() == "Minus one-shot (points)"


def marked(figure: Figure) -> list[Any]:
    """The lines of the first panel that have markers."""
    return [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "")]


def test_an_interval_that_goes_on_beyond_the_axes_ends_in_an_arrow() -> None:
    figure = figure_style.blank(2, 2)
    ax = figure.subplots()
    ax.errorbar([1, 2], [0.5, 0.5], [0.2, 5])
    ax.errorbar(3, 0.5, xerr=9)
    ax.set(xlim=(0, 4), ylim=(0, 1))
    figure_panels.arrows(ax)
    found = {(line.get_marker(), *map(float, line.get_xydata()[0])) for line in marked(figure)}
    assert found == {("v", 2, 0), ("^", 2, 1), ("<", 0, 0.5), (">", 4, 0.5)}


def test_thresholds_lie_within_the_axis() -> None:
    ax = figure_style.blank(2, 2).subplots()
    ax.set(ylim=(-1, 0.1))
    figure_panels.thresholds(ax, "y", 0.2, 0.5, 4.0)
    low, high = ax.get_ylim()
    assert low == -1
    assert high > 4
    assert [line.get_ydata()[0] for line in ax.lines] == [0, 0.2, 0.5, 4.0]


@pytest.mark.parametrize("most", [None, 2, 5])
def test_no_row_of_panels_is_more_than_half_empty(most: int | None) -> None:
    for panels in range(1, 13):
        columns = figure_panels.columns_of(panels, most)
        assert columns <= (most or 4)
        assert -panels % columns <= columns / 2, panels
    assert [figure_panels.columns_of(panels) for panels in (1, 2, 3, 4, 6, 7, 9, 12)] == [1, 2, 3, 2, 3, 4, 3, 4]
    assert [figure_panels.columns_of(panels, 5) for panels in (4, 5, 6)] == [4, 5, 3]


def test_what_remains_stands_above_what_is_pruned() -> None:
    (above,) = [child for child in draw("accuracy_vs_sparsity", TWO_PARENTS).axes[0].child_axes]
    assert [text.get_text() for text in above.get_xticklabels()] == ["50", "2"]
    assert above.get_xlabel() == "Weights remaining (%)"


@pytest.mark.slow
def test_a_study_without_the_data_has_no_figures_and_an_earlier_one_goes(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path)
    write_figures(Record(folder), tmp_path / "figures")
    children = synthetic.children(parents=2)
    dense = children[children["method"] == "dense"]
    dense.to_csv(tmp_path / "children.csv", index=False)
    synthetic.history(dense).to_parquet(tmp_path / "history.parquet")
    (tmp_path / "study.json").write_text(json.dumps({**synthetic.study(), "claims": {}}), encoding="utf-8")
    write_figures(Record(folder), tmp_path / "figures")
    assert not list((tmp_path / "figures").iterdir())


@pytest.mark.parametrize("name", OF_CHILDREN)
def test_there_is_no_figure_without_data(name: str) -> None:
    rows = curves(TWO_PARENTS[:0], {0: 0.0}, {0: 0.0})
    assert draw(name, rows) is None


def test_learning_curves_are_of_the_network_as_used_until_annealing_ends() -> None:
    rows = pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3, 0, 2],
            "anneal_epochs": [2.0, 2.0, 2.0, 2.0, np.nan, np.nan],
            "test_accuracy": [10.0, 11.0, 52.0, 53.0, 30.0, np.nan],
            "test_accuracy_used": [80.0, np.nan, 52.0, np.nan, 30.0, 41.0],
        }
    )
    found = figures.as_used(rows)
    assert found["test_accuracy"].tolist() == pytest.approx([80, np.nan, 52, 53, 30, 41], nan_ok=True)
    assert found["used"].tolist() == [True, True, False, False, False, False]
    without = figures.as_used(rows.drop(columns="test_accuracy_used"))
    assert without["test_accuracy"].equals(rows["test_accuracy"])
    assert not without["used"].any()


def test_the_network_as_used_is_told_apart_from_the_target() -> None:
    rows = curves(TWO_PARENTS, {0: 20.0, 1: 60.0, 2: 70.0}, {0: 0.5, 1: 0.25, 2: 0.0})
    rows = rows.assign(test_accuracy_used=80.0, anneal_epochs=np.where(rows["method"] == "temperature", 2, np.nan))
    figure = draw("learning_curves", rows)
    found = [(str(line.get_markerfacecolor()), line.get_xdata().tolist()) for line in marked(figure)]
    assert [one for one in found if one[1]] == [("#666666", [0, 1, 2]), ("white", [0, 1]), ("#D55E00", [2])]
    assert "As training uses it" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_child_that_collapses_when_its_statistics_are_reestimated_is_ringed() -> None:
    rows = curves(TWO_PARENTS, {0: 20.0, 1: 70.0}, {0: 0.5, 1: 0.0})
    rows.loc[rows.index[-2:], "accuracy_bn"] = rows["accuracy"].iloc[-1] - 5.1
    said = [[text.get_text() for text in draw("learning_curves", rows).legends[0].get_texts()]]
    rows["accuracy_bn"] = rows["accuracy"] - 4.9
    said += [[text.get_text() for text in draw("learning_curves", rows).legends[0].get_texts()]]
    assert ["Diverged child" in one for one in said] == [True, False]
