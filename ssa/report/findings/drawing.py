"""Parts of findings' figures: lines with intervals side by side, rows with intervals, limits and ticks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ssa.report.figures.panels import (
    GAIN,
    LINES,
    arrows,
    beside,
    columns_of,
    grid,
    judged_by,
    letters,
    outer_labels,
    round_ticks,
    same_limits,
    thresholds,
    titles,
)
from ssa.report.figures.style import styles
from ssa.report.selection import split
from ssa.study.methods import label

COLOUR = LINES[0][0]


def lines(
    table: pd.DataFrame, panel_keys: list[str], key: str, name: str, x: str, axis: str, log: bool = False
) -> Figure:
    """``gain`` against ``x``, a panel for each of ``panel_keys`` and a line for each value of ``key``."""
    panels = split(table, panel_keys)
    columns = columns_of(len(panels))
    figure, axes = grid(len(panels), columns, height=2.1)
    values = sorted(table[key].unique())
    for ax, panel, title in zip(axes, panels, titles(panels, panel_keys, letters(columns)), strict=True):
        ax.set_title(title)
        for i, (value, (colour, marker)) in enumerate(zip(values, itertools.cycle(LINES), strict=False)):
            line = panel[panel[key] == value]
            look: dict[str, Any] = {"color": colour, "marker": marker, "transform": beside(ax, i, len(values))}
            face = "white" if "best" in line else colour
            bars: dict[str, Any] = {"label": name.format(value), "elinewidth": 0.6, "markerfacecolor": face}
            ax.errorbar(line[x], line["gain"], errors(line, "gain"), **bars, **look)
            if "best" in line:
                ax.plot(line[x][line["best"]], line["gain"][line["best"]], linestyle="", zorder=3, **look)
        ticks_at(ax, panel[x], log)
        limit(ax, "y", panel, "gain")
        thresholds(ax, "y", *judged_by(panel))
    finish(axes, "y")
    outer_labels(figure, axis, GAIN)
    handles, names = axes[0].get_legend_handles_labels()
    if "best" in table:
        handles, names = (
            [*handles, Line2D([], [], color="black", marker="o", linestyle="")],
            [*names, "chosen on validation images"],
        )
    figure.legend(handles, names, loc="outside upper left", ncols=4)
    return figure


def rows(table: pd.DataFrame, panel_keys: list[str], key: str, axis: str) -> Figure:
    """``gain`` with its interval, a panel for each of ``panel_keys`` and a row for each value of ``key``."""
    panels, drawn = split(table, panel_keys), styles(table["method"])
    names = list(dict.fromkeys(table[key]))
    columns = columns_of(len(panels))
    figure, axes = grid(len(panels), columns, height=0.8 + 0.16 * len(names))
    for ax, panel, title in zip(axes, panels, titles(panels, panel_keys, letters(columns)), strict=True):
        ax.set_title(title)
        for row in panel.to_dict("records"):
            style = drawn[row["method"]]
            at = names.index(row[key])
            ax.errorbar(row["gain"], at, xerr=error(row, "gain"), fmt=style.marker, color=style.colour)
        limit(ax, "x", table, "gain")
        thresholds(ax, "x", *judged_by(panel))
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), [label(name) for name in names])
    for i, ax in enumerate(axes):
        ax.tick_params(labelleft=i % columns == 0)
    finish(axes, "x")
    outer_labels(figure, axis, "")
    return figure


def finish(axes: list[Axes], axis: str) -> None:
    """One scale for all panels along ``axis``, round ticks there, and arrows where intervals are cut."""
    same_limits(axes, axis)
    for ax in axes:
        round_ticks(ax, axis)
        arrows(ax)


def ticks_at(ax: Axes, values: pd.Series, log: bool) -> None:
    """A tick for each of ``values`` on the x axis, and no other."""
    if log:
        ax.set_xscale("log")
    places = np.unique(values)
    ax.set_xticks(places, [f"{at:,g}" for at in places])
    ax.set_xlim(*_room(places, log))
    ax.minorticks_off()


def _room(places: NDArray[np.float64], log: bool) -> tuple[float, float]:
    """Limits of an axis that leave room beside the first and the last of ``places``."""
    if log:
        low, high = _room(np.log(places), False)
        return math.exp(low), math.exp(high)
    margin = 0.12 * np.ptp(places) or 1.0
    return float(places[0] - margin), float(places[-1] + margin)


def limit(ax: Axes, axis: str, table: pd.DataFrame, column: str, level: float = 0.0) -> None:
    """Limits that hold ``level``, every estimate, and the intervals as far as two thirds of them need."""
    half = (table[f"{column}_high"] - table[f"{column}_low"]) / 2
    reach = float(np.nanquantile(half, 0.67)) if half.notna().any() else 0.0
    low, high = min(level, table[column].min() - reach), max(level, table[column].max() + reach)
    margin = 0.05 * (high - low) or 1.0
    ax.set(**{f"{axis}lim": (low - margin, high + margin)})


def error(row: Any, column: str) -> list[list[float]]:
    """The two lengths of the interval of one row."""
    return [[row[column] - row[f"{column}_low"]], [row[f"{column}_high"] - row[column]]]


def errors(line: pd.DataFrame, column: str) -> Any:
    """The lengths of the intervals below and above, of each row of ``line``."""
    return np.abs(line[[f"{column}_low", f"{column}_high"]].sub(line[column], axis=0).to_numpy().T)
