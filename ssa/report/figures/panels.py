"""Panels of a figure: titling, filling and labelling them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from ssa.analysis.statistics import n_text, parent_means, t_interval
from ssa.report.figures.style import COLUMN, DIVERGED, THRESHOLD, WIDE, Style, blank
from ssa.report.selection import common_first
from ssa.study.methods import in_order, label

# Lines that are no methods: dark to light, told apart by marker too.
LINES = list(zip(("#332288", "#117733", "#999933", "#882255", "#AA4499"), "osD^v", strict=True))
RUNNING, REESTIMATED = "Test accuracy (%),\nrunning BatchNorm", "Test accuracy (%),\nBatchNorm re-estimated"
GAIN = "Minus one-shot (points)"
# What verdicts are judged by: the smallest difference that matters, what is called little, and the gain quoted at 98%.
SMALLEST, LITTLE, QUOTED = 0.2, 0.5, 4.0
QUOTED_AT = 98  # percent
# Where a number may stand beside its point, in typographic points.
SIDES = ((16, 0), (-16, 0), (0, 8), (0, -8), (16, 8), (16, -8), (-16, 8), (-16, -8))

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
        _title({key: row[key] for key in keys if key in told or row[key] != usual.get(key, row[key])}, part, width)
        for part, (_, row) in zip(parts, values.iterrows(), strict=True)
    ]


def _title(values: dict[str, Any], part: pd.DataFrame, width: int) -> str:
    # A line breaks between parts only: the spaces within one do not break.
    words = [*(WORDS.get(key, "{}").format(value) for key, value in values.items()), f"n = {n_of(part)}"]
    parts = [word.replace(" ", "\N{NO-BREAK SPACE}") for word in words]
    return textwrap.fill(", ".join(parts), width, break_on_hyphens=False)


def n_of(part: pd.DataFrame) -> str:
    """How many parents are behind the numbers of a panel, the least and the most: a table's n, or counted."""
    if "n" in part:
        return n_text(part["n"])
    return n_text(part.groupby(["method", "sparsity"])["parent_seed"].nunique())


