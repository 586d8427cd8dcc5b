"""The children before a claim: its arms, their cells, and the children of one method at its reference setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ssa.analysis.claims.comparison import UntestableError
from ssa.study.methods import label, natural


@dataclass(frozen=True)
class Case:
    """A claim before one arm's children, or its ensembles: its settings, and the numbers that every rule shares.

    ``spread``: how the children's sparsity is spread over layers, in words, if the arm has others too. ``rates``:
    the peak rate that the claim looks at by learning-rate schedule, if the arm has several.
    """

    settings: Mapping[str, Any]
    ssa: Mapping[str, Any]
    children: pd.DataFrame
    history: pd.DataFrame
    smallest: float
    confidence: float
    ensembles: pd.DataFrame | None = None
    spread: str = ""
    rates: Mapping[str, float] = field(default_factory=dict)


def at_reference(cell: pd.DataFrame, method: str) -> pd.DataFrame:
    """The children of ``method`` at its reference setting; ``UntestableError`` for none, or for mixed recipes."""
    refuse_mixture(cell)
    rows = cell[(cell["method"] == method) & cell["reference"]]
    if rows.empty:
        raise UntestableError(f"no children of {label(method)}")
    return rows


def lengths(case: Case, cell: pd.DataFrame) -> pd.DataFrame:
    """SSA's children in ``cell`` that differ from its reference setting in the length of annealing at most."""
    refuse_mixture(cell)
    tau = cell["tau"].isna() | (cell["tau"] == case.ssa["tau"])
    schedule = cell["anneal_schedule"].isna() | (cell["anneal_schedule"] == case.ssa["anneal_schedule"])
    return cell[(cell["method"] == case.ssa["method"]) & tau & schedule]


def refuse_mixture(cell: pd.DataFrame) -> None:
    """``UntestableError`` if several recipes meet in ``cell``: pooling them would hide which one is judged."""
    keys = cell.groupby("lr_schedule")
    for key in ("epochs", "lr"):
        if (keys[key].nunique() > 1).any():
            listed = ", ".join(f"{value:g}" for value in sorted(cell[key].unique()))
            raise UntestableError(f"several recipes, {key} {listed}; the claim must name one")
    if cell["augment"].nunique() > 1:
        raise UntestableError("augmented children and others; they must be of kinds of parents of their own")


def arms(children: pd.DataFrame, settings: Mapping[str, Any], together: bool) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, children) of each arm: a kind of parents, a criterion and, if several are named, a number of epochs.

    ``together``: criteria are one arm. A value that is named makes an arm even without children; without any, there is
    one arm, "children", since every claim has a verdict.
    """
    epochs = settings["epochs"] if isinstance(settings["epochs"], (list, tuple)) else [None]
    for kind in settings["parents"] or sorted(children["parent"].unique(), key=natural) or ["children"]:
        mine = children[children["parent"] == kind]
        criteria = [None] if together else settings["criteria"] or sorted(mine["criterion"].unique()) or [None]
        for criterion in criteria:
            for length in epochs:
                chosen = mine if criterion is None else mine[mine["criterion"] == criterion]
                chosen = chosen if length is None else chosen[chosen["epochs"] == length]
                yield ", ".join(_arm_words(kind, criterion, settings, length)), chosen


def _arm_words(kind: str, criterion: str | None, settings: Mapping[str, Any], epochs: int | None) -> Iterator[str]:
    yield kind
    if criterion is not None:
        yield f"{criterion} masks"
    if settings["sparsities"]:
        *first, last = [f"{sparsity:g}" for sparsity in settings["sparsities"]]
        yield f"{', '.join(first)} and {last}%" if first else f"{last}%"
    if epochs is not None:
        yield f"{epochs:g} epochs"
    if settings.get("tuned"):
        yield "each method at its tuned rate"


def cells(case: Case) -> Iterator[tuple[str, pd.DataFrame]]:
    """The cells of the arm, each with the words for it: a criterion, a learning-rate schedule and a sparsity.

    A value that is named and was never run makes a cell without children; two values that were run, but not together,
    make none.
    """
    children, settings = case.children, case.settings
    axes = {"criterion": "criteria", "lr_schedule": "lr_schedules", "sparsity": "sparsities"}
    values = {axis: list(settings[key] or sorted(children[axis].unique())) for axis, key in axes.items()}
    values["criterion"] = [one for one in values["criterion"] if one in set(children["criterion"])] or [None]
    several = len(values["criterion"]) > 1
    for criterion in values["criterion"]:
        for schedule in values["lr_schedule"] or [None]:
            for sparsity in values["sparsity"] or [None]:
                at = {"criterion": criterion, "lr_schedule": schedule, "sparsity": sparsity}
                cell = _having(children, at)
                if len(cell) or not all(len(_having(children, {key: value})) for key, value in at.items()):
                    yield _cell_words(case, at, several), cell


def _having(children: pd.DataFrame, at: Mapping[str, Any]) -> pd.DataFrame:
    """The children with the values ``at``; None stands for any."""
    for key, value in at.items():
        children = children if value is None else children[children[key] == value]
    return children


def _cell_words(case: Case, at: Mapping[str, Any], several: bool) -> str:
    told = {
        "sparsity": "" if at["sparsity"] is None else f"{at['sparsity']:g}%",
        "criterion": f"{at['criterion']} masks" if several else "",
        "lr_schedule": "" if at["lr_schedule"] is None else f"{at['lr_schedule']} rate",
    }
    rate = case.rates.get(at["lr_schedule"])
    words = [*told.values(), "" if rate is None else f"peak rate {rate:g}", case.spread]
    return ", ".join(filter(None, words)) or "all"
