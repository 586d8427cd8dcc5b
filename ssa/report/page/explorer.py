"""The page's interactive part: every panel's estimates, computed here, and the library that draws them."""

from __future__ import annotations

import base64
import gzip
import math
from functools import cache
from typing import Any

import pandas as pd

from ssa.analysis.statistics import FEWEST, over_parents
from ssa.report.figures.panels import estimates
from ssa.report.figures.style import Style, styles
from ssa.results.children import pairs
from ssa.study.methods import in_order, label

# What a reader may choose, where the study has more than one of it.
CHOICES = {
    "dataset": "Data set",
    "parent": "Parents",
    "criterion": "Masks",
    "training": "Fine-tuning",
    "structure": "Pruned units",
    "allocation": "Allocation",
    "stem": "Stem",
}
MEASURES = {
    "accuracy": "Test accuracy",
    "accuracy_bn": "Test accuracy, BatchNorm re-estimated under the mask",
}
BASELINES = ("one-shot", "iterative")
# Matplotlib's markers: plotly's names of them, and characters like them.
SYMBOLS = {
    **{"s": ("square", "■"), "D": ("diamond", "◆"), "d": ("diamond-tall", "♦"), "o": ("circle", "●")},
    **{"p": ("pentagon", "⬟"), "P": ("cross", "✚"), "X": ("x", "✖"), "h": ("hexagon", "⬢"), "": ("circle", "")},
    **{"^": ("triangle-up", "▲"), "v": ("triangle-down", "▼"), "<": ("triangle-left", "◀")},
    **{">": ("triangle-right", "▶"), "*": ("star", "★"), "8": ("octagon", "⯃"), "H": ("hexagon2", "⬣")},
    **{"x": ("x-thin-open", "×"), "+": ("cross-thin-open", "+")},
}


def explorer(children: pd.DataFrame, epochs: pd.DataFrame, smallest: float) -> dict[str, Any] | None:
    """The choices, the methods' looks and a panel for each combination that was run; None if nothing was pruned.

    Children are those at the study's fixed setting. An estimate is [mean, low, high, n] over parents, in percent
    or points, with null where an interval needs more parents. ``smallest``: the smallest difference that matters.
    """
    pruned = children[children["reference"] & (children["method"] != "dense")]
    if pruned.empty:
        return None
    pruned = pruned.assign(training=_training(pruned))
    curves = epochs[["child_id", "epoch", "test_accuracy"]].dropna().merge(pruned, on="child_id")
    keys = list(CHOICES)
    scored = dict(iter(curves.groupby(keys)))
    drawn = styles(pruned["method"])
    baselines = [name for name in BASELINES if name in drawn] or list(drawn)[:1]
    panels = [_panel(part, scored.get(at, curves[:0]), baselines) for at, part in pruned.groupby(keys)]
    panels.sort(key=lambda panel: (-len(panel["cells"]), panel["choice"]["criterion"] != "random"))  # the fullest first
    methods = [{"name": name, "label": label(name), **_look(style)} for name, style in drawn.items()]
    return {
        "choices": [
            {"key": key, "name": name, "values": sorted(pruned[key].unique())} for key, name in CHOICES.items()
        ],
        "measures": [{"key": key, "name": name} for key, name in MEASURES.items()],
        "baselines": [{"key": name, "name": label(name)} for name in baselines],
        "methods": methods,
        "panels": panels,
        "smallest": smallest,
    }


def _training(children: pd.DataFrame) -> pd.Series:
    """Schedule, rate, epochs and augmentation in words."""
    words = children["lr_schedule"] + ", rate " + children["lr"].map("{:g}".format)
    words += ", " + children["epochs"].map("{:g} epochs".format)
    return words + children["augment"].map({True: ", augmented", False: ""}).fillna("")


def _look(style: Style) -> dict[str, str]:
    dash = "solid" if isinstance(style.line, str) else ",".join(f"{2 * length:g}px" for length in style.line[1])
    symbol, glyph = SYMBOLS[style.marker]
    return {"colour": style.colour, "symbol": symbol, "glyph": glyph, "dash": dash}


def _panel(children: pd.DataFrame, curves: pd.DataFrame, baselines: list[str]) -> dict[str, Any]:
    cells: dict[Any, dict[str, Any]] = {}  # by method and sparsity
    for (method, sparsity), part in children.groupby(["method", "sparsity"]):
        cells[method, sparsity] = {
            **{"method": method, "sparsity": sparsity, "differences": {}, "curve": []},
            **{"diverged": int(part["diverged"].sum()), "children": len(part)},
            **{measure: _estimate(part, measure) for measure in MEASURES},
        }
    for base in (name for name in baselines if name in set(children["method"])):
        others = children[children["method"] != base]
        for measure in MEASURES:
            paired = pairs(others, children[children["method"] == base], measure)
            for (method, sparsity), part in paired.groupby(["method", "sparsity"]):
                cells[method, sparsity]["differences"].setdefault(base, {})[measure] = _estimate(part, "difference")
    rows = estimates(curves, ["method", "sparsity", "epoch"], "test_accuracy")
    for row in rows.to_dict("records"):
        values = [row["mean"], row["low"], row["high"], row["n"]]
        cells[row["method"], row["sparsity"]]["curve"].append([row["epoch"], *_shown(values)])
    order = in_order(children["method"])
    return {
        "choice": children[list(CHOICES)].iloc[0].to_dict(),
        "cells": [cells[at] for at in sorted(cells, key=lambda at: (order.index(at[0]), at[1]))],
        "dense": _estimate(children, "dense_accuracy"),
        "parent": _estimate(children, "parent_accuracy"),
        "ends": sorted(children["anneal_epochs"].dropna().unique()),
    }


def _estimate(rows: pd.DataFrame, column: str) -> list[float | None]:
    found = over_parents(rows, column)
    return _shown([found.mean, found.low, found.high, found.n])


def _shown(values: list[float]) -> list[float | None]:
    """Mean, low, high and n, rounded; without an interval below :data:`FEWEST` parents."""
    if values[3] < FEWEST:
        values = [values[0], math.nan, math.nan, values[3]]
    return [None if math.isnan(value) else round(float(value), 3) for value in values]


@cache
def library() -> str:
    """Plotly's script, compressed and in base64: a third of its size, and not parsed until a reader gets there."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
