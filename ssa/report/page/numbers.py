"""The numbers behind the page's figures and tables as CSV, each within the link that downloads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from ssa.report.figures.panels import estimates
from ssa.report.figures.study import as_used
from ssa.report.page.explorer import CHOICES
from ssa.report.record import KEYS, Record
from ssa.report.registry import FIGURES

EPOCHS = ("test_accuracy", "keep_pruned")  # columns of history.parquet
ENSEMBLES = ("sizes", "bins", "corrupted")  # parts of a record
HEAD = ["ensemble", "dataset", "model", "seed"]


def link(csv: str) -> str:
    """``csv`` as an address that a browser saves to a file."""
    return "data:text/csv;charset=utf-8," + quote(csv, safe=",")


def of_figures(names: Iterable[str], record: Record, tables: Path) -> dict[str, str]:
    """The :func:`link` of each figure among ``names``, those aside whose numbers are not at hand."""
    found = {}
    for name in names:
        source = FIGURES[name].numbers
        table = tables / f"{source}.csv"
        if source in EPOCHS:
            found[name] = link(_along(source, record.epochs))
        elif source in ENSEMBLES:
            found[name] = link(_long(record[source]))
        elif table.is_file():
            found[name] = link(table.read_text(encoding="utf-8"))
    return found


def _along(column: str, epochs: pd.DataFrame) -> str:
    """``column`` by epoch at the study's fixed setting: mean, ends of the 95% t-interval and n over parents."""
    rows = as_used(epochs[epochs["reference"] & (epochs["method"] != "dense")])
    keys = [key for key in CHOICES if key != "training"]
    keys += ["augment", "epochs", "lr_schedule", "lr", "method", "sparsity", "epoch"]
    return _text(estimates(rows.dropna(subset=column), keys, column).drop(columns="reference"))


def _long(scores: pd.DataFrame) -> str:
    """``scores`` for the mean of the members' probabilities, with each ensemble's name and seed."""
    rows = scores[scores["convention"] == "probabilities"]
    rest = [column for column in rows if column not in (*KEYS, "convention")]
    return _text(rows[[*HEAD, *rest]])


def _text(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
