"""The figures of ensembles: accuracy, cost, size and diversity; a block for each data set and model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator, NullLocator

from ssa.analysis.statistics import t_interval
from ssa.report.figures.ensemble_blocks import key, key_height, titled_blocks
from ssa.report.figures.panels import beside, free_side, round_ticks
from ssa.report.figures.style import LEVEL, Style
from ssa.report.tables.ensembles import cost_reference
from ssa.results.ensembles import by_name

MANY = 12  # members, beyond which those of most ensembles would crowd at one end of a linear axis


def ensemble_accuracy(ensembles: pd.DataFrame) -> Figure:
    """A row for each ensemble: its seeds, and their mean with its interval."""

    def height(cells: pd.DataFrame) -> float:
        return 0.55 + 0.17 * cells["ensemble"].nunique()

    def draw(part: SubFigure, cells: pd.DataFrame, drawn: dict[str, Style]) -> None:
        ax = part.subplots()
        names = list(drawn)
        for i, (name, mine) in enumerate(by_name(cells)):
            style = drawn[name]
            ax.plot(mine["accuracy"], [i + 0.22] * len(mine), ".", color=style.colour, alpha=0.45, markersize=3)
            _bar(ax, mine["accuracy"], i, style, "x")
        ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
        ax.set_xlabel("Test accuracy (%), running BatchNorm")
        ax.grid(visible=False, axis="y")

    return titled_blocks(ensembles, height, draw)


def ensemble_cost(ensembles: pd.DataFrame) -> Figure:
    """Accuracy and NLL against the masked FLOPs of training, with the Pareto front."""

    def draw(part: SubFigure, cells: pd.DataFrame, drawn: dict[str, Style]) -> None:
        means, unit = (
            cells.groupby("ensemble", sort=False)[["masked_flops", "accuracy", "nll"]].mean(),
            cost_reference(cells),
        )
        cost = means["masked_flops"] / unit["dense_flops"]
        for ax, (column, text, best) in zip(part.subplots(1, 2), _WORTH, strict=True):
            front = pareto(cost, best * means[column])
            x, y = [*cost[front], cost.max()], [*means.loc[front, column], means.loc[front[-1], column]]
            ax.plot(x, y, drawstyle="steps-post", zorder=1, **LEVEL)
            for name, mine in by_name(cells):
                equal = list(cost.index[cost.round(3) == round(cost[name], 3)])
                place = beside(ax, equal.index(name), len(equal))
                _bar(ax, mine[column], cost[name], drawn[name], "y", transform=place)
            ax.set(xlabel=f"Masked FLOPs of training\n(dense training of {unit['ensemble']}: 1)", ylabel=text)
            ax.margins(x=0.1)
            round_ticks(ax, "x", 4)
            if cost.max() > 2 * cost.min():
                _doubling(ax, cost)
        key(part, drawn, drawn, {"Pareto front": LEVEL})

    return titled_blocks(ensembles, lambda cells: 2.3 + key_height(cells), draw)


def ensemble_size(ensembles: pd.DataFrame, sizes: pd.DataFrame) -> Figure | None:
    """Accuracy and NLL against how many members are combined, for ensembles of several."""
    primary = sizes[sizes["convention"] == "probabilities"]
    grown = primary[primary.groupby("ensemble_id")["size"].transform("max") > 1]
    if grown.empty:
        return None

    def draw(part: SubFigure, cells: pd.DataFrame, drawn: dict[str, Style]) -> None:
        for ax, (column, text, _) in zip(part.subplots(1, 2), _WORTH, strict=True):
            for name, mine in by_name(cells):
                line = pd.DataFrame({size: vars(t_interval(at[column])) for size, at in mine.groupby("size")}).T
                style = drawn[name]
                low, high = line[["low", "high"]].astype(float).to_numpy().T
                ax.fill_between(line.index, low, high, color=style.colour, alpha=0.1, linewidth=0)
                ax.plot(line.index, line["mean"], color=style.colour, marker=style.marker)
            ax.set(xlabel="Members or samples", ylabel=text)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            if cells["size"].max() > MANY:
                _doubling(ax, cells["size"])
        key(part, drawn, cells["ensemble"].unique())

    return titled_blocks(grown, lambda cells: 2.3 + key_height(cells), draw, ensembles)


def ensemble_diversity(ensembles: pd.DataFrame) -> Figure | None:
    """Accuracy of the members against their disagreement, for ensembles of several."""
    several = ensembles.dropna(subset="disagreement")
    if several.empty:
        return None

    def draw(part: SubFigure, cells: pd.DataFrame, drawn: dict[str, Style]) -> None:
        ax = part.subplots()
        columns = ["disagreement", "member_accuracy", "accuracy"]
        means = cells.groupby("ensemble", sort=False)[columns].mean()
        for name, row in means.iterrows():
            style = drawn[str(name)]
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": ""}
            mine = cells[cells["ensemble"] == name]
            ax.plot(mine["disagreement"], mine["member_accuracy"], **look, markersize=2, alpha=0.5)
            ax.plot(row["disagreement"], row["member_accuracy"], **look)
        ax.set(xlabel="Disagreement", ylabel="Members' accuracy (%),\nrunning BatchNorm")
        ax.margins(0.12)
        numbered.append((ax, means))
        key(part, drawn, means.index)

    numbered: list[tuple[Axes, pd.DataFrame]] = []
    figure = titled_blocks(several, lambda cells: 2.6 + key_height(cells), draw, ensembles)
    figure.draw_without_rendering()  # places the axes, on which it depends what would overlap
    for ax, means in numbered:
        _numbers(ax, means, figure.dpi / 72)
    return figure


def pareto(cost: pd.Series, worth: pd.Series) -> list[Any]:
    """The labels of those that nothing as cheap or cheaper is worth more than, by rising cost."""
    ranked = pd.DataFrame({"cost": cost, "worth": worth}).sort_values(["cost", "worth"], ascending=[True, False])
    return list(ranked.index[ranked["worth"] > ranked["worth"].cummax().shift(fill_value=-np.inf)])


_WORTH = (("accuracy", "Test accuracy (%),\nrunning BatchNorm", 1), ("nll", "NLL", -1))


def _bar(ax: Axes, values: pd.Series, at: float, style: Style, along: str, **more: Any) -> None:
    """The mean of ``values`` with its interval along the axis ``along``, ``at`` on the other."""
    interval = t_interval(values)
    half = 0.0 if np.isnan(interval.half_width) else interval.half_width
    look: Any = {"color": style.colour, "marker": style.marker, "linewidth": 1.0, **more}
    if along == "x":
        ax.errorbar(interval.mean, at, xerr=half, **look)
    else:
        ax.errorbar(at, interval.mean, yerr=half, **look)
        ax.update_datalim([(at, interval.mean - half), (at, interval.mean + half)])  # not done for what stands aside


def _doubling(ax: Axes, values: pd.Series) -> None:
    """A logarithmic axis for ``values``, ticked at powers of two."""
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    powers = 2.0 ** np.arange(np.floor(np.log2(values.min())), np.ceil(np.log2(values.max())) + 1)
    low, high = ax.get_xlim()
    ticks = [power for power in powers if low <= power <= high]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _numbers(ax: Axes, means: pd.DataFrame, scale: float) -> None:
    """The ensembles' accuracy beside their points, on the first side where nothing else stands.

    ``scale``: pixels in a typographic point.
    """
    at = means[["disagreement", "member_accuracy"]].to_numpy()
    points = ax.transData.transform(at) / scale
    taken = [(x, y, 3.0) for x, y in points]  # centre and half-width; all are about 7 points high
    for (x, y), (left, low), accuracy in zip(points, at, means["accuracy"], strict=True):
        offset = free_side(x, y, taken)
        taken.append((x + offset[0], y + offset[1], 10.0))
        text: Any = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 7}
        ax.annotate(f"{accuracy:.2f}", (left, low), offset, **text).set_in_layout(False)
