"""How tables are printed: in parts, as CSV (numbers), Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ssa.analysis.statistics import DASH


@dataclass(frozen=True)
class Part:
    """One printed table: its caption, and cells as text, where ``**`` encloses what is bold."""

    caption: str
    shown: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """One table of the study: printed in parts, a part for each group, and whole as numbers in ``long``."""

    name: str
    title: str
    parts: tuple[Part, ...]
    long: pd.DataFrame


def write(table: Table, out: Path) -> None:
    """Write ``table`` into the folder ``out`` as .csv, .md and .tex; the same numbers, the same bytes."""
    table.long.to_csv(out / f"{table.name}.csv", index=False, float_format="%.8g", lineterminator="\n")
    (out / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (out / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def markdown(table: Table) -> str:
    """``table`` as a Markdown document."""
    blocks = [f"# {table.title}\n"]
    for part in table.parts:
        blocks += [f"{part.caption}\n", grid(part.shown.columns, part.shown.to_numpy().tolist()), ""]
    return "\n".join(blocks)


def grid(head: Collection[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(table: Table) -> str:
    """``table`` as LaTeX: a table environment with booktabs rules for each part."""
    return "\n".join(_latex_part(part, f"tab:{table.name}-{i}") for i, part in enumerate(table.parts, 1))


def _latex_part(part: Part, name: str) -> str:
    head, *body = (
        " & ".join(escape(str(cell)) for cell in line) + r" \\"
        for line in [list(part.shown.columns), *part.shown.to_numpy().tolist()]
    )
    columns = "l" + "r" * (len(part.shown.columns) - 1)
    lines = [
        *(r"\begin{table}", r"\centering", rf"\caption{{{escape(part.caption)}}}", rf"\label{{{name}}}"),
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
    **{"±": r"$\pm$", "†": r"$\dagger$", "–": "--", "−": "$-$", "≥": r"$\geq$"},
}


def escape(text: str) -> str:
    """``text`` with LaTeX's special characters made literal, minus signs as such, and ``**bold**`` as ``\\textbf``."""
    literal = "".join(LATEX.get(character, character) for character in text)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", literal)


def bracketed(mean: float, low: float, high: float, digits: int = 2) -> str:
    """``mean [low, high]``."""
    return f"{number(mean, digits)} [{number(low, digits)}, {number(high, digits)}]"


def plus_minus(mean: float, half_width: float, digits: int = 2) -> str:
    """``mean ± half-width``."""
    return f"{number(mean, digits)} ± {number(half_width, digits)}"


def signed(value: float, digits: int = 2) -> str:
    """``+0.88``, ``−0.30`` or ``0.00``; a dash for NaN."""
    if math.isnan(value):
        return DASH
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:{'+' if rounded else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def number(value: float, digits: int = 2) -> str:
    """``value`` with so many decimals; a dash for NaN."""
    return signed(value, digits).removeprefix("+")
