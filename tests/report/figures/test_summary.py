from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd
import pytest
import synthetic
from matplotlib.figure import Figure
from matplotlib.text import Text

from ssa.analysis.claims.judge import ClaimRow, claims_table, judge_claims
from ssa.report.figures import summary as figures
from ssa.report.figures.style import look
from ssa.report.registry import FIGURES
from ssa.results.planned import Planned
from ssa.study.claims import ASIDE

STUDY = {"claims": {"smallest_difference": 0.2, "confidence": 0.95}}
CLEAR = {"estimate": 1.5, "low": 1.0, "high": 2.0, "n": 4, "better": 1.0, "better_low": 0.51, "better_high": 1.0}
OPEN = {"estimate": 0.5, "low": -0.5, "high": 1.5, "n": 4, "better": 0.75, "better_low": 0.3, "better_high": 0.95}


def arm(claim: str, *rows: dict[str, Any], arm: str = "small", verdict: str = "supported", standing: str = "") -> Any:
    """The lines of claims.csv for one arm: ``rows`` and the verdict."""
    head = {"claim": claim, "statement": "", "source": "", "arm": arm, "measure": "points"}
    judged = {"role": "judged", "comparison": "", "group": "one-shot", "against": 0.0, "verdict": "supported"}
    found = [ClaimRow(**{**head, **judged, **row}) for row in rows]
    end = {"role": "overall", "comparison": "overall", "verdict": verdict, "standing": standing}
    return [*found, ClaimRow(**{**head, **end})]


def draw(*arms: list[ClaimRow], study: dict[str, Any] = STUDY) -> Any:
    with look():
        return figures.summary(claims_table([row for one in arms for row in one]), study)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text()]


def points(figure: Figure, panel: int) -> list[tuple[str, float, float]]:
    """Marker, x and y of what is drawn with a marker."""
    lines = [line for line in figure.axes[panel].lines if line.get_marker() not in ("None", "")]
    return [(str(line.get_marker()), *(round(float(at), 6) for at in line.get_xydata()[0])) for line in lines]


def dotted(figure: Figure) -> list[tuple[float, float, float]]:
    """Each threshold: where it is, and from which to which line."""
    found = [line for line in figure.axes[0].lines if line.get_color() == figures.THRESHOLD["color"]]
    return [(float(line.get_xdata()[0]), *(round(float(at), 6) for at in line.get_ydata())) for line in found]


