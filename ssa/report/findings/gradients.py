"""How noisy are gradients while masks are annealed?"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ssa.report.findings.finding import Finding
from ssa.report.findings.parts import estimate, parents, pruned_cells, same_seeds, triple
from ssa.report.selection import SSA, pruned, split
from ssa.results.children import CELL
from ssa.study.methods import in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FINDING = Finding(
    question="How noisy are gradients while masks are annealed?",
    takes="epochs",
    answered=lambda plan: bool((pruned(plan)["gradient_batches"] > 0).any()),
    caption="How much the gradient of a step varies along training.",
    reading=(
        "From left to right: its variance; that as a share of its square; the share of it that sampled masks make. All "
        "are estimates: the variance divides by one less than the number of batches, so where nearly all is noise it "
        "may exceed the square."
    ),
)


def table(epochs: pd.DataFrame) -> pd.DataFrame:
    """How the gradient of a training step varies, by method and ``epoch`` (:mod:`ssa.training.gradients`).

    ``variance``: log10 of the trace of its covariance. ``noise``: that trace as percent of the mean squared norm.
    ``masks``: percent of it that sampled masks make. ``lead``: SSA's ``variance`` minus the method's, paired.
    ``epochs``: children with a row for each epoch. Where nothing was measured there are no rows.
    """
    columns = [*CELL, "method", "epoch", *triple("variance"), *triple("noise"), *triple("masks")]
    columns += [*triple("lead"), "n"]
    if "gradient_variance" not in epochs:
        return pd.DataFrame(columns=columns)
    seen = epochs[epochs["reference"] & (epochs["gradient_variance"] > 0)]
    seen = seen.assign(
        variance=np.log10(seen["gradient_variance"]),
        noise=100 * seen["gradient_variance"] / seen["gradient_square"],
        masks=100 * seen["gradient_mask_variance"] / seen["gradient_variance"],
    )
    rows = []
    for at, cells in pruned_cells(seen, [*CELL, "epoch"]):
        ssa = cells[cells["method"] == SSA]
        for method in in_order(set(cells["method"])):
            own = cells[cells["method"] == method]
            lead = {} if method == SSA else estimate("lead", same_seeds(ssa, own, "variance"))
            levels = [estimate(name, own, name) for name in ("variance", "noise", "masks")]
            numbers = {key: value for level in (*levels, lead) for key, value in level.items()}
            rows.append({**at, "method": method, **numbers, "n": parents(own)})
    return pd.DataFrame(rows, columns=columns)


def figure(table: pd.DataFrame) -> Figure:
    """Variance of the gradient, its part of the gradient's square, and the masks' part of it, along training."""
    from ssa.report.figures import panels
    from ssa.report.figures.style import styles
    from ssa.report.findings import drawing

    cells = split(table, CELL)
    figure, axes = panels.grid(3 * len(cells), columns=3, height=2.2)
    drawn = styles(table["method"])
    measures = {
        "variance": "log10 of the variance\nof a step's gradient",
        "noise": "Variance\n(% of the gradient's square)",
        "masks": "Part of the variance\nthat masks make (%)",
    }
    named = zip(cells, panels.titles(cells, CELL, panels.letters(3)), strict=True)
    for ax, ((cell, title), (column, what)) in zip(axes, itertools.product(named, measures.items()), strict=True):
        ax.set_title(title)
        ax.set_ylabel(what)
        for method in in_order(cell["method"]):
            line, style = cell[cell["method"] == method], drawn[method]
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.line}
            ax.errorbar(line["epoch"], line[column], drawing.errors(line, column), elinewidth=0.6, **look)
    for ax in axes[-3:]:
        ax.set_xlabel("Epoch")
    panels.legend(figure, drawn, in_order(table["method"]))
    return figure
