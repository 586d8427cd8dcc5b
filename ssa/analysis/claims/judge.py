"""The study's verdicts: each claim tested on the record by the rule of docs/rules.md."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis.claims import verdicts
from ssa.analysis.claims.cells import Case, arms
from ssa.analysis.claims.comparison import JUDGED, NONE, SINGLE, Comparison, UntestableError, no_effect
from ssa.analysis.claims.standing import note, planned_parents, rules, standing
from ssa.analysis.claims.tests import TESTS
from ssa.analysis.claims.verdicts import NOT_TESTABLE
from ssa.analysis.statistics import DASH, capitalise, decimals, p_text
from ssa.files import write_csv, write_text
from ssa.results.children import CELL, best, collapsed, trained_on
from ssa.results.ensembles import groups
from ssa.study.claims import CLAIMS, percent, rule_of, settings_of_claim, ssa_settings, thresholds, top_of
from ssa.study.methods import label

OVERALL = "overall"


@dataclass(frozen=True)
class ClaimRow:
    """One line of claims.csv; ``standing``, ``note`` and ``earlier`` are of the overall verdict on an arm.

    ``better``: the probability of improvement, :func:`ssa.analysis.statistics.share_above`, with its interval.
    """

    claim: str
    statement: str
    source: str
    arm: str
    role: str
    measure: str
    comparison: str
    group: str = ""
    cell: str = ""
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    better: float = math.nan
    better_low: float = math.nan
    better_high: float = math.nan
    n: int | None = None
    p: float = math.nan
    p_holm: float = math.nan
    against: float = math.nan
    verdict: str = field(default="", kw_only=True)
    standing: str = field(default="", kw_only=True)
    note: str = field(default="", kw_only=True)
    earlier: str = field(default="", kw_only=True)


def claims_table(rows: list[ClaimRow]) -> pd.DataFrame:
    """``rows`` as claims.csv holds them."""
    columns = list(ClaimRow.__dataclass_fields__)
    return pd.DataFrame([asdict(row) for row in rows], columns=columns).astype({"n": "Int64"})


def by_arm(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each claim and arm of a :func:`claims_table`, in order; each ends with its overall verdict.

    An exploratory arm may have the name of the one that was named beforehand, which differs in what no name tells.
    """
    ends = (table["role"] == OVERALL).shift(fill_value=False).cumsum()
    return [part for _, part in table.groupby(ends, sort=False)]


def write_claims(section: Mapping[str, Any], rows: list[ClaimRow], children: pd.DataFrame, out: Path) -> None:
    """Write the ``rows`` of :func:`judge_claims` on ``children`` to the folder ``out``: claims.csv and claims.md."""
    write_csv(out / "claims.csv", claims_table(rows))
    write_text(out / "claims.md", f"{claims_in_markdown(section, rows)}\nHardware: {trained_on(children)}.\n")


def judge_claims(
    section: Mapping[str, Any],
    children: pd.DataFrame,
    history: pd.DataFrame,
    ensembles: pd.DataFrame | None = None,
    started: str = "",
    before: Mapping[tuple[str, str], str] | None = None,
) -> list[ClaimRow]:
    """A row for each comparison of each claim in ``section`` and arm, then one with the arm's overall verdict.

    ``started``: when the record's first run began, as an ISO time. ``before``: the verdicts by earlier rules, by claim
    and kind of parents (of ensembles: data set and model).
    """
    rows: list[ClaimRow] = []
    for name in (name for name in CLAIMS if name in section):
        extra = (section.get(name) or {}).get("exploratory") or []
        for more in (None, *extra):
            settings = settings_of_claim(section, name, more)
            told = standing(settings, started, chosen_after=more is not None)
            for arm, case in _cases(section, name, settings, children, history, ensembles):
                kind = arm if ensembles is not None and name == "C3" else arm.split(", ")[0]
                old = "" if more else (before or {}).get((name, kind), "")
                rows += _judge(name, arm, case, told, old)
    return rows


def _cases(
    section: Mapping[str, Any],
    name: str,
    settings: Mapping[str, Any],
    children: pd.DataFrame,
    history: pd.DataFrame,
    ensembles: pd.DataFrame | None,
) -> Iterator[tuple[str, Case]]:
    """(arm, what is judged there): kinds of parents by criterion; of ensembles, a data set and model."""
    top, ssa = top_of(section), ssa_settings(section)
    limits = top.smallest_difference, top.confidence
    if name == "C3":
        found = [] if ensembles is None else list(groups(ensembles))
        for dataset, model, mine in found:
            yield f"{dataset}, {model}", Case(settings, ssa, children[:0], history, *limits, mine)
        if not found:
            yield "ensembles", Case(settings, ssa, children[:0], history, *limits)
        return
    for arm, mine in arms(children, settings, together=name == "C10"):
        chosen = _select(mine, settings)
        words = _spread(mine, settings), {} if settings.get("tuned") else _rates(mine, settings)
        yield arm, Case(settings, ssa, chosen, history, *limits, None, *words)


def claims_in_markdown(section: Mapping[str, Any], rows: list[ClaimRow]) -> str:
    """``rows`` to read: for each claim its statement, rule, comparisons and verdicts."""
    top, ssa = top_of(section), ssa_settings(section)
    parts = [
        "# Claims\n",
        f"SSA stands for {label(ssa['method'])} with tau {ssa['tau']:g}, {ssa['anneal_schedule']}, annealed over "
        f"{ssa['anneal_fraction']:g} of the epochs, fixed beforehand. Intervals are at {percent(top.confidence)}, over "
        "parents or, of ensembles, seeds (n); p is two-sided, against no difference (a ratio of 1) if no other value "
        "stands beside it.\n",
        f"{rules()} {planned_parents(top)}\n",
    ]
    if not rows:
        parts.append("This study tests no claims.\n")
    for name, group in itertools.groupby(rows, lambda row: row.claim):
        parts += _markdown_claim(section, name, list(group))
    return "\n".join(parts)


