"""Does it survive against baselines tuned as hard?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ssa.report.findings.finding import Finding
from ssa.report.findings.parts import estimate, parents, pruned_cells, same_seeds, triple
from ssa.report.selection import BASELINE, SSA, pruned, split
from ssa.results.children import CELL as EVERY
from ssa.results.children import best, having
from ssa.study.methods import label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPREAD = 8  # points over which methods stand beside one rate
CELL = [key for key in EVERY if key not in ("lr_schedule", "lr")]

FINDING = Finding(
    question="Does it survive against baselines tuned as hard?",
    takes="children",
    answered=lambda plan: not pruned(plan).empty,
    caption="Test accuracy against the peak learning rate.",
    reading="Filled: the rate that validation images chose; half filled: a rewound rate.",
)


def table(children: pd.DataFrame) -> pd.DataFrame:
    """Test ``accuracy`` of each method and schedule at each peak rate, and its ``gain`` over the tuned one-shot.

    ``chosen``: the rate at which the method's mean validation accuracy is highest. It is chosen for each method, on all
    parents, and for one-shot in the same way. ``lead``: of the tuned SSA over each other method that is tuned too.
    """
    rows = []
    for at, cells in pruned_cells(children[children["reference"]], CELL):
        base, ssa = (_tuned(having(cells, {"method": name, "lr_schedule": "one-cycle"})) for name in (BASELINE, SSA))
        for (method, schedule), tuned in cells.groupby(["method", "lr_schedule"]):
            chosen = best(tuned, "lr")
            for lr, part in tuned.groupby("lr"):
                head = {**at, "method": method, "lr_schedule": schedule, "lr": lr, "chosen": lr == chosen}
                validation = {"validation": part["validation_accuracy"].mean()}
                numbers = {**estimate("accuracy", part, "accuracy"), **estimate("gain", same_seeds(part, base))}
                own = (method, schedule) == (SSA, "one-cycle")
                lead = estimate("lead", same_seeds(ssa, part)) if lr == chosen and not own else {}
                rows.append({**head, **validation, **numbers, **lead, "n": parents(part)})
    columns = [*CELL, "method", "lr_schedule", "lr", "chosen", "validation"]
    return pd.DataFrame(rows, columns=[*columns, *triple("accuracy"), *triple("gain"), *triple("lead"), "n"])


def _tuned(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of ``rows`` at the best rate."""
    return rows[rows["lr"] == best(rows, "lr")]


def figure(table: pd.DataFrame) -> Figure:
    """Test accuracy against the peak rate, a line for each method; the chosen rate is filled."""
    from ssa.report.figures import panels
    from ssa.report.figures.style import WIDE, styles
    from ssa.report.findings import drawing

    parts = split(table, CELL)
    columns = panels.columns_of(len(parts), most=2)
    figure, axes = panels.grid(len(parts), columns, height=2.6, alone=WIDE)
    drawn = styles(table["method"])
    for ax, panel, title in zip(axes, parts, panels.titles(parts, CELL, panels.letters(columns)), strict=True):
        ax.set_title(title)
        lines = list(panel.groupby(["method", "lr_schedule"], sort=False))
        for i, ((method, schedule), line) in enumerate(lines):
            style, swept = drawn[str(method)], schedule == "one-cycle"
            name = label(str(method)) + ("" if swept else f", {schedule} rate")
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markerfacecoloralt": "white"}
            look["fillstyle"] = "full" if swept else "left"
            look["transform"] = panels.beside(ax, i, len(lines), SPREAD / len(lines))
            bars: dict[str, Any] = {
                "label": name,
                "elinewidth": 0.6,
                "markerfacecolor": "white" if swept else style.colour,
                "linestyle": style.line,
            }
            ax.errorbar(line["lr"], line["accuracy"], drawing.errors(line, "accuracy"), **bars, **look)
            chosen = line[line["chosen"]]
            ax.plot(chosen["lr"], chosen["accuracy"], linestyle="", zorder=3, **look)
        drawing.limit(ax, "y", panel, "accuracy", panel["accuracy"].mean())
        drawing.ticks_at(ax, panel["lr"], log=True)
    drawing.finish(axes, "y")
    panels.outer_labels(figure, "Peak learning rate", panels.RUNNING)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure
