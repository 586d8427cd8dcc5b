"""The figures of the findings, drawn from their tables."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import NDArray

from ssa.analysis.findings import CELLS
from ssa.analysis.statistics import n_text
from ssa.report.figures.panels import (
    GAIN,
    LINES,
    LITTLE,
    QUOTED,
    RUNNING,
    SMALLEST,
    arrows,
    columns_of,
    grid,
    legend,
    outer_labels,
    round_ticks,
    same_limits,
    sparsity_axis,
    thresholds,
    titles,
)
from ssa.report.figures.style import WIDE, blank, styles
from ssa.report.selection import split
from ssa.study.methods import in_order, label

COLOUR = LINES[0][0]
ASIDE = 4  # points from one line to the next


def controls(table: pd.DataFrame) -> Figure:
    """Gain over one-shot, a row for each method."""
    return _rows(table, CELLS["controls"], "method", GAIN)


def allocation(table: pd.DataFrame) -> Figure:
    """Gain over one-shot, a row for each way to spread sparsity, a panel for each method."""
    arm = table["allocation"].where(table["stem"] == "pruned", "dense stem, " + table["allocation"])
    return _rows(table.assign(arm=arm), [*CELLS["allocation"], "method"], "arm", GAIN)


def losses(table: pd.DataFrame) -> Figure:
    """Gain in test accuracy against the difference in clean training loss, by method; lines run up to a sparsity."""
    cells = table.dropna(subset="sparsity")
    panels = split(cells, CELLS["losses"])
    drawn = styles(cells["method"])
    figure, axes = grid(len(panels), columns_of(len(panels)), height=2.4)
    for ax, panel, title in zip(axes, panels, titles(panels, CELLS["losses"], 30), strict=True):
        ax.set_title(title)
        ax.axvline(0, color="black", linewidth=0.6)
        for method in in_order(panel["method"]):
            line, style = panel[panel["method"] == method].sort_values("sparsity"), drawn[method]
            look: dict[str, Any] = {"marker": style.marker, "color": style.colour, "linewidth": 0.6, "elinewidth": 0.6}
            ax.errorbar(line["loss"], line["gain"], _errors(line, "gain"), _errors(line, "loss"), linestyle=":", **look)
        last = line.iloc[-1]  # of the last method alone: lines end close to each other
        ax.annotate(f"{last['sparsity']:g}%", (last["loss"], last["gain"]), (3, 3), textcoords="offset points", size=7)
        _limit(ax, "x", panel, "loss")
        _limit(ax, "y", panel, "gain")
        thresholds(ax, "y", SMALLEST, LITTLE, QUOTED)
        round_ticks(ax, "x", 4)
    _finish(axes, "y")
    outer_labels(figure, "Clean training loss\nminus one-shot (nats)", GAIN)
    legend(figure, drawn, in_order(cells["method"]))
    return figure


def rates(table: pd.DataFrame) -> Figure:
    """Test accuracy against the peak rate, a line for each method; the chosen rate is filled."""
    panels = split(table, CELLS["rates"])
    figure = blank(WIDE, 3.0)
    axes = list(figure.subplots(1, len(panels), squeeze=False).flat)
    drawn = styles(table["method"])
    for ax, panel, title in zip(axes, panels, titles(panels, CELLS["rates"], 50), strict=True):
        ax.set_title(title)
        lines = list(panel.groupby(["method", "lr_schedule"], sort=False))
        for i, ((method, schedule), line) in enumerate(lines):
            style, swept = drawn[str(method)], schedule == "one-cycle"
            name = label(str(method)) + ("" if swept else f", {schedule} rate")
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker if swept else "*"}
            look |= {"transform": _beside(ax, i, len(lines))}
            bars: dict[str, Any] = {
                "label": name,
                "elinewidth": 0.6,
                "markerfacecolor": "white",
                "linestyle": style.line,
            }
            ax.errorbar(line["lr"], line["accuracy"], _errors(line, "accuracy"), **bars, **look)
            chosen = line[line["chosen"]]
            ax.plot(chosen["lr"], chosen["accuracy"], linestyle="", zorder=3, **look)
        _limit(ax, "y", panel, "accuracy", panel["accuracy"].mean())
        _places(ax, panel["lr"], log=True)
    _finish(axes, "y")
    outer_labels(figure, "Peak learning rate", RUNNING)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def lengths(table: pd.DataFrame) -> Figure:
    """Gain against the share of fine-tuning that is annealed, a line for each sparsity; the best share is filled."""
    return _lines(table, _without("lengths", "sparsity"), "sparsity", "{:g}%", "share", "e / E")


def regime(table: pd.DataFrame) -> Figure:
    """Gain against training images, a line for each number of epochs."""
    keys = [key for key in _without("regime", "epochs") if key != "train_images"]
    return _lines(table, keys, "epochs", "{:g} epochs", "train_images", "Training images", log=True)


def criteria(table: pd.DataFrame) -> Figure:
    """Temperature annealing's lead against sparsity, a line for each method that it is compared with."""
    keys = _without("criteria", "sparsity")
    panels = split(table, keys)
    figure, axes = grid(len(panels), columns_of(len(panels)), height=2.1)
    drawn = styles(table["method"])
    for ax, panel, title in zip(axes, panels, titles(panels, keys, 30), strict=True):
        ax.set_title(title)
        sparsity_axis(ax, sorted(panel["sparsity"].unique()), named=True)
        methods = in_order(panel["method"])
        for i, method in enumerate(methods):
            line, style = panel[panel["method"] == method], drawn[method]
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.line}
            look["transform"] = _beside(ax, i, len(methods))
            ax.errorbar(100 - line["sparsity"], line["lead"], _errors(line, "lead"), elinewidth=0.6, **look)
        _limit(ax, "y", panel, "lead")
        thresholds(ax, "y", SMALLEST, LITTLE)
    _finish(axes, "y")
    outer_labels(figure, "Sparsity (%)", "SSA temperature minus\nanother (points)")
    legend(figure, drawn, in_order(table["method"]))
    return figure


