"""The records that a page speaks of, and what they have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from ssa.analysis.statistics import DASH
from ssa.report.record import Record

Accuracies: TypeAlias = "pd.Series[float]"  # by id
Runs: TypeAlias = dict[str, Accuracies]  # parents' and children's
KINDS = ("parents", "children", "ensembles")


@dataclass(frozen=True)
class Page:
    """The file that is filled: where it lies decides how files are linked."""

    root: Path
    path: Path

    def link(self, path: Path) -> str:
        """``path`` as seen from the page."""
        return os.path.relpath(path, self.path.parent)


def records(root: Path) -> dict[str, dict[str, Any]]:
    """study.json of each record by the record's name, the largest first."""
    found = {path.parent.name: Record(path.parent).study for path in (root / "recorded").glob("*/study.json")}
    return dict(sorted(found.items(), key=lambda item: (-item[1]["counts"]["children"], item[0])))


def table_of_records(page: Page) -> list[dict[str, str]]:
    """A row for each record: how much was run of what was planned, with what, and which runs other records have too."""
    before: dict[str, Runs] = {}
    rows = []
    for name, study in records(page.root).items():
        record, counts = study["record"], study["counts"]
        planned = {**counts, **record.get("planned", {})}  # older records do not say
        folder = page.root / "recorded" / name
        runs = _runs(folder)
        rows.append(
            {
                "record": f"`{name}`",
                **{kind: _of(counts.get(kind, 0), planned.get(kind, 0)) for kind in KINDS},
                "hours": f"{record['train_hours']:.1f}",
                "hardware": ", ".join(record["devices"]),
                "made": " to ".join(dict.fromkeys(record[key][:10] for key in ("started", "finished"))),
                "same runs as": _common(runs, before, same=True),
                "trained anew": _common(runs, before, same=False),
            }
        )
        before[name] = runs
    return rows


def _of(count: int, planned: int) -> str:
    return DASH if not planned else str(count) if count == planned else f"{count} of {planned}"


def _common(runs: Runs, others: dict[str, Runs], same: bool) -> str:
    """How many of ``runs`` each of ``others`` has too, with the ``same`` accuracy or another: then they are others."""
    told = []
    for other, theirs in others.items():
        both = {kind: mine.index.intersection(theirs[kind].index) for kind, mine in runs.items()}
        counts = {kind: int((runs[kind][ids].eq(theirs[kind][ids]) == same).sum()) for kind, ids in both.items()}
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        told += [f"{other}: {listed}"] if listed else []
    return "; ".join(told) or DASH


def _runs(folder: Path) -> Runs:
    """The accuracies of a record's parents and children by id."""
    keys = {"parents": "parent_id", "children": "child_id"}
    tables = {kind: Record(folder)[kind].drop_duplicates(key) for kind, key in keys.items()}
    return {kind: table.set_index(keys[kind])["accuracy"] for kind, table in tables.items()}
