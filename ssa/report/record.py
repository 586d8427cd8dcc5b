"""A study's results as figures and tables take them: each part is read when it is first asked for."""

from __future__ import annotations

import json
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis.claims.judge import ClaimRow, claims_table, judge_claims
from ssa.analysis.claims.standing import EARLIER, earlier_verdicts
from ssa.errors import reading
from ssa.report.figures.style import Style, styles
from ssa.report.registry import TABLES, Entry
from ssa.report.selection import usual_recipe
from ssa.results.children import join_epochs, read_children
from ssa.results.ensembles import has_ensembles, read_ensembles
from ssa.study import questions

KEYS = ["ensemble_id", "ensemble", "dataset", "model", "seed", "corrupted_images"]


class Record:
    """The files of ``folder``: study.json, and the tables of parents, children, epochs and, if any, ensembles.

    ``UserError`` naming one that is damaged where its part is asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: dict[str, Any] = {}

    def __getitem__(self, part: str) -> Any:
        """A property of the record by its name, or the table of a finding."""
        return self.table(part) if part in TABLES else getattr(self, part)

    def table(self, name: str) -> Any:
        """The table that the entry makes; made once."""
        if name not in self._tables:
            self._tables[name] = made(TABLES[name], self)
        return self._tables[name]

    @cached_property
    def study(self) -> dict[str, Any]:
        """The study as it was run; an unknown finding is a ``UserError``."""
        path = self.folder / "study.json"
        with reading(path):
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            lacking = {"claims", "counts", "hyperparameters", "record"} - found.keys()
            if lacking:
                raise ValueError(f"{', '.join(sorted(lacking))} missing")
        questions.check(found.get("findings") or [], f"{path}: findings")
        return found

    def check_rows(self) -> None:
        """``UserError`` if there are not as many parents or children as study.json says: a table was cut off."""
        for name in ("parents", "children"):
            there, told = len(getattr(self, name)), self.study["counts"][name]
            with reading(self.folder / f"{name}.csv"):
                if there != told:
                    raise ValueError(f"it has {there} rows, and study.json says {told}")

    @cached_property
    def judged(self) -> list[ClaimRow]:
        """A row for each comparison of a claim, and for each verdict."""
        told = self.study["record"]["started"], earlier_verdicts(self.folder / EARLIER)
        return judge_claims(self.study.get("claims") or {}, self.children, self.history, self.ensembles, *told)

    @property
    def claims(self) -> pd.DataFrame:
        """The same as a table."""
        return claims_table(self.judged)

    @cached_property
    def parents(self) -> pd.DataFrame:
        """A row for each parent."""
        return self._rows("parents")

    @cached_property
    def children(self) -> pd.DataFrame:
        """A row for each child."""
        return read_children(self.folder)

    @cached_property
    def history(self) -> pd.DataFrame:
        """The history of each child, a row for each epoch."""
        path = self.folder / "history.parquet"
        with reading(path):
            return pd.read_parquet(path)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """The history with the children's own columns."""
        return join_epochs(self.history, self.children)

    @cached_property
    def usual(self) -> pd.DataFrame:
        """The children at their arm's usual recipe."""
        return usual_recipe(self.children)

    @cached_property
    def usual_epochs(self) -> pd.DataFrame:
        """The epochs of :attr:`usual`."""
        return self.epochs[self.epochs["child_id"].isin(self.usual["child_id"])]

    @cached_property
    def drawn(self) -> dict[str, Style]:
        """A style for each method."""
        return styles(self.usual["method"])

    @cached_property
    def ensembles(self) -> pd.DataFrame | None:
        """A row for each ensemble and seed; None if the study has none."""
        return read_ensembles(self.folder) if has_ensembles(self.folder) else None

    @property
    def sizes(self) -> pd.DataFrame:
        """Scores by the number of members."""
        return self._of_ensembles("ensemble_sizes")

    @property
    def bins(self) -> pd.DataFrame:
        """Reliability by confidence."""
        return self._of_ensembles("ensemble_bins")

    @property
    def corrupted(self) -> pd.DataFrame:
        """Scores by corruption and severity."""
        return self._of_ensembles("corruptions")

    def _of_ensembles(self, table: str) -> pd.DataFrame:
        assert self.ensembles is not None
        return self._rows(table).merge(self.ensembles[KEYS])

    def _rows(self, table: str) -> pd.DataFrame:
        path = self.folder / f"{table}.csv"
        with reading(path):
            return pd.read_csv(path, dtype={"parent": "str"})


def made(entry: Entry, record: Record) -> Any:
    """The figure or table of ``entry``."""
    module, _, name = entry.make.rpartition(".")
    return getattr(import_module(module), name)(*(record[part] for part in entry.takes))