def by_method(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(method, its rows) in the catalogue's order."""
    return [(name, frame[frame["method"] == name]) for name in in_order(frame["method"])]


def estimates(frame: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """One row per group of ``by``, sorted: ``mean``, ``low``, ``high`` and ``n`` of ``column`` over parents.

    ``diverged`` and ``reference`` say whether any child of the group is.
    """
    groups = frame.groupby(by)[["diverged", "reference"]].any().reset_index()
    # One pass over all groups: a call of over_parents for each takes most of a report's time.
    known = dict(iter(parent_means(frame, column, by).groupby(by)))
    found = [t_interval(known.get(at, ())) for at in groups[by].itertuples(index=False, name=None)]
    numbers = pd.DataFrame(
        [(one.mean, one.low, one.high, one.n) for one in found], columns=["mean", "low", "high", "n"]
    )
    return pd.concat([groups[by], numbers, groups[["diverged", "reference"]]], axis=1)


def columns_of(panels: int, most: int | None = None) -> int:
    """Columns that fill the fewest rows evenly: ``most`` of them, or 3 for up to six panels and 4 for more."""
    rows = -(-panels // (most or (3 if panels <= 6 else 4)))
    return -(-panels // rows)


def letters(columns: int) -> int:
    """Characters of a title that fit over one of ``columns`` panels."""
    return 80 // max(columns, 2)


def grid(panels: int, columns: int, height: float, alone: float = COLUMN) -> tuple[Figure, list[Axes]]:
    """A figure of ``panels`` axes in rows of ``columns``, each ``height`` inches tall; one column is ``alone`` wide."""
    rows = -(-panels // columns)
    figure = blank(WIDE if columns > 1 else alone, rows * height + 0.4)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def band(ax: Axes, x: Any, line: pd.DataFrame, style: Style, every: int = 1, face: str | None = None) -> None:
    """``line``'s mean as a line with a marker, filled with ``face``, at ``every``-th point; its low to high as a band.

    No band where a child diverged: it would be wider than the axes.
    """
    shown = line[["low", "high"]].mask(line["diverged"])
    ax.fill_between(x, shown["low"], shown["high"], color=style.colour, alpha=0.12, linewidth=0)
    look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.line}
    ax.plot(x, line["mean"], markerfacecolor=face or style.colour, markevery=every, **look)


def fit(ax: Axes, axis: str, estimates: pd.DataFrame, *levels: float) -> None:
    """Limits of ``axis`` ("x" or "y") that hold the ``low`` to ``high`` of ``estimates`` and ``levels``.

    Cells with a diverged child do not count while there are others: one collapsed child would flatten all else.
    """
    sound = estimates[~estimates["diverged"]] if not estimates["diverged"].all() else estimates
    values = np.append(sound[["low", "mean", "high"]].to_numpy().ravel(), levels)
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.05 * (high - low) or 1.0
    ax.set(**{f"{axis}lim": (low - margin, high + margin)})


def thresholds(ax: Axes, axis: str, *levels: float) -> None:
    """No difference and ``levels`` as lines across ``axis`` ("x" or "y"), within its limits."""
    low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
    margin = 0.05 * (high - low)
    ax.set(**{f"{axis}lim": (min(low, -margin), max(high, *(level + margin for level in levels)))})
    draw = ax.axvline if axis == "x" else ax.axhline
    draw(0, color="black", linewidth=0.8)
    for level in levels:
        draw(level, **THRESHOLD)


def judged_by(panel: pd.DataFrame) -> tuple[float, ...]:
    """The levels that differences in ``panel`` are judged by: the quoted one at the sparsity that it is quoted of."""
    return (SMALLEST, LITTLE, QUOTED) if (panel["sparsity"] == QUOTED_AT).any() else (SMALLEST, LITTLE)


def round_ticks(ax: Axes, axis: str, most: int = 6) -> None:
    """Ticks of ``axis`` at round numbers, three or more."""
    (ax.xaxis if axis == "x" else ax.yaxis).set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], min_n_ticks=3))


def same_limits(axes: list[Axes], axis: str = "y") -> None:
    """Panels that are compared have one scale: the widest limits of all."""
    limits = [ax.get_xlim() if axis == "x" else ax.get_ylim() for ax in axes]
    for ax in axes:
        ax.set(**{f"{axis}lim": (min(low for low, _ in limits), max(high for _, high in limits))})


def arrows(ax: Axes) -> None:
    """An arrow at the edge for each end of an error bar that lies beyond the axes."""
    for container in ax.containers:
        for bars in container.lines[2] if isinstance(container, ErrorbarContainer) else ():
            for segment in bars.get_segments():
                if len(segment) == 2:
                    _arrow(ax, bars, segment)


def _arrow(ax: Axes, bars: Any, segment: Any) -> None:
    upright = segment[0][0] == segment[1][0]
    low, high = sorted(ax.get_ylim() if upright else ax.get_xlim())
    along = 1 if upright else 0
    for end, beyond, marker in (
        (low, segment[:, along].min() < low, "v" if upright else "<"),
        (high, segment[:, along].max() > high, "^" if upright else ">"),
    ):
        if beyond:
            at = (segment[0][0], end) if upright else (end, segment[0][1])
            look: dict[str, Any] = {"color": bars.get_color()[0], "markersize": 3, "clip_on": False}
            ax.plot(*at, marker, transform=bars.get_transform(), **look)


def sparsity_axis(ax: Axes, sparsities: Iterable[float], named: bool) -> None:
    """Spaces sparsities (percent) by the logarithm of the weights that remain; the x data are 100 - sparsity.

    The weights that remain stand above; ``named``: with the axis's title.
    """
    places = [100 - sparsity for sparsity in sparsities]
    ax.set_xscale("log")
    ax.set_xlim(max(places) * 1.15, min(places) / 1.15)
    above = ax.secondary_xaxis("top")
    for one, texts in ((ax, [100 - place for place in places]), (above, places)):
        one.set_xticks(places, [f"{text:g}" for text in texts])
        one.xaxis.set_minor_locator(NullLocator())
    above.spines["top"].set_visible(True)
    if named:
        above.set_xlabel("Weights remaining (%)")


def ring(ax: Axes, x: float, y: float, text: str) -> None:
    """Mark a cell with a diverged child, within the axes or, with its value ``text``, at their edge."""
    ax.plot(*at_edge(ax, x, y, text), **DIVERGED, clip_on=False)


def beside(ax: Axes, i: int, count: int, aside: float = 4) -> Transform:
    """Data coordinates of the ``i``-th of ``count`` lines that stand side by side, ``aside`` points apart."""
    assert ax.figure is not None
    return ax.transData + ScaledTranslation((i - (count - 1) / 2) * aside / 72, 0, ax.figure.dpi_scale_trans)


def free_side(
    x: float, y: float, taken: list[tuple[float, float, float]], sides: tuple[tuple[int, int], ...] = SIDES
) -> tuple[int, int]:
    """The first of ``sides`` of the point (x, y) where a number overlaps nothing ``taken``, else the first.

    All in typographic points; ``taken``: centre and half-width of what is about 7 points high.
    """

    def overlaps(side: tuple[int, int]) -> bool:
        return any(abs(x + side[0] - at) < 10 + half and abs(y + side[1] - height) < 7 for at, height, half in taken)

    return next((side for side in sides if not overlaps(side)), sides[0])


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
