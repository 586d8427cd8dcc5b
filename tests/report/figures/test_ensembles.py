"""The ensembles' figures: what is drawn where, from numbers worked out by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from synthetic_ensembles import LENET, PAT, SSA, bins, corruptions, ensembles, sizes, write

from ssa.report.figures import ensemble_panels
from ssa.report.figures import ensembles as ensemble_figures
from ssa.report.figures.ensemble_blocks import ensemble_styles
from ssa.report.figures.ensembles import pareto
from ssa.report.figures.style import STYLES, look
from ssa.report.record import KEYS, Record
from ssa.report.registry import ENSEMBLES, FIGURES
from ssa.report.write import write_figures

EVERY = ensembles()
LENETS = EVERY[EVERY["model"] == "lenet-l"].reset_index(drop=True)
NAMES = [name for name, entry in FIGURES.items() if entry.section == ENSEMBLES]
POWERS = ["1", "2", "4", "8", "16", "32"]


def named(rows: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """``rows`` of one of the long files, with what ``frame`` says of their ensembles."""
    return rows.merge(frame[KEYS])


def draw(name: str, frame: pd.DataFrame) -> Figure:
    with look():
        if name == "ensemble_size":
            return ensemble_figures.ensemble_size(frame, named(sizes(frame), frame))
        if name == "ensemble_reliability":
            return ensemble_panels.ensemble_reliability(frame, named(bins(frame), frame))
        if name == "ensemble_corruptions":
            return ensemble_panels.ensemble_corruptions(frame, named(corruptions(frame), frame))
        return {**vars(ensemble_figures)}[name](frame)


def points(ax: Axes, colour: str, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in ax.lines if (line.get_color(), line.get_marker()) == (colour, marker)]
    return [(float(x), float(y)) for line in lines for x, y in line.get_xydata()]


def block_titles(figure: Figure) -> list[str]:
    return [part.get_suptitle() for part in figure.subfigs]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("study"), LENETS[LENETS["seed"] < 2])
    write_figures(Record(folder), folder / "figures")
    return folder


@pytest.mark.slow
def test_every_figure_is_written_and_other_processes_draw_the_same_bytes(drawn: Path) -> None:
    written = {path.name: path.read_bytes() for path in (drawn / "figures").iterdir()}
    assert {f"{name}.{ending}" for name in NAMES for ending in ("pdf", "png")} <= set(written)
    code = (
        "import sys, pathlib; from ssa.report import record, write;"
        "write.write_figures(record.Record(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), 2)"
    )
    hashes = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(drawn), str(drawn / "again")], check=True, env=hashes)
    assert {path.name: path.read_bytes() for path in (drawn / "again").iterdir()} == written


def test_a_style_is_the_tunings_colour_and_no_two_ensembles_look_alike() -> None:
    styles = ensemble_styles(LENETS)
    assert styles[PAT].colour == STYLES["one-shot"].colour
    assert styles[SSA].colour == STYLES["temperature"].colour
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(LENET)


def test_accuracy_shows_every_seed_and_the_mean() -> None:
    frame = LENETS.copy()
    frame.loc[frame["ensemble"] == SSA, "accuracy"] = [74.0, 75, 76, 77, 78]
    (ax,) = draw("ensemble_accuracy", frame).axes
    names = [text.get_text() for text in ax.get_yticklabels()]
    row = names.index(SSA)
    style = ensemble_styles(frame)[SSA]
    assert (76.0, float(row)) in points(ax, style.colour, style.marker)
    assert [x for x, y in points(ax, style.colour, ".") if int(y) == row] == [74, 75, 76, 77, 78]


def test_a_block_for_each_data_set_and_model_says_how_many_seeds() -> None:
    figure = draw("ensemble_accuracy", EVERY)
    assert block_titles(figure) == ["cifar10, lenet-l (n = 5 seeds)", "cifar10, wrn-28-10 (n = 5 seeds)"]


def test_an_ensemble_with_fewer_seeds_is_told_of() -> None:
    fewer = LENETS[(LENETS["ensemble"] != SSA) | (LENETS["seed"] < 2)]
    assert block_titles(draw("ensemble_accuracy", fewer)) == ["cifar10, lenet-l (n = 2 to 5 seeds)"]


def test_the_pareto_front_by_hand() -> None:
    cost = pd.Series({"a": 1.0, "b": 1.0, "c": 2.0, "d": 3.0, "e": 4.0})
    worth = pd.Series({"a": 5.0, "b": 6.0, "c": 5.5, "d": 7.0, "e": 7.0})
    assert pareto(cost, worth) == ["b", "d"]
    assert pareto(cost, -worth) == ["a"]


def test_cost_is_relative_to_the_single_model_in_both_panels() -> None:
    accuracy, nll = draw("ensemble_cost", LENETS).axes
    style, mine = ensemble_styles(LENETS)[SSA], LENETS[LENETS["ensemble"] == SSA]
    for ax, column in ((accuracy, "accuracy"), (nll, "nll")):
        ((x, y),) = points(ax, style.colour, style.marker)
        assert (x, y) == (pytest.approx(0.79), pytest.approx(mine[column].mean()))
    assert [text.get_text() for text in accuracy.get_xticklabels()] == ["1", "2", "4"]
    assert accuracy.get_xlabel() == "Masked FLOPs of training\n(dense training of Independent: 1)"
    front = next(line for line in accuracy.lines if line.get_linestyle() == "--")
    # plain, then SSA, which nothing dearer beats: level up to the dearest
    assert front.get_xdata() == pytest.approx([0.75, 0.79, 4.0])


def test_budgets_that_hardly_differ_stand_on_a_linear_axis() -> None:
    wide = EVERY[EVERY["model"] == "wrn-28-10"]
    axes = draw(
        "ensemble_cost",
        wide.assign(masked_flops=wide["masked_flops"].mean() * (1 + 0.01 * wide.groupby("ensemble").ngroup())),
    ).axes
    for ax in axes:
        low, high = ax.get_xlim()
        assert ax.get_xscale() == "linear"
        assert 3 <= sum(low <= tick <= high for tick in ax.get_xticks()) <= 5


def test_ensembles_of_equal_cost_stand_side_by_side() -> None:
    equal = LENETS.assign(masked_flops=LENETS["masked_flops"].max())
    ax = draw("ensemble_cost", equal).axes[0]
    bars = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    ax.get_figure(root=True).draw_without_rendering()
    for line in bars:
        (point,) = line.get_transform().transform(line.get_xydata())
        assert ax.bbox.contains(*point)
    places = sorted(line.get_transform().transform(line.get_xydata())[0][0] * 72 / ax.figure.dpi for line in bars)
    assert len(places) == len(LENET)
    assert np.diff(places) == pytest.approx(4)


def test_size_leaves_out_what_has_one_member() -> None:
    accuracy, _ = draw("ensemble_size", LENETS).axes
    assert len(accuracy.lines) == sum(entry[4] > 1 for entry in LENET)
    style, mine = ensemble_styles(LENETS)[SSA], LENETS[LENETS["ensemble"] == SSA]
    line = points(accuracy, style.colour, style.marker)
    assert [x for x, _ in line] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert line[0][1] == pytest.approx(mine["member_accuracy"].mean())
    assert line[-1][1] == pytest.approx(mine["accuracy"].mean())


def test_many_samples_leave_room_for_few_members() -> None:
    frame = LENETS.assign(members=LENETS["members"].where(LENETS["ensemble"] != "MC-dropout", 30))
    ax = draw("ensemble_size", frame).axes[0]
    assert (ax.get_xscale(), [tick.get_text() for tick in ax.get_xticklabels()]) == ("log", POWERS)


def test_reliability_pools_the_seeds_bins() -> None:
    head = {"set": "clean", "convention": "probabilities", "bin": 14}
    two = LENETS[(LENETS["ensemble"] == PAT) & (LENETS["seed"] < 2)]
    rows = [
        {"ensemble_id": name, **head, "count": count, "confidence": 0.98 * count, "correct": correct}
        for name, count, correct in zip(two["ensemble_id"], (100, 300), (90, 210), strict=True)
    ]
    # 24 predictions say too little of a bin's accuracy; 25 are the fewest that are drawn.
    for i, count in enumerate([24, 25] + [0] * 12):
        rows.append({**rows[0], "bin": i, "count": count, "confidence": 0.05 * count, "correct": count})
    with look():
        figure = ensemble_panels.ensemble_reliability(two, named(pd.DataFrame(rows), two))
    (ax,) = figure.axes
    drawn = [(pytest.approx(0.05), 1.0), (pytest.approx(0.98), 0.75)]  # 25 of 25, 300 of 400
    assert points(ax, STYLES["one-shot"].colour, "o") == drawn
    assert f"ECE {two['ece'].mean():.1f}" in [text.get_text() for text in ax.texts]


def test_a_name_stands_for_one_ensemble_of_each_data_set_and_model() -> None:
    other = LENETS.assign(dataset="cifar100", accuracy=LENETS["accuracy"] - 30, ece=LENETS["ece"] + 3)
    other["ensemble_id"] = "c100-" + other["ensemble_id"]
    both = pd.concat([LENETS, other], ignore_index=True)
    first, second = draw("ensemble_reliability", both).subfigs
    assert [part.axes[0].texts[0].get_text() for part in (first, second)] == ["ECE 6.0", "ECE 9.0"]
    style = ensemble_styles(LENETS)[SSA]
    clean = [
        points(part.axes[0], style.colour, style.marker)[0][1] for part in draw("ensemble_corruptions", both).subfigs
    ]
    assert clean[0] - clean[1] == pytest.approx(30)


def test_diversity_writes_the_ensembles_accuracy_beside_each_point() -> None:
    (ax,) = draw("ensemble_diversity", LENETS).axes
    numbers = {text.get_text() for text in ax.texts}
    assert f"{LENETS.loc[LENETS['ensemble'] == SSA, 'accuracy'].mean():.2f}" in numbers
    assert len(ax.texts) == len(LENET) - 1  # all but the single model


def test_numbers_stand_apart() -> None:
    crowded = LENETS.assign(disagreement=0.2 + 0.0001 * LENETS.groupby("ensemble").ngroup())
    figure = draw("ensemble_diversity", crowded.assign(member_accuracy=70 + 0.1 * crowded.groupby("ensemble").ngroup()))
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.shrunk(0.9, 0.8).overlaps(b.shrunk(0.9, 0.8)) for i, a in enumerate(boxes) for b in boxes[:i])


def test_corruptions_start_at_the_clean_accuracy_and_say_what_they_are() -> None:
    figure = draw("ensemble_corruptions", LENETS)
    assert block_titles(figure) == ["cifar10, lenet-l: generated corruptions of 10,000 test images (n = 5 seeds)"]
    assert [ax.get_title(loc="left") for ax in figure.axes][:2] == ["gaussian noise", "shot noise"]
    style, mine = ensemble_styles(LENETS)[SSA], LENETS[LENETS["ensemble"] == SSA]
    line = points(figure.axes[1], style.colour, style.marker)  # 1.1 points a severity
    assert line == [(s, pytest.approx(mine["accuracy"].mean() - 1.1 * s)) for s in range(6)]
    official = draw("ensemble_corruptions", LENETS.assign(corrupted_label="official"))
    assert "official corruptions" in block_titles(official)[0]


def test_there_is_no_figure_of_what_is_not_there() -> None:
    single = LENETS[LENETS["ensemble"] == "Independent"]
    none = corruptions(single)[:0]
    assert draw("ensemble_size", single) is None
    assert draw("ensemble_diversity", single) is None
    assert ensemble_panels.ensemble_corruptions(single, named(none, single)) is None


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_and_one_ensemble_can_be_drawn(name: str, tmp_path: Path) -> None:
    one = LENETS[(LENETS["ensemble"] == SSA) & (LENETS["seed"] == 0)]
    figure = draw(name, one)
    figure.savefig(tmp_path / "one.png", dpi=50)
    assert figure.axes or figure.texts
