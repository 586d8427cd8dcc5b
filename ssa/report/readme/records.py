"""The records that a page speaks of, and what they have in common."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

Accuracies: TypeAlias = "pd.Series[float]"  # by id
Runs: TypeAlias = dict[str, Accuracies]  # parents' and children's


@dataclass(frozen=True)
class Page:
    """The file that is filled: where it lies decides how files are linked."""

    root: Path
    path: Path

    def link(self, path: Path) -> str:
        """``path`` as seen from the page."""
        return os.path.relpath(path, self.path.parent)

    @cached_property
    def overlaps(self) -> dict[str, str]:
        """The overlap of each record with others, in words; read from all of them once for a page."""
        return _overlaps(self)


def records(root: Path) -> dict[str, dict[str, Any]]:
    """study.json of each record by the record's name, the largest first."""
    found = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in (root / "recorded").glob("*/study.json")
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1]["counts"]["children"], item[0])))


def made(name: str, study: dict[str, Any], page: Page) -> str:
    """The content of a record in words, and with what and when it was made."""
    record, counts = study["record"], study["counts"]
    runs = page.link(page.root / "recorded" / name)
    planned = {**counts, **record.get("planned", {})}  # older records do not say
    kinds = [kind for kind in ("parents", "children", "ensembles") if planned.get(kind)]
    told = [f"{counts[kind]} of {planned[kind]} {kind}" for kind in kinds]
    return (
        f"`{runs}`: {', '.join(told)} planned, "
        f"{record['train_hours']:.1f} hours of training on {', '.join(record['devices'])}, "
        f"{record['started'][:10]} to {record['finished'][:10]}"
    )


def _overlaps(page: Page) -> dict[str, str]:
    """For each record, which of those before it hold its runs too, or others of the same settings; empty if none."""
    before: dict[str, Runs] = {}
    told = {}
    for name in records(page.root):
        folder = page.root / "recorded" / name
        runs = _runs(folder)
        told[name] = _overlap(runs, before)
        before[page.link(folder)] = runs
    return told


def _overlap(runs: Runs, others: dict[str, Runs]) -> str:
    """In which of ``others`` networks of ``runs`` are, and in which there are others with the settings of some."""
    told = []
    for title, words, same in (
        ("Not independent", "are those of", True),
        ("Trained anew, as other networks", "have the settings of those of", False),
    ):
        parts = []
        for other, theirs in others.items():
            counts = {kind: _common(mine, theirs[kind], same) for kind, mine in runs.items()}
            listed = " and ".join(f"{count} of its {kind}" for kind, count in counts.items() if count)
            parts += [f"{listed} {words} `{other}`"] if listed else []
        told += [f"{title}: {'; '.join(parts)}."] if parts else []
    return " ".join(told)


def _common(mine: Accuracies, theirs: Accuracies, same: bool) -> int:
    """How many ids are in both, with the ``same`` accuracy or another."""
    both = mine.index.intersection(theirs.index)
    return int((mine[both].eq(theirs[both]) == same).sum())


def _runs(folder: Path) -> Runs:
    """The accuracies of a record's parents and children by id."""
    keys = {"parents": "parent_id", "children": "child_id"}
    tables = {kind: pd.read_csv(folder / f"{kind}.csv").drop_duplicates(key) for kind, key in keys.items()}
    return {kind: table.set_index(keys[kind])["accuracy"] for kind, table in tables.items()}