def calibration(table: pd.DataFrame) -> Figure:
    """Gains in NLL and ECE over each other ensemble, as they are (filled) and temperature-scaled (open)."""
    panels = [part for _, part in table.groupby([*CELLS["calibration"], "ensemble"], sort=False)]
    longest = max(len(panel) for panel in panels)
    figure, axes = grid(2 * len(panels), 2, height=0.95 + 0.22 * longest)
    units = {"nll": "Gain in NLL (nats)", "ece": "Gain in ECE (points)"}
    for ax, (panel, (key, unit)) in zip(axes, itertools.product(panels, units.items()), strict=True):
        first = panel.iloc[0]
        what = f"{first['dataset']}, {first['model']}:\n{first['ensemble']}"
        ax.set_title(f"{what}, n = {n_text(panel['n'])} seeds")
        ax.axvline(0, color="black", linewidth=0.6)
        places = np.arange(len(panel))
        for aside, end, face, words in ((-0.12, "", COLOUR, "as they are"), (0.12, "_scaled", "white", "scaled")):
            errors = _errors(panel, f"{key}{end}")
            look: dict[str, Any] = {"fmt": "o", "color": COLOUR, "markerfacecolor": face, "label": words}
            ax.errorbar(panel[f"{key}{end}"], places + aside, xerr=errors, elinewidth=0.6, **look)
        ax.set_ylim(len(panel) - 0.5, -0.5)
        ax.set_yticks(places, panel["other"] if key == "nll" else [""] * len(panel))
        ax.set_xlabel(unit)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def gradients(table: pd.DataFrame) -> Figure:
    """Variance of the gradient, its part of the gradient's square, and the masks' part of it, along training."""
    cells = split(table, CELLS["gradients"])
    figure, axes = grid(3 * len(cells), columns=3, height=2.2)
    drawn = styles(table["method"])
    measures = {"variance": "log10 of its variance", "noise": "noise (%)", "masks": "noise from masks (%)"}
    named = zip(cells, titles(cells, CELLS["gradients"], 30), strict=True)
    for ax, ((cell, title), (column, what)) in zip(axes, itertools.product(named, measures.items()), strict=True):
        ax.set_title(f"{title}\n{what}")
        for method in in_order(cell["method"]):
            line, style = cell[cell["method"] == method], drawn[method]
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.line}
            ax.errorbar(line["epoch"], line[column], _errors(line, column), elinewidth=0.6, **look)
    outer_labels(figure, "Epoch", "A step's gradient")
    legend(figure, drawn, in_order(table["method"]))
    return figure


