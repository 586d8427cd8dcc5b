"""The page's tables: the study's own, read from their Markdown, and what was run, from the record."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis.statistics import DASH, t_interval
from ssa.report.tables.style import READING, plus_minus, without_blanks
from ssa.study.methods import in_order, label


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and whether it is bold."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class ShownTable:
    """A table to read: its caption, column heads, and rows of cells.

    ``file``: name and text of the CSV file with all digits of this table and of its other parts, if it has one.
    """

    caption: str
    head: list[str]
    rows: list[list[Cell]]
    file: tuple[str, str] | None = None

    @property
    def csv(self) -> str:
        """The table as CSV, as it is shown."""
        out = StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.head, *([cell.text for cell in row] for row in self.rows)])
        return out.getvalue()


@dataclass(frozen=True)
class StudyTable:
    """One of the study's tables: its title, what holds of all parts, and the parts."""

    title: str
    note: str
    parts: list[ShownTable]


def of_lines(caption: str, lines: list[dict[str, str]]) -> ShownTable:
    """A table with a row for each of ``lines``, which map a column's head to its text, where that says anything."""
    shown = without_blanks(pd.DataFrame(lines))
    return ShownTable(caption, list(shown.columns), [[Cell(text) for text in line] for line in shown.to_numpy()])


def duration(hours: float) -> str:
    """``hours`` to two digits or more, in minutes or seconds if they are few."""
    if hours < 1 / 60:
        return f"{3600 * hours:.1f} seconds"
    if hours < 1:
        return f"{60 * hours:.1f} minutes" if hours < 1 / 6 else f"{60 * hours:.0f} minutes"
    return f"{hours:.1f} hours" if hours < 100 else f"{hours:,.0f} hours"


def read_tables(path: Path) -> StudyTable:
    """Read one of the study's tables, the Markdown of :mod:`ssa.report.tables.study`.

    All parts have the CSV file beside it.
    """
    title, note, *blocks = [block.strip() for block in path.read_text(encoding="utf-8").split("\n\n") if block.strip()]
    numbers = path.with_suffix(".csv")
    file = (numbers.name, numbers.read_text(encoding="utf-8")) if numbers.is_file() else None
    parts = []
    for caption, grid in zip(blocks[::2], blocks[1::2], strict=True):
        head, _, *rows = [_cells(line) for line in grid.splitlines()]
        parts.append(ShownTable(caption, [cell.text for cell in head], rows, file))
    return StudyTable(title.removeprefix("# "), note.removesuffix(READING), parts)


def _cells(line: str) -> list[Cell]:
    """The cells of one line of a Markdown table: ``\\|`` is a bar within a cell, ``**`` encloses bold text."""
    texts = [text.strip().replace("\\|", "|") for text in re.split(r"(?<!\\)\|", line)[1:-1]]
    return [Cell(text.replace("**", ""), text.startswith("**")) for text in texts]


def table_of_parents(parents: pd.DataFrame) -> ShownTable:
    """One line for each kind of parent: seeds, training and accuracy."""
    lines = []
    for (kind, dataset, model, epochs), rows in parents.groupby(["parent", "dataset", "model", "epochs"]):
        accuracy = t_interval(rows["accuracy"])
        text = plus_minus(accuracy.mean, accuracy.low, accuracy.high, len(rows))
        names = {"Parents": str(kind), "Data": str(dataset), "Model": str(model), "Epochs": f"{epochs:g}"}
        found = {"Seeds": _listed(rows["parent_seed"]), "n": str(len(rows))}
        lines.append({**names, **found, "Test accuracy (%)": text})
    return of_lines("The parents. Accuracy: mean ± half-width of the 95% t-interval over n parents.", lines)


def table_of_blocks(children: pd.DataFrame) -> ShownTable:
    """One line for each block of the study and kind of parent: the grid that was run, and what it took.

    A setting that all blocks share is said in the caption, and has no column.
    """
    lines = []
    for (block, kind), rows in children.groupby(["block", "parent"], sort=False):
        lines.append(
            {
                "Block": str(block),
                "Parents": f"{kind} (n = {rows['parent_seed'].nunique()})",
                "Children": f"{len(rows):,}",
                "Diverged": f"{int(rows['diverged'].sum()):,}",
                "Time": duration(rows["train_seconds"].sum() / 3600),
                "Methods": ", ".join(label(name) for name in in_order(rows["method"])),
                "Masks": _listed(rows.loc[rows["sparsity"] > 0, "criterion"]),
                "Sparsity (%)": _listed(rows["sparsity"]),
                "tau": _listed(rows["tau"]),
                "Annealing epochs": _listed(rows["anneal_epochs"]),
                "Annealing": _listed(rows["anneal_schedule"]),
                "Epochs": _listed(rows["epochs"]),
                "Learning rate": _listed(rows["lr_schedule"] + " " + rows["lr"].map("{:g}".format)),
                "Child seeds": _listed(rows["seed"]),
            }
        )
    shared = _shared(lines)
    caption = "The grid of each block, the children that it trained, and the time that they took."
    if shared:
        caption += f" The same in all: {'; '.join(f'{head.lower()} {text}' for head, text in shared.items())}."
    return of_lines(caption, [{head: line[head] for head in line if head not in shared} for line in lines])


def _shared(lines: list[dict[str, str]]) -> dict[str, str]:
    """The settings that are equal in all of several ``lines`` of blocks, by their heads."""
    if len(lines) < 2:
        return {}
    first, *others = lines
    settings = list(first)[list(first).index("Time") + 1 :]
    return {head: first[head] for head in settings if all(line[head] == first[head] != DASH for line in others)}


def _listed(values: pd.Series) -> str:
    """The values of a column, each once; a dash if there are none."""
    found: list[Any] = sorted(values.dropna().unique())
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in found) or DASH
