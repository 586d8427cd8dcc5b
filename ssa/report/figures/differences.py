"""The two figures of paired differences to one-shot: the ablation's heatmap and the forest plot."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ssa.analysis.statistics import is_usual
from ssa.report.figures.panels import (
    GAIN,
    LINES,
    arrows,
    at_edge,
    columns_of,
    diverged_entry,
    estimates,
    fit,
    grid,
    judged_by,
    legend,
    letters,
    outer_labels,
    ring,
    round_ticks,
    same_limits,
    thresholds,
    titles,
)
from ssa.report.figures.style import WIDE, Style, blank
from ssa.report.selection import CELL, PANEL, common_first, compared, split, swept
from ssa.report.tables.style import signed
from ssa.study.methods import in_order, label

ROW = ["sparsity", "method"]


def ablation_heatmap(children: pd.DataFrame) -> Figure | None:
    """Mean paired difference to one-shot over tau and the annealing's length: rows sparsity, columns schedule."""
    rows = swept(children)
    if not rows:
        return None
    whole = pd.concat(rows)
    taus, lengths = sorted(whole["tau"].unique()), sorted(whole["anneal_epochs"].unique())
    if 1 in (len(taus), len(lengths)):
        return _sweep(whole, ("anneal_epochs", "Annealing epochs") if len(taus) == 1 else ("tau", "tau"))
    schedules = common_first(whole["anneal_schedule"])
    names = titles(rows, [*CELL, "method"], 90 // len(schedules))
    figure = blank(WIDE, max(1.9, 0.5 + len(rows) * (0.6 + 0.24 * len(taus))))
    axes = figure.subplots(len(rows), len(schedules), squeeze=False, sharex=True, sharey=True)
    cells = [
        [
            estimates(row[row["anneal_schedule"] == schedule], ["tau", "anneal_epochs"], "difference")
            for schedule in schedules
        ]
        for row in rows
    ]
    largest = np.nanmax([here["mean"].abs().max() for line in cells for here in line])  # NaN where none was run
    for (i, j), ax in np.ndenumerate(axes):
        here = cells[i][j]
        ax.set_title(f"{names[i]}\n{schedules[j]} annealing" if len(here) else "")
        image = _heatmap(ax, here, taus, lengths, largest)
    outer_labels(figure, "Annealing epochs", "tau")
    figure.colorbar(image, ax=axes, label=GAIN, shrink=0.9, pad=0.01)
    return figure


def forest_differences(children: pd.DataFrame, drawn: dict[str, Style]) -> Figure | None:
    """Paired difference to one-shot: a column for each arm and criterion, a row for each sparsity and method."""
    panels = compared(children)
    if not panels:
        return None
    columns = columns_of(len(panels))
    blocks = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    rows = [_forest_rows(pd.concat(block)) for block in blocks]
    names = titles(panels, PANEL, letters(columns))
    lines = [max(name.count("\n") for name in names[i : i + columns]) for i in range(0, len(panels), columns)]
    heights = [0.45 + 0.125 * len(some) + 0.14 * more for some, more in zip(rows, lines, strict=True)]
    figure = blank(WIDE, 0.4 + sum(heights))
    axes = figure.subplots(len(blocks), columns, squeeze=False, height_ratios=heights)
    found = [estimates(panel, ROW, "difference") for panel in panels]
    for spare in axes.flat[len(panels) :]:
        spare.remove()
    for ax, panel in zip(figure.axes, panels, strict=True):
        fit(ax, "x", _usual(pd.concat(found)), 0)
        thresholds(ax, "x", *judged_by(panel))
        round_ticks(ax, "x")
    same_limits(figure.axes, "x")
    for i, (ax, cells, title) in enumerate(zip(figure.axes, found, names, strict=True)):
        ax.set_title(title)
        _forest(ax, cells, rows[i // columns], drawn)
        ax.tick_params(labelleft=i % columns == 0)
    outer_labels(figure, GAIN, "")
    if entry := diverged_entry(pd.concat(panels)):
        legend(figure, drawn, [], entry)
    return figure


def _sweep(whole: pd.DataFrame, along: tuple[str, str]) -> Figure:
    """Lines in place of heatmaps of one row: a panel for each arm, method and schedule, a line for each sparsity."""
    key, name = along
    keys = [*PANEL, "method", "anneal_schedule"]
    panels = split(whole, keys)
    columns = columns_of(len(panels))
    figure, axes = grid(len(panels), columns, height=2.0)
    sparsities = sorted(whole["sparsity"].unique())
    for ax, panel, title in zip(axes, panels, titles(panels, [*PANEL, "method"], letters(columns)), strict=True):
        schedules = whole["anneal_schedule"].nunique() > 1
        ax.set_title(f"{title}\n{panel['anneal_schedule'].iloc[0]} annealing" if schedules else title)
        for sparsity, (colour, marker) in zip(sparsities, itertools.cycle(LINES), strict=False):
            line = estimates(panel[panel["sparsity"] == sparsity], [key], "difference")
            bars = np.abs(line[["low", "high"]].sub(line["mean"], axis=0).to_numpy().T)
            look: Any = {"color": colour, "marker": marker}
            ax.errorbar(
                line[key], line["mean"], bars, markerfacecolor="white", elinewidth=0.6, label=f"{sparsity:g}%", **look
            )
            fixed = line[line["reference"]]
            ax.plot(fixed[key], fixed["mean"], linestyle="", zorder=3, **look)
        thresholds(ax, "y", *judged_by(panel))
        round_ticks(ax, "y")
        ax.set_xticks(sorted(panel[key].unique()), [f"{value:g}" for value in sorted(panel[key].unique())])
    same_limits(axes)
    for ax in axes:
        arrows(ax)
    outer_labels(figure, name, GAIN)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _heatmap(ax: Axes, cells: pd.DataFrame, taus: list[float], lengths: list[float], largest: float) -> AxesImage:
    """One panel: tau upwards, annealing epochs to the right, the fixed setting framed; blank where nothing was run."""
    table = cells.pivot(index="tau", columns="anneal_epochs", values="mean").reindex(index=taus, columns=lengths)
    image = ax.imshow(table, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto", origin="lower")
    ax.grid(False)
    ax.set_xticks(range(len(lengths)), [f"{length:g}" for length in lengths])
    ax.set_yticks(range(len(taus)), [f"{tau:g}" for tau in taus])
    for cell in cells.to_dict("records"):
        x, y, mean = lengths.index(cell["anneal_epochs"]), taus.index(cell["tau"]), cell["mean"]
        ink = "white" if abs(mean) > 0.6 * largest else "black"
        text = signed(mean, 1) + ("*" if cell["diverged"] else "")
        ax.text(x, y, text, ha="center", va="center", fontsize=7, color=ink)
        if cell["reference"]:
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, linewidth=1.4, clip_on=False))
    return image


def _forest_rows(panels: pd.DataFrame) -> list[tuple[float, str | None]]:
    """Every (sparsity, method) that ``panels`` fill, top to bottom; (sparsity, None) is the heading of a sparsity."""
    filled = {*zip(panels["sparsity"], panels["method"], strict=True)}
    return [
        (sparsity, method)
        for sparsity in sorted(panels["sparsity"].unique())
        for method in (None, *in_order(panels["method"]))
        if method is None or (sparsity, method) in filled
    ]


def _usual(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that set the axis: one collapsed child makes an interval that would flatten all others."""
    usual = cells[~cells["diverged"] & is_usual(cells["high"] - cells["low"])]
    return usual if len(usual) else cells


def _forest(ax: Axes, cells: pd.DataFrame, rows: list[tuple[float, str | None]], drawn: dict[str, Style]) -> None:
    """One column of the forest plot: ``cells`` at their places among ``rows``."""
    edge: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center_baseline", "fontsize": 7}
    ax.set_ylim(len(rows) - 0.4, -0.6)
    left, right = ax.get_xlim()
    for cell in cells.to_dict("records"):
        place, style, mean = rows.index((cell["sparsity"], cell["method"])), drawn[cell["method"]], cell["mean"]
        ax.plot([cell["low"], cell["high"]], [place, place], color=style.colour)
        ax.plot(mean, place, style.marker, color=style.colour, markersize=4)
        ax.text(1.01, place, f"{cell['n']}", **edge)
        for end, beyond, arrow in ((left, cell["low"] < left, "<"), (right, cell["high"] > right, ">")):
            if beyond:
                ax.plot(end, place, arrow, color=style.colour, markersize=3, clip_on=False)
        (ring if cell["diverged"] else at_edge)(ax, mean, place, signed(mean, 1))
    ax.text(1.01, 0, "n", **edge)
    ax.set_yticks(
        range(len(rows)), [f"{sparsity:g}%" if method is None else label(method) for sparsity, method in rows]
    )
    for tick, (_, method) in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if method is None else "normal")
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
