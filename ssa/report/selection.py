"""Which children a figure is about, and in which panels: asked of plans, before there are results, and of records."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ssa.results.children import differences_to
from ssa.results.planned import Planned
from ssa.study.methods import CATALOGUE, natural

SSA, BASELINE = "temperature", "one-shot"
# The methods that are compared at every sparsity; variants and controls have their place in the forest plot.
MAIN = ("one-shot", "iterative", "random", "temperature")
ARM = ["parent", "augment", "structure", "allocation", "stem", "lr_schedule"]
# The columns that tell panels apart; ordering panels by them keeps an arm's together.
PANEL = ["parent", "augment", "lr_schedule", "lr", "epochs", "stem", "structure", "allocation", "criterion"]
CELL = [*PANEL, "sparsity"]


def pruned(plan: Planned) -> pd.DataFrame:
    """The pruned children at the fixed setting."""
    children = plan.children
    return children[children["reference"] & (children["sparsity"] > 0)]


def usual_recipe(children: pd.DataFrame) -> pd.DataFrame:
    """The children at each arm's most common epochs and learning rate: sweeps of the two are left to the tables."""
    count = children.groupby([*ARM, "epochs", "lr"])["child_id"].transform("size")
    most = count.groupby([children[key] for key in ARM]).transform("max")
    return children[count == most]


def of_main(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the main methods and of the user's own, at the study's fixed setting."""
    spoken = frame["method"].isin(MAIN) | ~frame["method"].isin(list(CATALOGUE))
    return frame[frame["reference"] & spoken]


def over_sparsity(children: pd.DataFrame) -> list[pd.DataFrame]:
    """The main methods by arm and criterion, where they were run at two sparsities or more."""
    return [panel for panel in split(of_main(children), PANEL) if panel["sparsity"].nunique() > 1]


def swept(children: pd.DataFrame) -> list[pd.DataFrame]:
    """Paired differences to one-shot by cell and method, where tau or the length of annealing varies."""
    paired = differences_to(children, BASELINE).dropna(subset=["tau", "anneal_epochs"])
    paired = paired.fillna({"anneal_schedule": "no"})  # a constant tau
    return [row for row in split(paired, [*CELL, "method"]) if not row["reference"].all()]


def compared(children: pd.DataFrame) -> list[pd.DataFrame]:
    """Paired differences to one-shot at the fixed setting, by arm and criterion: the longest first.

    So short columns of the forest plot share a row of the figure.
    """
    paired = differences_to(children[children["reference"]], BASELINE)
    panels = split(paired[paired["method"] != "dense"], PANEL)
    return sorted(panels, key=lambda panel: -len(panel[["sparsity", "method"]].drop_duplicates()))


def gradual(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods that keep pruned weights while they train, at the fixed setting."""
    return frame[frame["reference"] & ~frame["method"].isin(["dense", BASELINE])]


def split(frame: pd.DataFrame, keys: list[str]) -> list[pd.DataFrame]:
    """``frame`` by the values of ``keys``: numbers ascending, the most common word first."""
    ranks = {key: {value: i for i, value in enumerate(_order(frame[key]))} for key in keys}
    parts = [part for _, part in frame.groupby(keys)]
    return sorted(parts, key=lambda part: [ranks[key][part[key].iloc[0]] for key in keys])


def common_first(values: pd.Series) -> list[Any]:
    """The values of a column, the most common first, equally common ones sorted."""
    count = values.value_counts()
    return sorted(count.index, key=lambda value: (-count[value], natural(value)))


def _order(values: pd.Series) -> list[Any]:
    return sorted(values.unique()) if pd.api.types.is_numeric_dtype(values) else common_first(values)
