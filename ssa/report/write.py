"""All that is shown of a study, in one go: tables, verdicts, figures, and the page that holds them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from ssa.analysis.claims.judge import write_claims
from ssa.errors import UserError
from ssa.files import write_csv
from ssa.report.figures.style import look, save_figure
from ssa.report.page.page import write_page
from ssa.report.record import Record, made
from ssa.report.registry import ENSEMBLES, FIGURES, FINDINGS, TABLES, Entry
from ssa.report.tables import style
from ssa.study.claims import CLAIMS

NEEDED = ("study.json", "children.csv", "parents.csv", "history.parquet")


def write_report(results: Path, tables: Path, figures: Path, out: Path, processes: int = 1) -> None:
    """Write the study's tables and verdicts to ``tables``, its figures to ``figures``, its page to the file ``out``.

    What the study has nothing to fill with is not written, or deleted if an earlier version had it. The same record
    gives the same bytes, in however many ``processes`` figures are drawn. ``UserError`` names a file of ``results``
    that is missing.
    """
    for name in NEEDED:
        if not (results / name).is_file():
            raise UserError(f"{results / name} is missing: run ssa aggregate first")
    record = Record(results)
    record.check_rows()
    write_tables(record, tables)
    write_verdicts(record, tables)
    write_figures(record, figures, processes)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_page(record, tables, figures, out)


def write_tables(record: Record, out: Path) -> None:
    """Write each table as .csv, .md and .tex; that of a finding as .csv."""
    out.mkdir(parents=True, exist_ok=True)
    for name, entry in TABLES.items():
        table = record.table(name) if _asked(entry, name, record) else None
        if table is None or (isinstance(table, pd.DataFrame) and table.empty):
            _remove(out, name, "csv", "md", "tex")
        elif isinstance(table, pd.DataFrame):
            write_csv(out / f"{name}.csv", table)
        else:
            style.write(table, out)


def write_verdicts(record: Record, out: Path) -> None:
    """Write the verdict on each claim that the study tests as .csv and .md."""
    if any(name in CLAIMS for name in record.study["claims"]):
        write_claims(record.study["claims"], record.judged, record.children, out)
    else:
        _remove(out, "claims", "csv", "md")


def write_figures(record: Record, out: Path, processes: int = 1) -> None:
    """Draw each figure as .pdf and .png, in so many ``processes``."""
    out.mkdir(parents=True, exist_ok=True)
    draw = partial(_draw, record, out)
    if processes == 1:
        for name in FIGURES:
            draw(name)
    else:
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(draw, FIGURES))


def _draw(record: Record, out: Path, name: str) -> None:
    entry = FIGURES[name]
    with look():
        figure = made(entry, record) if _asked(entry, name, record) and _known(entry, record) else None
        if figure is None:
            _remove(out, name, "pdf", "png")
        else:
            save_figure(figure, out / name)


def _asked(entry: Entry, name: str, record: Record) -> bool:
    """Whether the study asks the finding, or has the ensembles, that ``entry`` is of."""
    if entry.section == FINDINGS:
        return name.removeprefix("finding_") in (record.study.get("findings") or ())
    return entry.section != ENSEMBLES or record.ensembles is not None


def _known(entry: Entry, record: Record) -> bool:
    """Whether the table of a finding, which ``entry`` draws, has rows."""
    return all(len(record.table(part)) for part in entry.takes if part in TABLES)


def _remove(folder: Path, name: str, *endings: str) -> None:
    for ending in endings:
        (folder / f"{name}.{ending}").unlink(missing_ok=True)
