"""How does the best length of annealing move?"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pandas as pd

from ssa.report.findings.finding import Finding
from ssa.report.findings.parts import estimate, parents, pruned_cells, triple
from ssa.report.selection import BASELINE, SSA
from ssa.results.children import CELL, best, having, pairs
from ssa.results.planned import Planned

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _several(plan: Planned) -> bool:
    """Whether SSA's length alone varies within a cell."""
    for _, cells in pruned_cells(plan.children[plan.children["method"] == SSA], CELL):
        fixed = cells.loc[cells["reference"], ["tau", "anneal_schedule"]].to_dict("records")
        if fixed and having(cells, fixed[0])["anneal_epochs"].nunique() > 1:
            return True
    return False


FINDING = Finding(
    question="How does the best length of annealing move?",
    takes="children",
    answered=_several,
    caption="SSA's gain over one-shot against the share e / E of fine-tuning that is annealed.",
    reading="Filled: the share that validation images chose.",
)


def table(children: pd.DataFrame) -> pd.DataFrame:
    """SSA's ``gain`` over one-shot by the share e/E of fine-tuning that is annealed, and which share is ``best``.

    Of children with the tau and the schedule of those that stand for SSA. ``best``: highest mean validation accuracy.
    ``behind``: test accuracy minus that of the best share, paired.
    """
    rows = []
    for at, cells in pruned_cells(children, CELL):
        ssa = cells[cells["method"] == SSA]
        standing = ssa.loc[ssa["reference"], ["tau", "anneal_schedule"]].to_dict("records")
        ssa = having(ssa, standing[0]) if standing else ssa[:0]
        if ssa["anneal_epochs"].nunique() < 2:
            continue
        chosen = best(ssa, "anneal_epochs")
        top = ssa[ssa["anneal_epochs"] == chosen]
        for e, part in ssa.groupby("anneal_epochs"):
            gain = pairs(part, cells[cells["method"] == BASELINE])
            behind = {} if e == chosen else estimate("behind", pairs(part, top))
            share = {"share": cast(float, e) / at["epochs"], "best": e == chosen}
            rows.append({**at, **share, **estimate("gain", gain), **behind, "n": parents(gain)})
    columns = [*CELL, "share", "best", *triple("gain"), *triple("behind"), "n"]
    return pd.DataFrame(rows, columns=columns)


def figure(table: pd.DataFrame) -> Figure:
    """Gain against the share of fine-tuning that is annealed, a line for each sparsity; the best share is filled."""
    from ssa.report.findings import drawing

    return drawing.lines(table, [key for key in CELL if key != "sparsity"], "sparsity", "{:g}%", "share", "e / E")
