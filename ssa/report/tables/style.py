"""How tables are printed: in parts, as CSV (numbers), Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ssa.analysis.statistics import DASH, FEWEST, p_text
from ssa.files import write_csv, write_text

UNCOUNTED = "all training images"  # of a folder that trains on all: only its files tell how many they are


@dataclass(frozen=True)
class Part:
    """One printed table: its caption, and cells as text, where ``**`` encloses what is bold."""

    caption: str
    shown: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """One table of the study: printed in parts, a part for each group, and whole as numbers in ``long``.

    ``note``: what holds of all parts.
    """

    name: str
    title: str
    note: str
    parts: tuple[Part, ...]
    long: pd.DataFrame


READING = " [How to read it](../../docs/figures.md#tables)."


def write(table: Table, out: Path) -> None:
    """Write ``table`` into the folder ``out`` as .csv, .md and .tex; the same numbers, the same bytes."""
    write_csv(out / f"{table.name}.csv", table.long)
    write_text(out / f"{table.name}.md", markdown(table))
    write_text(out / f"{table.name}.tex", latex(table))


def markdown(table: Table) -> str:
    """``table`` as a Markdown document."""
    blocks = [f"# {table.title}\n", f"{table.note}{READING}\n"]
    for part in table.parts:
        shown = without_blanks(part.shown)
        blocks += [f"{part.caption}\n", markdown_grid(shown.columns, shown.to_numpy().tolist()), ""]
    return "\n".join(blocks)


def without_blanks(shown: pd.DataFrame) -> pd.DataFrame:
    """``shown`` without the columns that have nothing but dashes, be they in brackets."""
    said = [any(c.isalnum() for text in column for c in str(text)) for _, column in shown.items()]
    return shown.loc[:, said]


def marks(meanings: dict[str, str], parts: Iterable[Part]) -> list[str]:
    """Those of the ``meanings`` whose mark stands in a cell of ``parts``."""
    cells = "\n".join(str(text) for part in parts for text in part.shown.to_numpy().ravel())
    return [meaning for mark, meaning in meanings.items() if mark in cells]


def markdown_grid(head: Collection[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(table: Table) -> str:
    """``table`` as LaTeX: a table environment with booktabs rules for each part."""
    return "\n".join(_latex_part(table, part, f"tab:{table.name}-{i}") for i, part in enumerate(table.parts, 1))


def _latex_part(table: Table, part: Part, name: str) -> str:
    shown = without_blanks(part.shown)
    head, *body = (
        " & ".join(escape(str(cell)) for cell in line) + r" \\"
        for line in [list(shown.columns), *shown.to_numpy().tolist()]
    )
    columns = "l" + "r" * (len(shown.columns) - 1)
    caption = escape(f"{table.title}. {part.caption} {table.note}")
    lines = [
        *(r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{{name}}}"),
        # A box as wide as the text centres a table that is wider.
        *(
            r"\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\makebox[\linewidth]{{\begin{{tabular}}{{{columns}}}",
            r"\toprule",
        ),
        *(head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""),
    ]
    return "\n".join(lines)


LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"},
    **{"±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "–": "--", "−": "$-$", "≥": r"$\geq$"},
}


def escape(text: str) -> str:
    """``text`` with LaTeX's special characters made literal, minus signs as such, and ``**bold**`` as ``\\textbf``."""
    literal = "".join(LATEX.get(character, character) for character in text)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", literal)


def bracketed(mean: float, low: float, high: float, n: float, digits: int = 2) -> str:
    """``mean [low, high]``; of too few values, or of equal ones, ``mean (n = 2, no interval)``."""
    return _spread(mean, f" [{number(low, digits)}, {number(high, digits)}]", low, n, digits)


def plus_minus(mean: float, low: float, high: float, n: float, digits: int = 2) -> str:
    """``mean ± half-width``; of too few values, or of equal ones, ``mean (n = 2, no interval)``."""
    return _spread(mean, f" ± {number((high - low) / 2, digits)}", low, n, digits)


def _spread(mean: float, interval: str, low: float, n: float, digits: int) -> str:
    if math.isnan(mean):
        return DASH
    known = n >= FEWEST and not math.isnan(low)
    return number(mean, digits) + (interval if known else f" (n = {n:g}, no interval)")


def printed_p(p: float, n: float) -> str:
    """``p``; a dash of fewer values than an interval is printed for."""
    return p_text(p) if n >= FEWEST else DASH


def signed(value: float, digits: int = 2) -> str:
    """``+0.88``, ``−0.30`` or ``0.00``; a dash for NaN."""
    if math.isnan(value):
        return DASH
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:{'+' if rounded else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def number(value: float, digits: int = 2) -> str:
    """``value`` with so many decimals; a dash for NaN."""
    return signed(value, digits).removeprefix("+")
