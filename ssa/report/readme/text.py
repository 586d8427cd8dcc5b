"""Fill pages: people write the prose as Jinja templates in ``docs/templates``; numbers come from committed tables.

A sentence and its number cannot part: ``{{ row("reduced-cpu/finding_criteria", sparsity=90).lower("lead") }}`` writes
the number, and fails if its interval does not lie below 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import pandas as pd

from ssa.analysis.statistics import decimals, n_text
from ssa.errors import UserError
from ssa.files import write_text
from ssa.report.readme import claims, records, speed
from ssa.report.readme.records import Page
from ssa.report.tables.style import markdown_grid, number, signed

TEMPLATES = Path("docs") / "templates"


class CommittedRow:
    """One row of a committed table; an estimate is a column with its interval in two others."""

    def __init__(self, values: dict[Any, Any], place: str) -> None:
        self.values, self.place = values, place

    def __getitem__(self, column: str) -> Any:
        if column not in self.values:
            raise UserError(f"{self.place} has no column {column!r}; it has {', '.join(map(str, self.values))}")
        return self.values[column]

    def higher(self, column: str = "estimate", unit: str = "points") -> str:
        """``0.88 points (0.12 to 1.64, n = 12)``; ``UserError`` unless the interval lies above 0."""
        mean, low, high = self._interval(column)
        return self._told(mean, low, high, unit) if low > 0 else self._fails(column, "above 0")

    def lower(self, column: str = "estimate", unit: str = "points") -> str:
        """The same for how far it lies below 0, without a sign; ``UserError`` unless the interval lies there."""
        mean, low, high = self._interval(column)
        return self._told(-mean, -high, -low, unit) if high < 0 else self._fails(column, "below 0")

    def undecided(self, column: str = "estimate", unit: str = "points") -> str:
        """The same with its sign; ``UserError`` unless the interval holds 0."""
        mean, low, high = self._interval(column)
        return self._told(mean, low, high, unit) if low <= 0 <= high else self._fails(column, "on both sides of 0")

    def cell(self, column: str = "estimate") -> str:
        """``+0.88 [+0.12, +1.64]``, for a table."""
        return claims.mean_and_interval(*(signed(value, decimals(value, 0)) for value in self._interval(column)))

    def factor(self, column: str) -> str:
        """``1.20 (1.10 to 1.30)`` from a difference of log10; ``UserError`` if its interval holds 1."""
        mean, low, high = (10**value for value in self._interval(column))
        return f"{mean:.2f} ({low:.2f} to {high:.2f})" if low > 1 or high < 1 else self._fails(column, "away from 1")

    def _interval(self, column: str) -> tuple[float, float, float]:
        low, high = ("low", "high") if column == "estimate" else (f"{column}_low", f"{column}_high")
        return self[column], self[low], self[high]

    def _told(self, mean: float, low: float, high: float, unit: str) -> str:
        text = number if low > 0 else signed
        told = [text(value, decimals(value, 0)) for value in (mean, low, high)]
        return f"{told[0]} {unit} ({told[1]} to {told[2]}, n = {self['n']:g})"

    def _fails(self, column: str, claimed: str) -> NoReturn:
        mean, low, high = self._interval(column)
        raise UserError(f"{self.place}: {column} is said to lie {claimed}, and is {mean:g} ({low:g} to {high:g})")


def fill(page: Path, root: Path) -> bool:
    """Write ``page`` from its template, which has the same name in docs/templates; returns whether that changed it.

    ``UserError`` if a table, a row or a column is missing, or if what a sentence claims of a number does not hold.
    """
    new = filled(Page(root, page))
    changed = not page.exists() or page.read_text(encoding="utf-8") != new
    if changed:
        write_text(page, new)
    return changed


def filled(page: Page) -> str:
    """Render the text that ``page`` should hold."""
    loader = jinja2.FileSystemLoader(page.root / TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False
    )
    try:
        return environment.get_template(page.path.name).render(_names(Words(page)))
    except jinja2.TemplateError as error:
        raise UserError(f"{TEMPLATES / page.path.name}: {error or type(error).__name__}") from error


@dataclass(frozen=True)
class Words:
    """The vocabulary of templates: each method by its name. ``UserError`` if something is missing or does not hold."""

    page: Page

    def row(self, place: str, **wanted: Any) -> CommittedRow:
        """The one row of ``paper_tables/<place>.csv`` whose columns have these values; None stands for a blank."""
        found = self._table(place)
        for column, value in wanted.items():
            if column not in found:
                raise UserError(f"{place} has no column {column!r}; it has {', '.join(map(str, found))}")
            found = found[found[column].isna() if value is None else found[column] == value]
        if len(found) != 1:
            raise UserError(f"{self.page.path.name} asks {place} for one row with {wanted}, and it has {len(found)}")
        return CommittedRow(found.iloc[0].to_dict(), place)

    def judged(self, record: str, claim: str, arm: str, comparison: str) -> CommittedRow:
        """One comparison by which a claim is judged."""
        return self.row(f"{record}/claims", claim=claim, arm=arm, comparison=comparison, role="judged")

    def verdict(self, record: str, claim: str, arm: str, expected: str) -> str:
        """The verdict on an arm, its standing in brackets; an error unless it is the ``expected`` one."""
        last = self.row(f"{record}/claims", claim=claim, arm=arm, role="overall")
        if last["verdict"] != expected:
            raise UserError(f"{record}: {claim} on {arm} is said to be {expected}, and is {last['verdict']}")
        return f"{expected} ({last['standing'].split(':')[0]})"

    def count(self, place: str, query: str | None = None) -> int:
        """How many rows of a table meet a pandas query."""
        found = self._table(place)
        return len(found.query(query) if query else found)

    def check(self, holds: bool, said: str) -> str:
        """Nothing; an error with what is ``said`` if it does not hold."""
        if not holds:
            raise UserError(f"{self.page.path.name} says that {said}, and that does not hold")
        return ""

    def source(self, record: str, finding: str) -> str:
        """The n of a finding, its record, and a link to its numbers."""
        place = f"{record}/finding_{finding}"
        numbers = self.page.link(self.page.root / "paper_tables" / f"{place}.csv")
        return f"n = {n_text(self._table(place)['n'])}, record [{record}](results.md), [CSV]({numbers})"

    def records(self) -> str:
        """The records, as a table."""
        rows = records.table_of_records(self.page)
        return markdown_grid(rows[0], [row.values() for row in rows])

    def claims(self) -> str:
        """The verdicts of all records, as tables."""
        return claims.tables(self.page)

    def speed(self, place: str) -> str:
        """One of the tables of measured speed."""
        return speed.PLACES[place](self.page)

    def benchmark(self, device: str, measure: str, network: str) -> str:
        """One measured speed with its unit."""
        return speed.value(self.page.root, device, measure, network)

    def _table(self, place: str) -> pd.DataFrame:
        path = self.page.root / "paper_tables" / f"{place}.csv"
        if not path.is_file():
            raise UserError(f"{self.page.path.name} speaks of {path.relative_to(self.page.root)}, which does not exist")
        return pd.read_csv(path)


def _names(words: Words) -> dict[str, Any]:
    return {name: getattr(words, name) for name in vars(Words) if not name.startswith("_") and name != "page"}
