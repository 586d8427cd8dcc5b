"""The summary: each judged comparison's difference with interval and threshold, and its probability of improvement."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import blended_transform_factory

from ssa.analysis.claims.comparison import JUDGED
from ssa.analysis.claims.judge import by_arm
from ssa.analysis.claims.verdicts import kind_of
from ssa.analysis.statistics import is_usual
from ssa.report.figures.panels import arrows, round_ticks
from ssa.report.figures.style import COLUMN, THRESHOLD, blank
from ssa.study.claims import ASIDE, CLAIMS, percent, thresholds, top_of
from ssa.study.methods import label

MOST = 25  # rows that can be read in one figure
PITCH = 0.128  # inches from one line of text to the next
LABEL, WHOLE = 24, 60  # characters in a line of a row's label, and in a line of the whole width
SIZE = 7  # points; what is printed in a column is read on a telephone
# How a comparison is drawn, by the first word of its verdict; the last two words differ from it.
LOOKS: dict[str, dict[str, Any]] = {
    "supported": {"marker": "o", "color": "#117733"},
    "undecided": {"marker": "o", "color": "#666666", "markerfacecolor": "white"},
    "contradicted": {"marker": "X", "color": "#CC3311", "markersize": 4.6},
    "loss": {"marker": "v", "color": "#CC3311", "markersize": 4.6},
    "not": {"marker": "D", "color": "#999999", "markerfacecolor": "white", "markersize": 3},
}
WORDS = {"loss": "a loss", "not": "not testable"}


@dataclass(frozen=True)
class Block:
    """A claim before one arm: the verdict, and the comparisons by which it is judged, if any has an estimate.

    ``named``: whether the arm was named beforehand, and does not stand beside one that was.
    """

    claim: str
    arm: str
    verdict: str
    named: bool
    rows: pd.DataFrame


@dataclass(frozen=True)
class Line:
    """A line of the figure: a claim, an arm with its ``verdict``, or a comparison with its ``row`` of claims.csv.

    ``top`` and ``height`` are in lines of text.
    """

    text: str
    height: float
    top: float = 0.0
    verdict: str = ""
    row: pd.Series | None = None

    @property
    def middle(self) -> float:
        """The place of its middle."""
        return self.top + self.height / 2


def summary(claims: pd.DataFrame, study: dict[str, Any]) -> Figure | None:
    """Every claim's comparisons, a row each, grouped by claim and arm; None if the study tests no claims.

    ``claims``: the rows of claims.csv; ``study``: of study.json.
    """
    found = blocks(claims)
    if not found:
        return None
    shown, top = fitting(found), top_of(study["claims"])
    lines = placed(shown)
    end = lines[-1].top + lines[-1].height
    figure = blank(COLUMN, 1.0 + PITCH * end)
    gains, shares = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    gains.set_ylim(end, 0)
    gains.set_xlabel(f"Difference (points),\nmean and {percent(top.confidence)} interval", loc="left", fontsize=SIZE)
    shares.set_xlim(-0.07, 1.07)
    shares.set_xlabel("Probability of\nimprovement", loc="right", fontsize=SIZE)
    shares.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    _limit(gains, pd.concat([block.rows for block in shown]), top.smallest_difference)
    for ax, none in ((gains, 0), (shares, 0.5)):
        ax.axvline(none, color="black", linewidth=0.8)
        ax.grid(False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    for line in lines:
        if line.row is None:
            _heading(figure, gains, line)
        else:
            levels = thresholds(line.row["claim"], line.row["against"], top.smallest_difference)
            _comparison(gains, shares, line, levels)
    for ax in (gains, shares):
        arrows(ax)
    rows = [line for line in lines if line.row is not None]
    gains.set_yticks([line.middle for line in rows], [line.text for line in rows])
    gains.text(1.04, -0.5, "n", transform=gains.get_yaxis_transform(), va="center_baseline", fontsize=SIZE)
    if rows:
        _legend(figure, rows)
    figure.supxlabel(note_on_others(found), x=0.012, ha="left", fontsize=SIZE)
    return figure


def blocks(claims: pd.DataFrame) -> list[Block]:
    """The arms of ``claims`` in their order; each ends with its overall verdict."""
    return [_block(part) for part in by_arm(claims)]


def _block(part: pd.DataFrame) -> Block:
    end, judged = part.iloc[-1], part[part["role"] == JUDGED]
    rows = judged if judged["estimate"].notna().any() else judged[:0]
    verdict = end["verdict"].split(":")[0]  # a mixed one goes on to list cells
    return Block(end["claim"], end["arm"], verdict, end["standing"] != ASIDE, rows)


def fitting(found: list[Block]) -> list[Block]:
    """All of ``found``, or if they have more than :data:`MOST` rows the arms that were named beforehand."""
    few = sum(len(block.rows) for block in found) <= MOST
    return [block for block in found if few or block.named]


def note_on_others(found: list[Block]) -> str:
    """How many arms are not :func:`fitting`, and their verdicts; empty if all are."""
    if len(fitting(found)) == len(found):
        return ""
    verdicts = Counter(block.verdict for block in found if not block.named)
    told = ", ".join(f"{count}\N{NO-BREAK SPACE}{verdict}" for verdict, count in verdicts.most_common())
    text = f"Beside the arms named beforehand, {verdicts.total()} more in claims.csv: {told}."
    return textwrap.fill(text, WHOLE)


def placed(shown: list[Block]) -> list[Line]:
    """The lines from the top to the bottom."""
    lines: list[Line] = []
    top, claim = 0.0, ""
    for block in shown:
        for line in _lines(block, block.claim != claim):
            lines.append(replace(line, top=top))
            top += line.height
        claim = block.claim
    return lines


def _lines(block: Block, first: bool) -> Iterator[Line]:
    """The lines of one block; ``first``: under the claim's name."""
    if first:
        yield Line(f"{block.claim}  {CLAIMS[block.claim].short}", 1.35)
    parts = block.arm.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")  # breaks between parts
    yield _wrapped(parts, WHOLE - len(block.verdict), 0.25, verdict=block.verdict)
    for name, (_, row) in zip(telling_names(block.rows), block.rows.iterrows(), strict=True):
        yield _wrapped(name, LABEL, 0, row=row)


