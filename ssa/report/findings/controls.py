"""Noise, gradual change, or what pruned weights learn?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ssa.report.findings.finding import Finding, runs_one_of
from ssa.report.findings.parts import estimate, parents, pruned_cells, triple
from ssa.report.selection import BASELINE, SSA
from ssa.results.children import CELL, pairs
from ssa.study.methods import CONTROLS, in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FINDING = Finding(
    question="Noise, gradual change, or what pruned weights learn?",
    takes="children",
    answered=runs_one_of(*CONTROLS),
    caption="Gain over one-shot, a row for each method.",
    reading="A control is SSA with one part taken out.",
)


def table(children: pd.DataFrame) -> pd.DataFrame:
    """Each method's ``gain`` over one-shot, and SSA's ``lead`` over it, in the cells where a control was run."""
    rows = []
    for at, cells in pruned_cells(children[children["reference"]], CELL):
        if not set(cells["method"]) & set(CONTROLS):
            continue
        base, ssa = (cells[cells["method"] == name] for name in (BASELINE, SSA))
        for method in in_order(set(cells["method"]) - {BASELINE}):
            own = cells[cells["method"] == method]
            gain = pairs(own, base)
            lead = {} if method == SSA else estimate("lead", pairs(ssa, own))
            rows.append({**at, "method": method, **estimate("gain", gain), **lead, "n": parents(gain)})
    columns = [*CELL, "method", *triple("gain"), *triple("lead"), "n"]
    return pd.DataFrame(rows, columns=columns)


def figure(table: pd.DataFrame) -> Figure:
    """Gain over one-shot, a row for each method."""
    from ssa.report.figures import panels
    from ssa.report.findings import drawing

    return drawing.rows(table, CELL, "method", panels.GAIN)
