"""Panels of a figure: titling, filling and labelling them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssa.analysis.statistics import over_parents
from ssa.report.figures.style import COLUMN, DIVERGED, WIDE, Style, blank
from ssa.report.selection import common_first
from ssa.study.methods import in_order, label

# What a panel's title tells: these always, these where the panels differ, these where a panel is unlike most.
ALWAYS, DIFFERING, UNUSUAL = (
    ("criterion", "sparsity"),
    ("parent", "lr_schedule", "epochs", "allocation"),
    ("stem", "structure"),
)
WORDS = {
    "criterion": "{} masks",
    "lr_schedule": "{} rate",
    "stem": "{} stem",
    "epochs": "{:g} epochs",
    "lr": "rate {:g}",
    "augment": "augment {}",
    "sparsity": "{:g}%",
    "structure": "whole {}",
}


def titles(parts: list[pd.DataFrame], keys: list[str], width: int) -> list[str]:
    """A title for each of ``parts``, in lines of ``width`` characters: as few of ``keys`` as tell them apart."""
    whole = pd.concat(parts)
    usual = {key: common_first(whole[key])[0] for key in UNUSUAL if key in keys}
    told = [key for key in keys if key in ALWAYS or (key in DIFFERING and whole[key].nunique() > 1)]
    values = pd.DataFrame([part[keys].iloc[0] for part in parts])
    for key in keys:
        missing = key not in (*told, *usual) and values[key].nunique() > 1
        if missing and len(values[[*told, *usual]].drop_duplicates()) < len(values):
            told.append(key)
    return [
        _title({key: row[key] for key in keys if key in told or row[key] != usual.get(key, row[key])}, width)
        for _, row in values.iterrows()
    ]


def _title(values: dict[str, Any], width: int) -> str:
    # A line breaks between parts only: the spaces within one do not break.
    parts = [WORDS.get(key, "{}").format(value).replace(" ", "\N{NO-BREAK SPACE}") for key, value in values.items()]
    return textwrap.fill(", ".join(parts), width, break_on_hyphens=False)


def by_method(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(method, its rows) in the catalogue's order."""
    return [(name, frame[frame["method"] == name]) for name in in_order(frame["method"])]


def estimates(frame: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """One row per group of ``by``, sorted: ``mean``, ``low``, ``high`` and ``n`` of ``column`` over parents.

    ``diverged`` and ``reference`` say whether any child of the group is.
    """
    rows = []
    for at, part in frame.groupby(by):
        estimate = over_parents(part, column)
        flags = part[["diverged", "reference"]].any()
        rows.append((*at, estimate.mean, estimate.low, estimate.high, estimate.n, *flags))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n", "diverged", "reference"])


def grid(panels: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``panels`` axes in rows of ``columns``, each ``height`` inches tall; one alone is narrow."""
    columns = min(panels, columns)
    rows = -(-panels // columns)
    figure = blank(WIDE if columns > 1 else COLUMN, rows * height + 0.4)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def band(ax: Axes, x: Any, line: pd.DataFrame, style: Style, every: int = 1) -> None:
    """``line``'s mean as a line with a marker at ``every``-th point, its low to high as a band.

    No band where a child diverged: it would be wider than the axes.
    """
    shown = line[["low", "high"]].mask(line["diverged"])
    ax.fill_between(x, shown["low"], shown["high"], color=style.colour, alpha=0.12, linewidth=0)
    ax.plot(x, line["mean"], color=style.colour, marker=style.marker, linestyle=style.line, markevery=every)


def fit(ax: Axes, axis: str, estimates: pd.DataFrame, *levels: float) -> None:
    """Limits of ``axis`` ("x" or "y") that hold the ``low`` to ``high`` of ``estimates`` and ``levels``.

    Cells with a diverged child do not count while there are others: one collapsed child would flatten all else.
    """
    sound = estimates[~estimates["diverged"]] if not estimates["diverged"].all() else estimates
    values = np.append(sound[["low", "mean", "high"]].to_numpy().ravel(), levels)
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.05 * (high - low) or 1.0
    ax.set(**{f"{axis}lim": (low - margin, high + margin)})


def ring(ax: Axes, x: float, y: float, text: str) -> None:
    """Mark a cell with a diverged child, within the axes or, with its value ``text``, at their edge."""
    ax.plot(*at_edge(ax, x, y, text), **DIVERGED, clip_on=False)


def at_edge(ax: Axes, x: float, y: float, text: str) -> tuple[float, float]:
    """The nearest point within the axes; where that is another than (x, y), ``text`` is written beside it."""
    at = (_clip(x, ax.get_xlim()), _clip(y, ax.get_ylim()))
    if at != (x, y):
        left = ax.transAxes.inverted().transform(ax.transData.transform(at))[0] < 0.5
        offset, side = ((6, 3), "left") if left else ((-6, 3), "right")
        ax.annotate(text, at, offset, textcoords="offset points", ha=side, fontsize=7)
    return at


def _clip(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, min(limits)), max(limits))


def diverged_entry(shown: pd.DataFrame) -> dict[str, Any]:
    """The legend's entry for cells with a diverged child, where there are any."""
    return {"Diverged child": DIVERGED} if shown["diverged"].any() else {}


def outer_labels(figure: Figure, x: str, y: str) -> None:
    """The x label below each column's lowest panel, the y label at the first column."""
    specs = [(ax.get_subplotspec(), ax) for ax in figure.axes]
    places = {(spec.rowspan.start, spec.colspan.start): ax for spec, ax in specs if spec}
    for (row, column), ax in places.items():
        if (row + 1, column) not in places:
            ax.set_xlabel(x)
        if column == 0:
            ax.set_ylabel(y)


def legend(
    figure: Figure, drawn: dict[str, Style], methods: Iterable[str], levels: dict[str, Any] | None = None
) -> None:
    """One legend above the panels: ``methods``, then ``levels`` (name to line settings)."""
    handles = [
        Line2D([], [], color=one.colour, marker=one.marker, linestyle=one.line, label=label(name))
        for name in methods
        for one in [drawn[name]]
    ]
    handles += [Line2D([], [], label=name, **settings) for name, settings in (levels or {}).items()]
    columns = 2 if figure.get_figwidth() < WIDE else len(handles) if len(handles) < 6 else 4
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.2, handlelength=2.4)
