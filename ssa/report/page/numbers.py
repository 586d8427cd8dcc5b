"""The numbers behind the page's figures and tables as CSV, each within the link that downloads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from ssa.report.figures.panels import estimates
from ssa.report.figures.study import as_used
from ssa.report.page.explorer import CHOICES
from ssa.report.registry import FIGURES
from ssa.results.children import read_children, read_epochs
from ssa.results.ensembles import read_ensembles

EPOCHS = ("test_accuracy", "keep_pruned")  # columns of history.parquet
ENSEMBLES = ("ensemble_sizes", "ensemble_bins", "corruptions")  # tables of the results


def link(csv: str) -> str:
    """``csv`` as an address that a browser saves to a file."""
    return "data:text/csv;charset=utf-8," + quote(csv, safe=",")


def of_figures(names: Iterable[str], results: Path, tables: Path) -> dict[str, str]:
    """The :func:`link` of each figure among ``names``, those aside whose numbers are not at hand."""
    found = {}
    for name in names:
        source = FIGURES[name].numbers
        table = tables / f"{source}.csv"
        if source in EPOCHS:
            found[name] = link(_along(source, results))
        elif source in ENSEMBLES:
            found[name] = link(_long(source, results))
        elif table.is_file():
            found[name] = link(table.read_text(encoding="utf-8"))
    return found


def _along(column: str, results: Path) -> str:
    """``column`` by epoch at the study's fixed setting: mean, ends of the 95% t-interval and n over parents."""
    children = read_children(results)
    epochs = as_used(read_epochs(results, children[children["reference"] & (children["method"] != "dense")]))
    keys = [key for key in CHOICES if key != "training"]
    keys += ["augment", "epochs", "lr_schedule", "lr", "method", "sparsity", "epoch"]
    return _text(estimates(epochs.dropna(subset=column), keys, column).drop(columns="reference"))


def _long(table: str, results: Path) -> str:
    """``table`` of the results for the mean of the members' probabilities, with each ensemble's name and seed."""
    rows = pd.read_csv(results / f"{table}.csv")
    rows = rows[rows["convention"] == "probabilities"].drop(columns="convention")
    ensembles = read_ensembles(results)[["ensemble_id", "ensemble", "dataset", "model", "seed"]]
    return _text(ensembles.merge(rows, on="ensemble_id").drop(columns="ensemble_id"))


def _text(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
