"""Is the calibration of SSA's ensembles more than a temperature would give?"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ssa.report.findings.finding import Finding
from ssa.report.findings.parts import bounds, triple
from ssa.report.selection import SSA
from ssa.results.ensembles import by_name, groups, paired
from ssa.results.planned import Planned
from ssa.study.methods import ANNEALED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = ("nll", "nll_scaled", "ece", "ece_scaled")
CELL = ["dataset", "model"]


def _validated(plan: Planned) -> bool:
    """Whether SSA's ensembles and others that are not annealed have validation images, on one data set and model."""
    if plan.ensembles.empty:
        return False
    rows = plan.ensembles[plan.ensembles["validated"]]
    cells = [part["tuning"] for _, part in rows.groupby(CELL)]
    return any((tuning == SSA).any() and (~tuning.isin(ANNEALED)).any() for tuning in cells)


FINDING = Finding(
    question="Is the calibration of SSA's ensembles more than a temperature would give?",
    takes="ensembles",
    answered=_validated,
    caption="Gains of SSA's ensembles in NLL and ECE over other ensembles.",
    reading="Filled: as they are; open: temperature-scaled. Right of zero: SSA's is lower.",
)


def table(ensembles: pd.DataFrame | None) -> pd.DataFrame:
    """Gains of SSA's ensembles over others in NLL (nats) and ECE (points), as they are and temperature-scaled.

    The others: all that are not annealed. Above 0 where SSA's is lower; paired by seed, ``n`` seeds. ``_scaled``: each
    divided by the one temperature that suits its validation images best. Ensembles are those of
    :func:`ssa.results.ensembles.read_ensembles`; None for a study without any.
    """
    from ssa.analysis.statistics import t_interval

    rows = []
    scaled = () if ensembles is None else groups(ensembles[ensembles["nll_scaled"].notna()])
    for dataset, model, cells in scaled:
        ours = [name for name, mine in by_name(cells) if mine["tuning"].iloc[0] == SSA]
        others = [name for name, one in by_name(cells) if one["tuning"].iloc[0] not in ANNEALED]
        for name, other in itertools.product(ours, others):
            row: dict[str, Any] = {"dataset": dataset, "model": model, "ensemble": name, "other": other}
            for column in SCORES:
                gain = t_interval(-paired(cells, name, other, column))  # lower is better
                row |= {**bounds(column, gain), "n": gain.n}
            rows.append(row)
    numbers = [number for column in SCORES for number in triple(column)]
    return pd.DataFrame(rows, columns=[*CELL, "ensemble", "other", *numbers, "n"])


def figure(table: pd.DataFrame) -> Figure:
    """Gains in NLL and ECE over each other ensemble, as they are (filled) and temperature-scaled (open)."""
    from ssa.analysis.statistics import n_text
    from ssa.report.figures import panels
    from ssa.report.findings import drawing

    parts = [part for _, part in table.groupby([*CELL, "ensemble"], sort=False)]
    longest = max(len(panel) for panel in parts)
    figure, axes = panels.grid(2 * len(parts), 2, height=0.95 + 0.22 * longest)
    units = {"nll": "Gain in NLL (nats)", "ece": "Gain in ECE (points)"}
    for ax, (panel, (key, unit)) in zip(axes, itertools.product(parts, units.items()), strict=True):
        first = panel.iloc[0]
        what = f"{first['dataset']}, {first['model']}:\n{first['ensemble']}"
        ax.set_title(f"{what}, n = {n_text(panel['n'])} seeds")
        ax.axvline(0, color="black", linewidth=0.6)
        places = np.arange(len(panel))
        for aside, end, face, words in (
            (-0.12, "", drawing.COLOUR, "as they are"),
            (0.12, "_scaled", "white", "scaled"),
        ):
            errors = drawing.errors(panel, f"{key}{end}")
            look: dict[str, Any] = {"fmt": "o", "color": drawing.COLOUR, "markerfacecolor": face, "label": words}
            ax.errorbar(panel[f"{key}{end}"], places + aside, xerr=errors, elinewidth=0.6, **look)
        ax.set_ylim(len(panel) - 0.5, -0.5)
        ax.set_yticks(places, panel["other"] if key == "nll" else [""] * len(panel))
        ax.set_xlabel(unit)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure
