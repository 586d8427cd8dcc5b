"""Is a gain a matter of how sparsity is spread?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ssa.report.findings.finding import Finding
from ssa.report.findings.parts import estimate, parents, pruned_cells, same_seeds, triple
from ssa.report.selection import BASELINE, pruned
from ssa.results.children import CELL as EVERY
from ssa.results.children import differences_to, having, pairs
from ssa.study.methods import in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL = {"allocation": "layerwise", "stem": "pruned"}
CELL = [key for key in EVERY if key not in ("allocation", "stem")]

FINDING = Finding(
    question="Is a gain a matter of how sparsity is spread?",
    takes="children",
    answered=lambda plan: not differences_to(pruned(plan), BASELINE).empty,
    caption="Gain over one-shot, a row for each way to spread sparsity over layers.",
)


def table(children: pd.DataFrame) -> pd.DataFrame:
    """Each method's ``gain`` over one-shot by how sparsity is spread, and its ``change`` against :data:`USUAL`.

    ``effective``: percent of the prunable weights that are pruned or on no path from the input to the output, dead
    channels among them, of one-shot's masks.
    """
    rows = []
    for at, cells in pruned_cells(children[children["reference"]], CELL):
        base = cells[cells["method"] == BASELINE]
        for method in in_order(set(cells["method"]) - {BASELINE, "dense"}):
            gains = pairs(cells[cells["method"] == method], base)
            usual = having(gains, USUAL)
            for arm, part in pruned_cells(gains, list(USUAL)):
                same = having(base, arm)
                levels = {"one_shot": same["accuracy"].mean(), "effective": same["effective_sparsity"].mean()}
                change = {} if arm == USUAL else estimate("change", same_seeds(part, usual, "difference"))
                rows.append(
                    {**at, **arm, "method": method, **levels, **estimate("gain", part), **change, "n": parents(part)}
                )
    columns = [*CELL, *USUAL, "method", "one_shot", "effective"]
    return pd.DataFrame(rows, columns=[*columns, *triple("gain"), *triple("change"), "n"])


def figure(table: pd.DataFrame) -> Figure:
    """Gain over one-shot, a row for each way to spread sparsity, a panel for each method."""
    from ssa.report.figures import panels
    from ssa.report.findings import drawing

    arm = table["allocation"].where(table["stem"] == "pruned", "dense stem, " + table["allocation"])
    return drawing.rows(table.assign(arm=arm), [*CELL, "method"], "arm", panels.GAIN)
