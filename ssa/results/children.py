"""The children's table: reading it, and pairing children that differ in nothing but the method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.errors import UserError, reading

PARENT = ["parent", "parent_seed"]
# A grid cell of one study; with PARENT's seed and the child's seed, what two paired children share.
CELL = ["parent", "criterion", "structure", "allocation", "stem", "sparsity", "augment", "epochs", "lr_schedule", "lr"]
PAIRING = [*CELL, "parent_seed", "seed"]
TEXT = [
    "block",
    "parent",
    "criterion",
    "structure",
    "allocation",
    "stem",
    "method",
    "anneal_schedule",
    "lr_schedule",
    "child_id",
]
FLAGS = ["augment", "reference", "diverged"]
MADE = ("device", "git_commit", "instructions", "source")
COLUMNS = (
    *("study", "block", "parent", "dataset", "model", "train_images", "augment", "parent_seed", "seed"),
    *("criterion", "structure", "allocation", "stem", "sparsity", "realised_sparsity", "effective_sparsity"),
    *("method", "tau", "anneal_epochs", "anneal_schedule", "reference", "epochs", "lr_schedule", "lr"),
    *("accuracy", "nll", "ece", "accuracy_bn", "accuracy_before", "train_loss_clean", "train_accuracy_clean"),
    *("validation_accuracy", "parent_accuracy", "dense_accuracy", "train_seconds", "diverged", "diverged_step"),
    *("child_id", "parent_id", *MADE),
)

COLLAPSE = 5.0  # points
USED = "test_accuracy_used"  # of the history: the accuracy of the network as training uses it


def collapsed(children: pd.DataFrame) -> pd.Series:
    """Whether each child loses more than :data:`COLLAPSE` points when its BatchNorm statistics are re-estimated.

    Such a child is a fact of its statistics, not of its weights: curves and tests that re-estimate mark it.
    """
    return children["accuracy"] - children["accuracy_bn"] > COLLAPSE


def read_children(results: Path) -> pd.DataFrame:
    """``results``/children.csv, one row per child; blank cells are NaN, columns of names are text, and flags bool.

    ``UserError`` if it is damaged.
    """
    path = results / "children.csv"
    with reading(path):
        return pd.read_csv(path, dtype={**dict.fromkeys(TEXT, "str"), **dict.fromkeys(FLAGS, "bool")})


def join_epochs(history: pd.DataFrame, children: pd.DataFrame) -> pd.DataFrame:
    """One row per child and epoch: ``children``, and what only the ``history`` says."""
    return history[["child_id", *history.columns.difference(children.columns)]].merge(children, on="child_id")


def having(frame: pd.DataFrame, values: Mapping[Any, Any]) -> pd.DataFrame:
    """The rows of ``frame`` with these ``values``."""
    return frame[(frame[list(values)] == pd.Series(values)).all(axis=1)]


def best(frame: pd.DataFrame, column: str) -> Any:
    """The value of ``column`` with the highest mean validation accuracy, of equals the lowest; None without children.

    ``UserError`` for children without validation images.
    """
    if frame.empty:
        return None
    validation = frame.groupby(column)["validation_accuracy"].mean()
    if validation.isna().any():
        raise UserError("nothing can be chosen without validation images: set validation in the study's datasets")
    return validation.idxmax()


def pairs(rows: pd.DataFrame, base: pd.DataFrame, column: str = "accuracy") -> pd.DataFrame:
    """``rows`` that have a partner in ``base``, with ``difference`` (row minus partner, in ``column``'s unit).

    ``diverged`` is set where either of the two diverged. pandas' ``MergeError`` if ``base`` holds two children
    of one cell and seed, which no column of the record tells apart.
    """
    partner = base[[*PAIRING, column, "diverged"]].rename(columns={column: "partner", "diverged": "partner_diverged"})
    paired = rows.merge(partner, on=PAIRING, validate="many_to_one")
    paired["difference"] = paired[column] - paired["partner"]
    paired["diverged"] = paired["diverged"] | paired["partner_diverged"]
    return paired.drop(columns=["partner", "partner_diverged"])


def differences_to(children: pd.DataFrame, baseline: str, column: str = "accuracy") -> pd.DataFrame:
    """Every child of another method beside ``baseline``'s of the same cell and seed; see :func:`pairs`."""
    is_base = children["method"] == baseline
    return pairs(children[~is_base], children[is_base & children["reference"]], column)


def trained_on(children: pd.DataFrame) -> str:
    """The hardware that ``children`` were trained on."""
    return ", ".join(sorted(children["device"].dropna().unique())) or "not recorded"
