"""Optimisation or regularisation?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ssa.report.findings.finding import Finding, runs_one_of
from ssa.report.findings.parts import estimate, parents, pruned_cells, triple
from ssa.report.selection import BASELINE, SSA, split
from ssa.results.children import CELL as EVERY
from ssa.results.children import pairs
from ssa.study.methods import in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = [key for key in EVERY if key != "sparsity"]

FINDING = Finding(
    question="Optimisation or regularisation?",
    takes="children",
    answered=runs_one_of("iterative", "random", SSA),
    caption="Gain in test accuracy over one-shot against the difference in clean training loss.",
    reading="Lines run up to the sparsity that is written.",
)


def table(children: pd.DataFrame) -> pd.DataFrame:
    """Each method's difference to one-shot in clean training ``loss`` (nats) and in test accuracy (``gain``).

    By sparsity, then over all of them (``sparsity`` is empty): one parent's cells are averaged first.
    """
    rows = []
    for at, cells in pruned_cells(children[children["reference"]], CELL):
        base = cells[cells["method"] == BASELINE]
        for method in in_order(set(cells["method"]) & {"iterative", "random", SSA}):
            own = cells[cells["method"] == method]
            gain, loss = pairs(own, base), pairs(own, base, "train_loss_clean")
            for sparsity in (*sorted(own["sparsity"].unique()), None):
                here = [part if sparsity is None else part[part["sparsity"] == sparsity] for part in (gain, loss)]
                numbers = {**estimate("loss", here[1]), **estimate("gain", here[0]), "n": parents(here[0])}
                rows.append({**at, "method": method, "sparsity": sparsity, **numbers})
    columns = [*CELL, "method", "sparsity", *triple("loss"), *triple("gain"), "n"]
    return pd.DataFrame(rows, columns=columns)


def figure(table: pd.DataFrame) -> Figure:
    """Gain in test accuracy against the difference in clean training loss, by method; lines run up to a sparsity."""
    from ssa.report.figures import panels
    from ssa.report.figures.style import styles
    from ssa.report.findings import drawing

    cells = table.dropna(subset="sparsity")
    parts = split(cells, CELL)
    drawn = styles(cells["method"])
    columns = panels.columns_of(len(parts))
    figure, axes = panels.grid(len(parts), columns, height=2.4)
    for ax, panel, title in zip(axes, parts, panels.titles(parts, CELL, panels.letters(columns)), strict=True):
        ax.set_title(title)
        ax.axvline(0, color="black", linewidth=0.6)
        for method in in_order(panel["method"]):
            line, style = panel[panel["method"] == method].sort_values("sparsity"), drawn[method]
            look: dict[str, Any] = {"marker": style.marker, "color": style.colour, "linewidth": 0.6, "elinewidth": 0.6}
            ax.errorbar(
                line["loss"],
                line["gain"],
                drawing.errors(line, "gain"),
                drawing.errors(line, "loss"),
                linestyle=":",
                **look,
            )
        drawing.limit(ax, "x", panel, "loss")
        drawing.limit(ax, "y", panel, "gain")
        panels.thresholds(ax, "y", *panels.judged_by(panel))
        panels.round_ticks(ax, "x", 4)
    drawing.finish(axes, "y")
    panels.outer_labels(figure, "Clean training loss\nminus one-shot (nats)", panels.GAIN)
    panels.legend(figure, drawn, in_order(cells["method"]))
    figure.draw_without_rendering()  # places the axes, on which it depends where a number is free of marks
    for ax, panel in zip(axes, parts, strict=True):
        _highest(ax, panel, figure.dpi / 72)
    return figure


def _highest(ax: Axes, panel: pd.DataFrame, scale: float) -> None:
    """The sparsity at which lines end, beside the outermost of their ends; ``scale``: pixels in a typographic point."""
    from ssa.report.figures import panels

    points = ax.transData.transform(panel[["loss", "gain"]].to_numpy()) / scale
    ends = (panel["sparsity"] == panel["sparsity"].max()).to_numpy()
    outermost = int(np.argmax(np.where(ends, np.hypot(*(points - points.mean(axis=0)).T), -1)))
    end = panel.iloc[outermost]
    taken = [(x, y, 3.0) for x, y in points]
    x, y = points[outermost]
    offset = panels.free_side(x, y, taken, panels.SIDES[::-1])  # errors reach out level and upright
    text: Any = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 7}
    ax.annotate(f"{end['sparsity']:g}%", (end["loss"], end["gain"]), offset, **text).set_in_layout(False)