def test_a_row_has_its_difference_n_and_probability_of_improvement() -> None:
    figure = draw(arm("C1", CLEAR, {**OPEN, "group": "iterative", "verdict": "undecided"}, verdict="undecided"))
    # the claim's name takes 1.35 lines, the arm's 1.25, each row one
    assert points(figure, 0) == [("o", 1.5, 3.1), ("o", 0.5, 4.1)]
    assert points(figure, 1) == [("o", 1.0, 3.1), ("o", 0.75, 4.1)]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["One-shot", "Iterative"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["4", "4", "n"]
    assert texts(figure) == ["C1  SSA beats one-shot and iterative pruning", "small", "undecided"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["supported", "undecided", "threshold"]
    assert figure.axes[0].get_xlabel() == "Difference (points),\nmean and 95% interval"


def test_a_verdict_says_against_what_it_holds_and_leaves_its_cells_to_the_table() -> None:
    only = draw(
        arm("C1", CLEAR, arm="small, random masks, 95%, 10 epochs", verdict="supported (against One-shot only)")
    )
    name, verdict = (text.replace("\N{NO-BREAK SPACE}", " ") for text in texts(only)[1:])
    assert (name, verdict) == ("small, random masks, 95%,\n10 epochs", "supported (against One-shot only)")
    assert texts(draw(arm("C1", OPEN, verdict="mixed: above 0 in one; below 0 in another")))[-1] == "mixed"


def test_thresholds_stand_in_the_rows_that_they_judge_and_lie_within_the_axis() -> None:
    quoted = {**OPEN, "against": 4.0, "verdict": "contradicted"}
    figure = draw(arm("C1", CLEAR), arm("C5", quoted, verdict="contradicted"), arm("C9", {**OPEN, "against": 0.5}))
    assert dotted(figure) == [(0.2, 2.6, 3.6), (4.0, 6.2, 7.2), (0.5, 9.8, 10.8)]
    low, high = figure.axes[0].get_xlim()
    assert low < -0.5
    assert high > 4


def test_an_interval_far_wider_than_the_others_is_cut_and_ends_in_arrows() -> None:
    wide = {**OPEN, "low": -20.0, "high": 21.0, "group": "iterative"}
    figure = draw(arm("C1", CLEAR, CLEAR, wide))
    low, high = figure.axes[0].get_xlim()
    assert (low, high) == pytest.approx((-0.1, 2.1))
    assert [at for at in points(figure, 0) if at[0] in "<>"] == [("<", -0.1, 5.1), (">", 2.1, 5.1)]


def test_an_arm_without_an_estimate_is_a_line_with_its_verdict() -> None:
    nothing = {"verdict": "not testable: no children", "n": 0}
    figure = draw(arm("C6", nothing, verdict="not testable"))
    assert texts(figure) == ["C6  Annealing avoids the drop in accuracy", "small", "not testable"]
    assert points(figure, 0) == []
    assert list(figure.axes[0].get_yticklabels()) == []


def test_a_comparison_without_an_estimate_says_so_beside_one_that_has_one() -> None:
    nothing = {"verdict": "not testable: no children", "n": 0, "group": "iterative"}
    figure = draw(arm("C1", CLEAR, nothing, verdict="undecided"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["4", "no estimate", "0", "n"]


def test_arms_beside_those_named_are_left_out_if_there_are_too_many_rows() -> None:
    named = arm("C1", *[CLEAR] * 24)
    beside = [arm("C1", CLEAR, arm="other", standing=ASIDE, verdict=verdict) for verdict in ("supported", "mixed")]
    found = [figures.blocks(claims_table([*named, *more])) for more in (beside[0], [*beside[0], *beside[1]])]
    assert [len(figures.fitting(each)) for each in found] == [2, 1]
    assert figures.note_on_others(found[0]) == ""
    said = figures.note_on_others(found[1]).replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")
    assert said == "Beside the arms named beforehand, 2 more in claims.csv: 1 supported, 1 mixed."


@pytest.mark.parametrize(
    ("groups", "cells", "names"),
    [
        (["one-shot"], [""], ["One-shot"]),
        (["one-shot"], ["95%, one-cycle rate"], ["One-shot"]),
        (["one-shot", "temperature-all"], ["", ""], ["One-shot", "SSA temperature, all weights"]),
        (["e = 2.5", "e = 15"], ["", ""], ["e = 2.5", "e = 15"]),
        (["one-shot"] * 2, ["80%, one-cycle rate", "90%, one-cycle rate"], ["80%", "90%"]),
        (["one-shot", "iterative"], ["95%", "95%"], ["One-shot", "Iterative"]),
        (["one-shot", "iterative"] * 2, ["95%", "95%", "98%", "98%"], None),
    ],
)
def test_a_row_is_named_by_what_tells_it_from_the_others(
    groups: list[str], cells: list[str], names: list[str] | None
) -> None:
    both = ["One-shot, 95%", "Iterative, 95%", "One-shot, 98%", "Iterative, 98%"]
    assert figures.telling_names(pd.DataFrame({"group": groups, "cell": cells})) == (names or both)


def every_text(figure: Figure) -> Iterator[Text]:
    return (text for text in figure.findobj(Text) if text.get_text() and text.get_visible())


def test_it_is_read_in_a_column_and_no_two_texts_overlap() -> None:
    children = synthetic.children()
    claims = synthetic.study()["claims"]
    with look():
        figure = figures.summary(
            claims_table(judge_claims(claims, children, synthetic.history(children))), {"claims": claims}
        )
        assert figure is not None
        figure.draw_without_rendering()
        boxes = {text: text.get_window_extent() for text in every_text(figure)}
    assert figure.get_figwidth() <= 3.5
    assert min(text.get_fontsize() for text in boxes) >= 7
    listed = list(boxes.items())
    overlapping = [
        (one.get_text(), other.get_text())
        for i, (one, box) in enumerate(listed)
        for other, more in listed[i + 1 :]
        if box.shrunk(0.9, 0.7).overlaps(more.shrunk(0.9, 0.7))
    ]
    assert overlapping == []
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes.values())


def test_a_planned_study_has_it_if_it_tests_a_claim_whether_or_not_there_are_estimates() -> None:
    for tested in (True, False):
        plan = Planned(pd.DataFrame(), pd.DataFrame(), (), claims=tested)
        assert FIGURES["summary"].has(plan) == tested
    assert draw() is None
    assert draw(arm("C3", {"verdict": "not testable: no ensembles", "n": 0}, verdict="not testable")) is not None


def test_its_numbers_are_those_of_the_table() -> None:
    assert FIGURES["summary"].numbers == "claims"
    assert {"better", "better_low", "better_high", "against"} <= set(asdict(arm("C1")[0]))
