"""The claims as the page shows them: a verdict for each arm, and its comparisons as intervals on one axis."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ssa.analysis.claims.comparison import JUDGED, no_effect
from ssa.analysis.claims.judge import by_arm, p_against
from ssa.analysis.claims.verdicts import kind_of
from ssa.analysis.statistics import DASH, capitalise, decimals, is_usual, p_text
from ssa.report.page.tables import ShownTable, of_lines
from ssa.report.tables.style import number, signed
from ssa.study.claims import CLAIMS, percent, rule_of, thresholds, top_of

HOLM = "p (Holm)"
TEXT = dict.fromkeys(("role", "verdict", "standing", "note", "earlier"), "str")
# Which of the study's figures shows more of a claim than its own intervals do.
FIGURES = {
    **dict.fromkeys(("C1", "C2", "C5", "C7", "C9", "C10"), "forest_differences"),
    "C3": "ensemble_accuracy",
    "C4": "ablation_heatmap",
    "C6": "learning_curves",
    "C8": "accuracy_vs_sparsity",
}
MARKS = {
    **{"supported": "✓", "contradicted": "✗", "loss": "✗", "mixed": "±", "undecided": "?", "not": "–"},
    **{"above": "✓", "below": "✗", "shown": ""},
}


@dataclass(frozen=True)
class Axis:
    """The axis of one claim's intervals, from ``low`` to ``high``; ``none`` is the value of no effect.

    A ratio's axis is logarithmic.
    """

    low: float
    high: float
    none: float

    @property
    def ratio(self) -> bool:
        """Whether the values are ratios."""
        return self.none == 1

    def percent(self, value: float) -> float:
        """Where ``value`` lies, from 0 at the left end to 100 at the right one, never beyond."""
        if self.ratio:
            low, high, at = math.log(self.low), math.log(self.high), math.log(max(value, self.low))
        else:
            low, high, at = self.low, self.high, value
        return round(100 * min(max((at - low) / (high - low), 0.0), 1.0), 2)


@dataclass(frozen=True)
class DrawnComparison:
    """One comparison: its text, its numbers in words, its verdict, and where it is drawn, in percent of the axis.

    ``left`` and ``right`` say whether the interval goes on beyond the axis; ``mean`` is None if there is none;
    ``levels``: the thresholds that judge it.
    """

    text: str
    numbers: str
    n: str
    verdict: str
    mean: float | None
    start: float = 0
    width: float = 0
    left: bool = False
    right: bool = False
    levels: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """The first word of the verdict, which names its colour."""
        return kind_of(self.verdict)


@dataclass(frozen=True)
class Panel:
    """The comparisons of one arm in one measure, drawn on its axis."""

    measure: str
    axis: Axis | None
    drawn: list[DrawnComparison]


@dataclass(frozen=True)
class Verdict:
    """A claim before one arm: the overall verdict, how many comparisons say what, these drawn, and in a table.

    ``named``: the arm with the word for what it is. ``tally``: if nothing could be tested, why not. ``told``: whether
    the rule came before the data, what was said by an earlier rule, and what a reader should know beside it.
    """

    arm: str
    named: str
    text: str
    tally: str
    told: list[str]
    panels: list[Panel]
    numbers: ShownTable

    @property
    def kind(self) -> str:
        """The first word, which names the verdict's colour."""
        return kind_of(self.text)


@dataclass(frozen=True)
class ShownClaim:
    """A claim of the paper, the rule that judges it, and a verdict for each arm.

    ``measure``: of all its comparisons, empty if they have several; ``unit``: what its intervals are over; ``levels``:
    the thresholds that its comparisons are judged by beside 0.
    """

    name: str
    statement: str
    source: str
    rule: str
    measure: str
    unit: str
    levels: list[float]
    figure: str | None
    verdicts: list[Verdict]

    @property
    def drawn(self) -> bool:
        """Whether there is any interval to draw."""
        return any(panel.axis for verdict in self.verdicts for panel in verdict.panels)

    @property
    def bars(self) -> str:
        """The words for what its bars are."""
        what = f"{self.measure}, mean and interval over n {self.unit}."
        several = f"the measure above them, with its interval over n {self.unit} where n is given."
        listed = ", ".join(f"{level:g}" for level in self.levels)
        dotted = f" Dotted: the thresholds that the verdict asks for beside 0 ({listed})." if listed else ""
        return f"Bars: {what if self.measure else several}{dotted}"


def tally(verdicts: Iterable[str]) -> str:
    """How many of ``verdicts`` say what, the most common first: ``4 supported, 1 undecided``."""
    count = Counter(verdict.split(":")[0].split(",")[0] for verdict in verdicts)
    return ", ".join(f"{times} {verdict}" for verdict, times in count.most_common())


def read_claims(path: Path, section: dict[str, Any]) -> list[ShownClaim]:
    """The claims of claims.csv in its order; ``section`` is the study's claims section, for the rules' numbers."""
    top, claims = top_of(section), []
    for key, rows in (
        pd.read_csv(path, dtype=TEXT, keep_default_na=True).fillna(dict.fromkeys(TEXT, "")).groupby("claim", sort=False)
    ):
        name, overall = str(key), rows[rows["comparison"] == "overall"].iloc[0]
        levels = [_levels(row, top.smallest_difference) for row in rows.to_dict("records")]
        rows = rows.assign(levels=pd.Series(levels, index=rows.index))
        found = rows[rows["comparison"] != "overall"]
        axes = {str(measure): _axis(part) for measure, part in found.groupby("measure", sort=False)}
        unit, measure = CLAIMS[name].unit, "" if len(axes) > 1 else next(iter(axes))
        verdicts = [_verdict(part, axes, top.confidence, unit, measure) for part in by_arm(rows)]
        words = (overall["statement"], overall["source"], rule_of(section, name), measure)
        claims.append(ShownClaim(name, *words, unit, sorted(set().union(*levels)), FIGURES.get(name), verdicts))
    return claims


