"""Judge a verdict's worth: whether its rule came before the data, what was said before, what could be seen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis.claims.comparison import JUDGED, SINGLE, Comparison
from ssa.analysis.claims.verdicts import BELOW, FEW, UNDECIDED
from ssa.analysis.statistics import decimals
from ssa.results.children import COLLAPSE
from ssa.study.claims import ASIDE, CONFIRMATORY, EXPLORATORY, Section, percent

RULES = Path(__file__).resolve().parents[3] / "docs" / "rules.md"
EARLIER = "earlier_verdicts.csv"  # claim, arm, verdict, changed: of a record that was judged by other rules before


def rules() -> str:
    """Which file of rules judges, with its SHA-256, so that a later change of it is seen."""
    if not RULES.is_file():
        return "The rules, docs/rules.md, are not at hand."
    return f"The rules: docs/rules.md, SHA-256 `{hashlib.sha256(RULES.read_bytes()).hexdigest()}`."


def planned_parents(top: Section) -> str:
    """How many parents were planned, and when the results were looked at; empty if the study does not say."""
    if top.planned is None:
        return "The number of parents was not fixed beforehand."
    looks = " and ".join(str(n) for n in top.looks)
    looked = (
        f", with a look at the results after {looks}: intervals at {percent(top.confidence)}"
        if looks
        else ", no interim look"
    )
    return f"Planned: {top.planned} parents{looked}."


def standing(settings: Mapping[str, Any], started: str, chosen_after: bool) -> str:
    """Confirmatory if the rule was fixed before the first run, ``started`` (ISO), else exploratory; with the reason."""
    fixed = settings.get("fixed")
    if chosen_after:
        return ASIDE
    if fixed is None:
        return f"{EXPLORATORY}: its rule was not fixed before the runs"
    if fixed > started[:10]:
        return f"{EXPLORATORY}: its rule is of {fixed}, the first run of {started[:10]}"
    return f"{CONFIRMATORY}: fixed on {fixed}, before the first run"


def earlier_verdicts(path: Path) -> dict[tuple[str, str], str]:
    """By claim and arm, what was said before a rule was changed; empty if ``path`` does not exist."""
    if not path.is_file():
        return {}
    rows = pd.read_csv(path, dtype="str").to_dict("records")
    return {(row["claim"], row["arm"]): f"by the rule until {row['changed']}: {row['verdict']}" for row in rows}


def note(verdict: str, found: list[Comparison], settings: Mapping[str, Any], lost: int = 0) -> str:
    """The remarks for a reader of ``verdict``: the study's own, losses in single cells, what could be seen.

    ``lost``: how many children collapse when their BatchNorm is re-estimated, for a claim that does so.
    """
    parts = [settings.get("remark") or "", *_losses(found)]
    if lost:
        parts.append(f"{lost} children lose more than {COLLAPSE:g} points when their BatchNorm is re-estimated")
    if verdict.startswith(UNDECIDED):
        parts += _power([c for c in found if c.role == JUDGED])
    return ". ".join(part.rstrip(".") for part in parts if part)


def _losses(found: list[Comparison]) -> Iterator[str]:
    """The cells in which SSA is significantly behind."""
    for one in found:
        if one.role == SINGLE and one.verdict == BELOW:
            at = one.interval
            mean, low, high = (f"{value:+.{decimals(value, 0)}f}" for value in (at.mean, at.low, at.high))
            numbers = f"{mean} [{low}, {high}]".replace("-", "−")
            yield f"A loss in {one.text}: {numbers}"


def _power(judged: list[Comparison]) -> Iterator[str]:
    """How wide the intervals are, and that few parents hardly ever contradict."""
    known = [one.interval for one in judged if not math.isnan(one.interval.low)]
    if known:
        n, widest = min(at.n for at in known), max(at.half_width for at in known)
        yield f"With n = {n} the interval reaches up to {widest:.2f} points to either side"
        if n <= FEW:
            yield f"With n of {FEW} or fewer, a true gain of 0 is hardly ever called contradicted"
