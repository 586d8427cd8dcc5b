"""Does it depend on how weights are chosen?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ssa.report.findings.finding import Finding, paired_with
from ssa.report.findings.parts import estimate, parents, pruned_cells, triple
from ssa.report.selection import SSA, split
from ssa.results.children import CELL, pairs
from ssa.study.methods import in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIVALS = ("one-shot", "iterative", "random")

FINDING = Finding(
    question="Does it depend on how weights are chosen?",
    takes="children",
    answered=paired_with(SSA, *RIVALS),
    caption="SSA's lead over each other method, by sparsity and kind of mask.",
)


def table(children: pd.DataFrame) -> pd.DataFrame:
    """SSA's ``lead`` over each of :data:`RIVALS`, in every cell of the study."""
    rows = []
    for at, cells in pruned_cells(children[children["reference"]], CELL):
        ssa = cells[cells["method"] == SSA]
        for method in in_order(set(cells["method"]) & set(RIVALS)):
            lead = pairs(ssa, cells[cells["method"] == method])
            if not lead.empty:
                rows.append({**at, "method": method, **estimate("lead", lead), "n": parents(lead)})
    return pd.DataFrame(rows, columns=[*CELL, "method", *triple("lead"), "n"])


def figure(table: pd.DataFrame) -> Figure:
    """Temperature annealing's lead against sparsity, a line for each method that it is compared with."""
    from ssa.report.figures import panels
    from ssa.report.figures.style import styles
    from ssa.report.findings import drawing

    keys = [key for key in CELL if key != "sparsity"]
    parts = split(table, keys)
    columns = panels.columns_of(len(parts))
    figure, axes = panels.grid(len(parts), columns, height=2.1)
    drawn = styles(table["method"])
    for ax, panel, title in zip(axes, parts, panels.titles(parts, keys, panels.letters(columns)), strict=True):
        ax.set_title(title)
        panels.sparsity_axis(ax, sorted(panel["sparsity"].unique()), named=True)
        methods = in_order(panel["method"])
        for i, method in enumerate(methods):
            line, style = panel[panel["method"] == method], drawn[method]
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.line}
            look["transform"] = panels.beside(ax, i, len(methods))
            ax.errorbar(100 - line["sparsity"], line["lead"], drawing.errors(line, "lead"), elinewidth=0.6, **look)
        drawing.limit(ax, "y", panel, "lead")
        panels.thresholds(ax, "y", panels.SMALLEST, panels.LITTLE)
    drawing.finish(axes, "y")
    panels.outer_labels(figure, "Sparsity (%)", "SSA temperature minus\nanother (points)")
    panels.legend(figure, drawn, in_order(table["method"]))
    return figure
