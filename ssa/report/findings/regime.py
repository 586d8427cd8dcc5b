"""Where does the effect live?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from ssa.report.findings.finding import Finding, paired_with
from ssa.report.findings.parts import estimate, parents, pruned_cells, triple
from ssa.report.selection import BASELINE, SSA
from ssa.results.children import CELL as EVERY
from ssa.results.children import pairs
from ssa.results.planned import Planned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = ["train_images", *(key for key in EVERY if key != "parent")]


def _counted(plan: Planned) -> bool:
    """Whether SSA is paired with one-shot among children whose number of training images is known."""
    return paired_with(SSA, BASELINE)(replace(plan, children=plan.children.dropna(subset="train_images")))


FINDING = Finding(
    question="Where does the effect live?",
    takes="children",
    answered=_counted,
    caption="SSA's gain over one-shot against training images, by the number of epochs.",
)


def table(children: pd.DataFrame) -> pd.DataFrame:
    """SSA's ``gain`` over one-shot by training images and epochs, with one-shot's accuracies in test and training.

    Children of folders of images whose study does not say how many it trains on are left out.
    """
    rows = []
    for at, cells in pruned_cells(children[children["reference"]], CELL):
        base = cells[cells["method"] == BASELINE]
        gain = pairs(cells[cells["method"] == SSA], base)
        if gain.empty:
            continue
        levels = {"one_shot": base["accuracy"].mean(), "one_shot_train": base["train_accuracy_clean"].mean()}
        rows.append({**at, **levels, **estimate("gain", gain), "n": parents(gain)})
    columns = [*CELL, "one_shot", "one_shot_train", *triple("gain"), "n"]
    return pd.DataFrame(rows, columns=columns)


def figure(table: pd.DataFrame) -> Figure:
    """Gain against training images, a line for each number of epochs."""
    from ssa.report.findings import drawing

    keys = [key for key in CELL if key not in ("train_images", "epochs")]
    return drawing.lines(table, keys, "epochs", "{:g} epochs", "train_images", "Training images", log=True)
