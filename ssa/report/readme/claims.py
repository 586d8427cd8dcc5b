"""Tables of claims in Markdown, from what ``paper_tables/`` holds for each record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis.claims.comparison import JUDGED, no_effect
from ssa.analysis.claims.judge import by_arm
from ssa.analysis.claims.verdicts import LOSS, NOT_TESTABLE
from ssa.analysis.statistics import DASH, decimals, n_text
from ssa.report.readme.records import Page, records
from ssa.report.tables.sanity import printed_line
from ssa.report.tables.style import markdown_grid, number, signed
from ssa.study.claims import percent, top_of

ALT = "Difference, interval, threshold and probability of improvement of each comparison; the table has the numbers"
FEW = 3  # comparisons that are listed one by one


def tables(page: Page) -> str:
    """Of each record that tests claims: a row for each claim and arm, sanity, deviations and assumptions."""
    parts: list[str] = []
    for name, study in records(page.root).items():
        folder = page.root / "paper_tables" / name
        if not (folder / "claims.csv").is_file():  # it tests none
            continue
        rows = _claim_rows(folder / "claims.csv", top_of(study["claims"]).confidence)
        parts += [f"## {study['title']}", f"Record: `{page.link(page.root / 'recorded' / name)}`."]
        parts.append(f"![{ALT}]({page.link(page.root / 'figures' / name / 'summary.png')})")
        parts += [markdown_grid(rows[0], [row.values() for row in rows]), *_sanity(folder / "table4_sanity.csv")]
        parts += [_list("Deviations from the paper", study["deviations"]), _list("Assumed", study["assumptions"])]
    return "\n\n".join(part for part in parts if part)


def _sanity(path: Path) -> list[str]:
    """Our numbers beside known ones; nothing if there are none."""
    if not path.is_file():
        return []
    rows = [printed_line(row) for row in pd.read_csv(path).to_dict("records")]
    told = "Our numbers beside known ones (mean ± half of a 95% interval):"
    return [told, markdown_grid(rows[0], [row.values() for row in rows])]


def _list(title: str, lines: list[str]) -> str:
    return f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _claim_rows(path: Path, level: float) -> list[dict[str, str]]:
    """The cells of one row for each claim and arm of claims.csv, losses first; intervals are at ``level``."""
    table = pd.read_csv(path, dtype=dict.fromkeys(("standing", "note", "earlier"), "str"))
    rows = [_claim_row(part, level) for part in by_arm(table)]
    return sorted(rows, key=lambda row: row["verdict"] != LOSS)


def _claim_row(rows: pd.DataFrame, level: float) -> dict[str, str]:
    judged = rows[rows["role"] == JUDGED]
    last = rows[rows["role"] == "overall"].iloc[0].fillna("")
    return {
        "claim": f"{last['claim']}: {last['statement']}",
        "arm": str(last["arm"]),
        f"our estimate ({percent(level)} CI)": _estimates(judged.dropna(subset="estimate")),
        "n": n_text(judged["n"]),
        "verdict": f"{last['verdict']}" if last["verdict"] != NOT_TESTABLE else str(judged["verdict"].iloc[0]),
        "standing": last["standing"].split(":")[0],
        "beside it": ". ".join(text for text in (last["earlier"], last["note"]) if text),
    }


def _estimates(known: pd.DataFrame) -> str:
    """Each of a few comparisons; of many in one unit the lowest and the highest."""
    if known.empty:
        return DASH
    if known["measure"].nunique() > 1:
        return "; ".join(_estimates(rows) for _, rows in known.groupby("measure", sort=False))
    ordered = known.sort_values("estimate", kind="stable")
    few = known if len(known) <= FEW else ordered.iloc[[0, -1]]
    texts = [f"{_numbers(row)} ({row['comparison']})" for row in few.to_dict("records")]
    return "; ".join(texts) if len(known) <= FEW else f"lowest {texts[0]}; highest {texts[1]}"


def _numbers(row: dict[Any, Any]) -> str:
    """Mean and interval, with the unit where it is not points."""
    none, nats = no_effect(row["measure"]), "nats" in row["measure"]
    text = number if none else signed
    numbers = mean_and_interval(*(text(row[key], decimals(row[key], none)) for key in ("estimate", "low", "high")))
    return numbers + " as a ratio" * bool(none) + " hundredths of a nat" * nats


def mean_and_interval(mean: str, low: str, high: str) -> str:
    """``mean [low, high]``; of one that has no interval, the mean."""
    return mean if low == DASH else f"{mean} [{low}, {high}]"