def _markdown_claim(section: Mapping[str, Any], name: str, rows: list[ClaimRow]) -> Iterator[str]:
    claim, smallest = CLAIMS[name], top_of(section).smallest_difference
    yield f"## {name}: {claim.statement}\n"
    yield f"Source: {claim.source}. {rule_of(section, name)}\n"
    for row in rows:
        if row.role == OVERALL:
            yield f"**{row.arm}: {row.verdict}**. {' '.join(_sentences(row))}\n"
    several = len({row.measure for row in rows}) > 1
    head = "estimate" if several else claim.measure
    yield f"| arm | comparison | {head} | n | p | p (Holm) | verdict |\n|---|---|---|---|---|---|---|"
    for row in rows:
        if row.role != OVERALL:
            words = f"{row.measure}: {row.comparison}" if several else row.comparison
            words = f"(cell) {words}" if row.role == SINGLE else words
            n, verdict = DASH if row.n is None else row.n, row.verdict or "shown"
            cells = (
                row.arm,
                words,
                _estimate(row, smallest),
                n,
                p_against(row.p, row.against, row.measure),
                p_text(row.p_holm),
                verdict,
            )
            yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _sentences(row: ClaimRow) -> Iterator[str]:
    """The remarks on an overall verdict, as sentences."""
    yield from (f"{capitalise(text)}." for text in (row.standing, row.earlier, row.note) if text)


def _estimate(row: ClaimRow, smallest: float) -> str:
    if math.isnan(row.estimate):
        return DASH
    levels = (no_effect(row.measure), *thresholds(row.claim, row.against, smallest))
    low, high = (f"{end:.{decimals(end, *levels)}f}" for end in (row.low, row.high))
    return f"{row.estimate:.2f}" + ("" if math.isnan(row.low) else f" [{low}, {high}]")


def p_against(p: float, against: float, measure: str) -> str:
    """``p`` in words, with the value that it is ``against`` unless that is no difference in ``measure``."""
    usual = math.isnan(p) or against == no_effect(measure)
    return p_text(p) + ("" if usual else f" (against {against:g})")


def _judge(name: str, arm: str, case: Case, told: str, old: str) -> list[ClaimRow]:
    """The rows of claim ``name`` for one arm."""
    try:
        found = TESTS[name](case) or [Comparison("all", NONE, f"{NOT_TESTABLE}: no cell was run")]
    except UntestableError as reason:
        found = [Comparison("all", NONE, f"{NOT_TESTABLE}: {reason}")]
    claim = CLAIMS[name]
    head = (name, claim.statement, claim.source, arm)
    verdict = verdict_on_arm(name, found, case.settings)
    lost = int(collapsed(case.children).sum()) if name == "C6" else 0  # the one that re-estimates
    said = note(verdict, found, case.settings, lost)
    rows = [_row(head, c.measure or claim.measure, c) for c in found]
    last = ClaimRow(*head, OVERALL, claim.measure, OVERALL, verdict=verdict, standing=told, note=said, earlier=old)
    return [*rows, last]


def verdict_on_arm(name: str, found: list[Comparison], settings: Mapping[str, Any]) -> str:
    """The verdict on an arm: of its pooled numbers, unless single cells of one baseline lie on both sides of 0."""
    judged = [c.verdict for c in found if c.role == JUDGED]
    if name == "C10":
        return verdicts.most(judged)
    cells = [c for c in found if c.role == SINGLE]
    for group in dict.fromkeys(c.group for c in cells) if name in ("C1", "C2", "C6", "C7") else ():
        mine = [c for c in cells if c.group == group]
        if verdicts.crossing(c.verdict for c in mine):
            sides = (f"{side} in {_listed(mine, side)}" for side in (verdicts.ABOVE, verdicts.BELOW))
            return f"{verdicts.MIXED}: {'; '.join(sides)}"
    verdict = verdicts.overall(judged)
    if verdict.startswith(verdicts.SUPPORTED):
        verdict += _only(settings.get("baselines") or (), CLAIMS[name].defaults.get("baselines") or ())
    return verdict


def _listed(cells: list[Comparison], side: str) -> str:
    return " and ".join(c.text for c in cells if c.verdict == side)


def _only(compared: Any, claimed: Any) -> str:
    """The methods that were compared with, in words, if the claim is about more."""
    lacks = set(claimed) - set(compared)
    return f" (against {' and '.join(map(label, compared))} only)" if lacks and compared else ""


def _row(head: tuple[str, str, str, str], measure: str, found: Comparison) -> ClaimRow:
    at, better = found.interval, found.better
    row = ClaimRow(*head, found.role, measure, found.text, found.group, found.cell, at.mean, at.low, at.high)
    row = replace(row, better=better.mean, better_low=better.low, better_high=better.high)
    row = replace(row, n=at.n if found.sampled else None, p=at.p, p_holm=found.p_holm)
    return replace(row, against=found.against, verdict=found.verdict)


def _spread(children: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """The one allocation and the one stem that the claim looks at, if the arm's children have several."""
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
    return _tuned(kept) if settings.get("tuned") else kept


def _tuned(children: pd.DataFrame) -> pd.DataFrame:
    """The children at the peak rate that is best for their method and cell on validation images, as if of one rate."""
    cell = [*(key for key in CELL if key != "lr"), "method", "tau", "anneal_epochs", "anneal_schedule"]
    tuned = [part[part["lr"] == best(part, "lr")] for _, part in children.groupby(cell, dropna=False)]
    return pd.concat([children[:0], *tuned]).sort_index().assign(lr=0.0)