def _without(finding: str, key: str) -> list[str]:
    return [other for other in CELLS[finding] if other != key]


def _lines(
    table: pd.DataFrame, panel_keys: list[str], key: str, name: str, x: str, axis: str, log: bool = False
) -> Figure:
    """``gain`` against ``x``, a panel for each of ``panel_keys`` and a line for each value of ``key``."""
    panels = split(table, panel_keys)
    figure, axes = grid(len(panels), columns_of(len(panels)), height=2.1)
    values = sorted(table[key].unique())
    for ax, panel, title in zip(axes, panels, titles(panels, panel_keys, 30), strict=True):
        ax.set_title(title)
        for i, (value, (colour, marker)) in enumerate(zip(values, itertools.cycle(LINES), strict=False)):
            line = panel[panel[key] == value]
            look: dict[str, Any] = {"color": colour, "marker": marker, "transform": _beside(ax, i, len(values))}
            face = "white" if "best" in line else colour
            bars: dict[str, Any] = {"label": name.format(value), "elinewidth": 0.6, "markerfacecolor": face}
            ax.errorbar(line[x], line["gain"], _errors(line, "gain"), **bars, **look)
            if "best" in line:
                ax.plot(line[x][line["best"]], line["gain"][line["best"]], linestyle="", zorder=3, **look)
        _places(ax, panel[x], log)
        _limit(ax, "y", panel, "gain")
        thresholds(ax, "y", SMALLEST, LITTLE, QUOTED)
    _finish(axes, "y")
    outer_labels(figure, axis, GAIN)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _rows(table: pd.DataFrame, panel_keys: list[str], key: str, axis: str) -> Figure:
    """``gain`` with its interval, a panel for each of ``panel_keys`` and a row for each value of ``key``."""
    panels, drawn = split(table, panel_keys), styles(table["method"])
    names = list(dict.fromkeys(table[key]))
    columns = 3 if len(panels) > 2 else 2
    figure, axes = grid(len(panels), columns, height=0.8 + 0.16 * len(names))
    for ax, panel, title in zip(axes, panels, titles(panels, panel_keys, 30), strict=True):
        ax.set_title(title)
        for row in panel.to_dict("records"):
            style = drawn[row["method"]]
            at = names.index(row[key])
            ax.errorbar(row["gain"], at, xerr=_error(row, "gain"), fmt=style.marker, color=style.colour)
        _limit(ax, "x", table, "gain")
        thresholds(ax, "x", SMALLEST, LITTLE, QUOTED)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), [label(name) for name in names])
    for i, ax in enumerate(axes):
        ax.tick_params(labelleft=i % columns == 0)
    _finish(axes, "x")
    outer_labels(figure, axis, "")
    return figure


def _finish(axes: list[Axes], axis: str) -> None:
    """One scale for all panels along ``axis``, round ticks there, and arrows where intervals are cut."""
    same_limits(axes, axis)
    for ax in axes:
        round_ticks(ax, axis)
        arrows(ax)


def _beside(ax: Axes, i: int, count: int) -> Transform:
    """Data coordinates of the ``i``-th of ``count`` lines, so that intervals at one place stand side by side."""
    assert ax.figure is not None
    return ax.transData + ScaledTranslation((i - (count - 1) / 2) * ASIDE / 72, 0, ax.figure.dpi_scale_trans)


def _places(ax: Axes, values: pd.Series, log: bool) -> None:
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


def _limit(ax: Axes, axis: str, table: pd.DataFrame, column: str, level: float = 0.0) -> None:
    """Limits that hold ``level``, every estimate, and the intervals as far as two thirds of them need."""
    half = (table[f"{column}_high"] - table[f"{column}_low"]) / 2
    reach = float(np.nanquantile(half, 0.67)) if half.notna().any() else 0.0
    low, high = min(level, table[column].min() - reach), max(level, table[column].max() + reach)
    margin = 0.05 * (high - low) or 1.0
    ax.set(**{f"{axis}lim": (low - margin, high + margin)})


def _error(row: Any, column: str) -> list[list[float]]:
    return [[row[column] - row[f"{column}_low"]], [row[f"{column}_high"] - row[column]]]


def _errors(line: pd.DataFrame, column: str) -> Any:
    return np.abs(line[[f"{column}_low", f"{column}_high"]].sub(line[column], axis=0).to_numpy().T)
