"""Parts that figures of ensembles share: a block for each data set and model, its key, each ensemble's style."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from ssa.report.figures.style import STYLES, WIDE, Style, blank
from ssa.results.ensembles import by_name, groups

COLOURS = {
    **{"independent": "#000000", "mc-dropout": "#332288", "snapshot": "#0072B2", "fge": "#56B4E9"},
    **{"batch-ensemble": "#CC79A7", "mimo": "#B8860B", "dense-children": "#882255"},
}
MARKERS = "osD^vP<X>*hd"


def ensemble_styles(ensembles: pd.DataFrame) -> dict[str, Style]:
    """A style for each ensemble: its tuning's colour, else its method's; those of one colour differ in the marker."""
    found: dict[str, Style] = {}
    for name, rows in by_name(ensembles):
        first = rows.iloc[0]
        tuned = first["method"] == "prune-and-tune" and first["tuning"] in STYLES
        colour = STYLES[first["tuning"]].colour if tuned else COLOURS.get(first["method"], "#882255")
        same = sum(style.colour == colour for style in found.values())
        found[name] = Style(colour, MARKERS[same % len(MARKERS)])
    return found


def titled_blocks(
    rows: pd.DataFrame,
    height: Callable[[pd.DataFrame], float],
    draw: Callable[[SubFigure, pd.DataFrame, dict[str, Style]], Any],
    ensembles: pd.DataFrame | None = None,
    title: Callable[[pd.DataFrame], str] = lambda cells: f"{cells['dataset'].iloc[0]}, {cells['model'].iloc[0]}",
) -> Figure:
    """A figure with a titled block of ``height`` inches for each data set and model of ``rows``, filled by ``draw``.

    Styles are those that the ensembles of the block have among all ``ensembles`` of the study (default: ``rows``).
    """
    parts = [cells for _, _, cells in groups(rows)]
    heights = [height(cells) for cells in parts]
    figure = blank(WIDE, sum(heights))
    whole = rows if ensembles is None else ensembles
    styles = {(dataset, model): ensemble_styles(cells) for dataset, model, cells in groups(whole)}
    for part, cells in zip(
        figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False).flat, parts, strict=True
    ):
        part.suptitle(f"{title(cells)} ({_seeds(cells)})", x=0.01, ha="left", fontsize=8.5, fontweight="bold")
        draw(part, cells, styles[cells["dataset"].iloc[0], cells["model"].iloc[0]])
    return figure


def _seeds(cells: pd.DataFrame) -> str:
    """How many seeds there are of each ensemble, or of the one that has fewest and the one that has most."""
    counts = cells.groupby("ensemble")["seed"].nunique()
    low, high = counts.min(), counts.max()
    return f"n = {high} seeds" if low == high else f"n = {low} to {high} seeds"


def key(part: SubFigure, drawn: dict[str, Style], names: Iterable[str], levels: dict[str, Any] | None = None) -> None:
    """The legend of one block, below its panels."""
    handles = [
        Line2D([], [], color=drawn[name].colour, marker=drawn[name].marker, linestyle="", label=name) for name in names
    ]
    handles += [Line2D([], [], label=name, **settings) for name, settings in (levels or {}).items()]
    part.legend(handles=handles, loc="outside lower left", ncols=_COLUMNS, columnspacing=1.2, handletextpad=0.4)


_COLUMNS = 4  # of a block's legend


def key_height(cells: pd.DataFrame) -> float:
    """Inches that the legend of a block takes."""
    return 0.17 * -(-cells["ensemble"].nunique() // _COLUMNS)