def _wrapped(text: str, width: int, room: float, **more: Any) -> Line:
    """A line that is as high as ``text`` needs, and ``room``."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    return Line("\n".join(lines), 0.1 + 0.9 * len(lines) + room, **more)


def telling_names(rows: pd.DataFrame) -> list[str]:
    """A name for each of an arm's comparisons, unlike the others: a baseline or setting, a cell, or parts of both."""
    parts = [[label(row["group"]), *filter(None, row["cell"].split(", "))] for _, row in rows.iterrows()]
    common = set(parts[0]).intersection(*parts) if parts else set()
    return [", ".join(part for part in own if part not in common) or own[0] for own in parts]


def _limit(ax: Axes, rows: pd.DataFrame, smallest: float) -> None:
    """Limits that hold every estimate and threshold, and all but the widest intervals."""
    usual = rows[is_usual(rows["high"] - rows["low"])]
    pairs = zip(rows["claim"], rows["against"], strict=True)
    levels = [level for pair in pairs for level in thresholds(*pair, smallest)]
    values = np.array([0.0, *usual["low"], *usual["high"], *rows["estimate"], *levels])
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.05 * (high - low) or 1.0
    ax.set_xlim(low - margin, high + margin)
    round_ticks(ax, "x", 5)


def _comparison(gains: Axes, shares: Axes, line: Line, levels: list[float]) -> None:
    """A comparison's difference, n and probability of improvement, and the thresholds across its line."""
    assert line.row is not None
    row, look = line.row, LOOKS[kind_of(line.row["verdict"])]
    text: dict[str, Any] = {"transform": gains.get_yaxis_transform(), "va": "center_baseline", "fontsize": SIZE}
    for ax, mean, low, high in ((gains, "estimate", "low", "high"), (shares, "better", "better_low", "better_high")):
        ends = [[row[mean] - row[low]], [row[high] - row[mean]]]
        ax.errorbar(row[mean], line.middle, xerr=ends, linestyle="", elinewidth=1, **look)
    if np.isnan(row["estimate"]):
        gains.text(0.5, line.middle, "no estimate", ha="center", **text)
    for level in levels:
        gains.plot([level, level], [line.top, line.top + line.height], **THRESHOLD)
    gains.text(1.04, line.middle, f"{row['n']:g}", **text)


def _heading(figure: Figure, ax: Axes, line: Line) -> None:
    """A claim's or an arm's line, over the whole width and over what is drawn across."""
    across = blended_transform_factory(figure.transFigure, ax.transData)
    claim = not line.verdict
    look: dict[str, Any] = {"color": "#E8E8E8" if claim else "white", "linewidth": 0}
    figure.add_artist(Rectangle((0, line.top), 1, line.height, transform=across, zorder=1, **look))
    text: dict[str, Any] = {"transform": across, "va": "center", "fontsize": SIZE}
    figure.text(0.012, line.middle, line.text, fontweight="bold" if claim else "normal", **text)
    colour = LOOKS.get(kind_of(line.verdict), {"color": "black"})["color"]
    figure.text(0.988, line.middle, line.verdict, ha="right", color=colour, **text)


def _legend(figure: Figure, rows: list[Line]) -> None:
    """The verdicts that there are, and what they are judged by."""
    kinds = {kind_of(line.row["verdict"]) for line in rows if line.row is not None}
    handles = [
        Line2D([], [], linewidth=1, label=WORDS.get(kind, kind), **look)
        for kind, look in LOOKS.items()
        if kind in kinds
    ]
    handles.append(Line2D([], [], label="threshold", **THRESHOLD))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.8, fontsize=SIZE
    )
