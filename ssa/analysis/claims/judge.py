"""The study's verdicts: each claim tested on the record by the rule fixed for it beforehand."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis import statistics
from ssa.analysis.claims.comparison import NONE, Comparison, UntestableError
from ssa.analysis.claims.tests import OVERALL, TESTS, Case
from ssa.analysis.statistics import DASH, NOT_TESTABLE, p_text
from ssa.results.children import devices, read_children
from ssa.results.ensembles import groups, has_ensembles, read_ensembles
from ssa.study.claims import CLAIMS, SECTION, rule_of, settings_of, ssa_settings
from ssa.study.methods import label


@dataclass(frozen=True)
class Row:
    """One line of claims.csv."""

    claim: str
    statement: str
    source: str
    arm: str
    measure: str
    comparison: str
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int | None = None
    p: float = math.nan
    p_holm: float = math.nan
    against: float = math.nan
    verdict: str = field(default="", kw_only=True)


def write_claims(results: Path, out: Path) -> None:
    """Test the claims of ``results``/study.json on the record beside it; write claims.csv and claims.md to ``out``."""
    section = json.loads((results / "study.json").read_text(encoding="utf-8")).get("claims") or {}
    children = read_children(results)
    ensembles = read_ensembles(results) if has_ensembles(results) else None
    rows = judge_claims(section, children, pd.read_parquet(results / "history.parquet"), ensembles)
    out.mkdir(parents=True, exist_ok=True)
    columns = list(Row.__dataclass_fields__)
    frame = pd.DataFrame([asdict(row) for row in rows], columns=columns).astype({"n": "Int64"})
    frame.to_csv(out / "claims.csv", index=False, float_format="%.8g", lineterminator="\n")
    (out / "claims.md").write_text(f"{markdown(section, rows)}\nHardware: {devices(children)}.\n", encoding="utf-8")


def judge_claims(
    section: Mapping[str, Any],
    children: pd.DataFrame,
    history: pd.DataFrame,
    ensembles: pd.DataFrame | None = None,
) -> list[Row]:
    """A row for each comparison of each claim in ``section`` and arm, then one with the arm's overall verdict.

    An arm is a kind of parents or, for the claim about ensembles where there are any, a data set and model.
    """
    rows = []
    for name in (name for name in CLAIMS if name in section):
        if name == "C3" and ensembles is not None:
            for dataset, model, mine in groups(ensembles):
                rows += _judge(section, name, f"{dataset}, {model}", children[:0], history, mine)
            continue
        for arm in settings_of(section, name).get("parents") or sorted(children["parent"].unique()):
            rows += _judge(section, name, arm, children[children["parent"] == arm], history)
    return rows


def markdown(section: Mapping[str, Any], rows: list[Row]) -> str:
    """``rows`` to read: for each claim its statement, rule, comparisons and verdicts."""
    top = {**SECTION, **section}
    ssa = ssa_settings(section)
    parts = [
        "# Claims\n",
        f"SSA stands for {label(ssa['method'])} with tau {ssa['tau']:g}, {ssa['anneal_schedule']}, annealed over "
        f"{ssa['anneal_fraction']:g} of the epochs, fixed beforehand. Intervals are at {top['confidence']:.0%}, over "
        "parents or, of ensembles, seeds (n); p is two-sided, against no difference (a ratio of 1).\n",
    ]
    if not rows:
        parts.append("This study tests no claims.\n")
    for name, group in itertools.groupby(rows, lambda row: row.claim):
        parts += _markdown_claim(section, name, list(group))
    return "\n".join(parts)


def _markdown_claim(section: Mapping[str, Any], name: str, rows: list[Row]) -> Iterator[str]:
    claim = CLAIMS[name]
    yield f"## {name}: {claim.statement}\n"
    yield f"Source: {claim.source}. {rule_of(section, name)}\n"
    for row in rows:
        if row.comparison == "overall":
            yield f"**{row.arm}: {row.verdict}**\n"
    yield f"| arm | comparison | {claim.measure} | n | p | p (Holm) | verdict |\n|---|---|---|---|---|---|---|"
    for row in rows:
        if row.comparison != "overall":
            cells = (row.arm, row.comparison, _estimate(row), row.n, p_text(row.p), p_text(row.p_holm), row.verdict)
            yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _estimate(row: Row) -> str:
    if math.isnan(row.estimate):
        return DASH
    bounds = "" if math.isnan(row.low) else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.estimate:.2f}{bounds}"


def _judge(
    section: Mapping[str, Any],
    name: str,
    arm: str,
    children: pd.DataFrame,
    history: pd.DataFrame,
    ensembles: pd.DataFrame | None = None,
) -> list[Row]:
    """The rows of claim ``name`` for one arm."""
    top = {**SECTION, **section}
    settings = settings_of(section, name)
    ssa = ssa_settings(section)
    chosen = _select(children, settings) if "structure" in settings else children
    spread, rates = _spread(children, settings), _rates(children, settings)
    limits = top["smallest_difference"], top["confidence"]
    case = Case(settings, ssa, chosen, history, *limits, ensembles, spread, rates)
    try:
        found = TESTS[name](case)
    except UntestableError as reason:
        found = [Comparison("all", NONE, f"{NOT_TESTABLE}: {reason}")]
    claim = CLAIMS[name]
    overall = OVERALL.get(name, statistics.overall_verdict)(comparison.verdict for comparison in found)
    if overall.startswith(statistics.SUPPORTED):
        overall += _alone(settings.get("baselines") or (), claim.defaults.get("baselines") or ())
    head = (name, claim.statement, claim.source, arm)
    rows = [_row(head, c.measure or claim.measure, c) for c in found]
    return [*rows, Row(*head, claim.measure, "overall", verdict=overall)]


def _alone(compared: Collection[str], claimed: Collection[str]) -> str:
    """What was compared with, where the claim is about more."""
    lacks = set(claimed) - set(compared)
    return f" (against {' and '.join(map(label, compared))} alone)" if lacks and compared else ""


def _row(head: tuple[str, str, str, str], measure: str, found: Comparison) -> Row:
    at = found.interval
    row = Row(*head, measure, found.text, at.mean, at.low, at.high, at.n, at.p, verdict=found.verdict)
    return replace(row, p_holm=found.p_holm, against=found.against)


def _spread(children: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """The one allocation and the one stem that the claim looks at, where the arm's children have several."""
    several = len(children.loc[children["method"] != "dense", ["allocation", "stem"]].drop_duplicates()) > 1
    named = [f"{settings[key]} {key}" for key in ("allocation", "stem") if settings.get(key)]
    return ", ".join(named) if several else ""


def _rates(children: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, float]:
    """The peak rate that the claim names for each schedule of which the arm's children have several."""
    several = children.groupby("lr_schedule")["lr"].nunique() > 1
    return {schedule: lr for schedule, lr in (settings.get("lr") or {}).items() if several.get(schedule, False)}


def _select(children: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """The pruned children of the recipe that a claim's settings ask for."""
    kept = children[children["method"] != "dense"]
    for key in ("structure", "allocation", "stem", "epochs"):
        if settings[key] is not None:
            allowed = settings[key] if isinstance(settings[key], list) else [settings[key]]
            kept = kept[kept[key].isin(allowed)]
    for schedule, lr in (settings["lr"] or {}).items():
        kept = kept[(kept["lr_schedule"] != schedule) | (kept["lr"] == lr)]
    return kept