def _levels(row: Mapping[Any, Any], smallest: float) -> tuple[float, ...]:
    """The thresholds of a judged comparison; none of one without an estimate, or that is only shown."""
    known = row["role"] == JUDGED and not math.isnan(row["estimate"])
    return tuple(thresholds(row["claim"], row["against"], smallest)) if known else ()


def _axis(found: pd.DataFrame) -> Axis | None:
    """The axis of one measure, between round numbers; None without any estimate.

    It holds no effect, the thresholds, and all but the widest intervals.
    """
    none = no_effect(found["measure"].iloc[0])
    known = found.dropna(subset="estimate")
    usual = known[is_usual(known["high"] - known["low"])]
    numbers = usual[["low", "estimate", "high"]].to_numpy().ravel()
    values = np.array([*numbers, none, *itertools.chain(*found["levels"])])
    values = values[np.isfinite(values) & ((none != 1) | (values > 0))]
    if known.empty:
        return None
    low, high = float(values.min()), float(values.max())
    if none == 1:
        return Axis(1 / _beyond(1.1 / low), _beyond(1.1 * high), none)
    margin = 0.0 if high > low else 1.0
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low - margin, high + margin)
    return Axis(float(ticks[0]), float(ticks[-1]), none)


def _beyond(value: float) -> float:
    """The first of 0.1, 0.2, 0.5, 1, 2, 5 and so on that is not below ``value``."""
    decade = 10.0 ** math.floor(math.log10(value))
    return next(step * decade for step in (1, 2, 5, 10) if step * decade >= value)


def _verdict(
    rows: pd.DataFrame, axes: Mapping[str, Axis | None], confidence: float, unit: str, measure: str
) -> Verdict:
    """One arm's ``rows`` of a claim, the overall verdict among them."""
    found = rows[rows["comparison"] != "overall"]
    last = rows[rows["comparison"] == "overall"].iloc[0]
    overall = str(last["verdict"])
    lines = [_line(row, measure, f"{percent(confidence)} CI") for row in found.to_dict("records")]
    if found["p_holm"].isna().all():
        lines = [{head: text for head, text in line.items() if head != HOLM} for line in lines]
    panels = [
        Panel(str(name), axes[str(name)], [_drawn(row, axes[str(name)]) for row in part.to_dict("records")])
        for name, part in found.groupby("measure", sort=False)
    ]
    arm = str(rows["arm"].iloc[0])
    named = f"Parents {arm}" if unit == "parents" else arm
    judged = found.loc[found["role"] == JUDGED, "verdict"]
    said = tally(judged) if kind_of(overall) != "not" else _why_not(judged)
    told = [capitalise(last[key]) + "." for key in ("standing", "earlier", "note") if last[key]]
    return Verdict(arm, named, overall, said, told, panels, of_lines(f"{named}: {overall}", lines))


def _why_not(verdicts: Iterable[str]) -> str:
    """The reasons for which no comparison could be tested, each once."""
    return "; ".join(dict.fromkeys(verdict.partition(": ")[2] for verdict in verdicts))


def _drawn(row: Mapping[Any, Any], axis: Axis | None) -> DrawnComparison:
    estimate, low, high = row["estimate"], row["low"], row["high"]
    n = _count(row)
    if axis is None or math.isnan(estimate):
        return DrawnComparison(row["comparison"], DASH, n, row["verdict"], None)
    text = number if axis.ratio else signed
    numbers, ends = text(estimate), (estimate, estimate)
    if not math.isnan(low):
        numbers, ends = f"{numbers} ({_ends(row, text)})", (low, high)
    start, end = (axis.percent(value) for value in ends)
    beyond = {"left": ends[0] < axis.low, "right": ends[1] > axis.high}
    levels = tuple(axis.percent(level) for level in row["levels"])
    width = round(end - start, 2)
    return DrawnComparison(
        row["comparison"], numbers, n, row["verdict"], axis.percent(estimate), start, width, **beyond, levels=levels
    )


def _ends(row: Mapping[Any, Any], text: Callable[[float, int], str]) -> str:
    """The bounds of an interval, told from no effect and the thresholds that judge it; ``text`` writes a number."""
    levels = no_effect(row["measure"]), *row["levels"]
    return " to ".join(text(end, decimals(end, *levels)) for end in (row["low"], row["high"]))


def _count(row: Mapping[Any, Any]) -> str:
    """How many parents or seeds an estimate is over; empty for a ratio of costs, which is over none."""
    return "" if math.isnan(row["n"]) else f"{row['n']:g}"


def _line(row: Mapping[Any, Any], measure: str, interval: str) -> dict[str, str]:
    """A line of the table; ``measure``: of all lines, empty if each has its own."""
    return {
        "Comparison": row["comparison"] if measure else f"{capitalise(row['measure'])}: {row['comparison']}",
        capitalise(measure) or "Estimate": number(row["estimate"]),
        interval: DASH if math.isnan(row["low"]) else _ends(row, number),
        "n": _count(row) or DASH,
        "p": p_against(row["p"], row["against"], row["measure"]),
        HOLM: p_text(row["p_holm"]),
        "Verdict": row["verdict"],
    }
