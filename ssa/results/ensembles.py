"""The ensembles' table: reading it, and pairing ensembles of the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ssa.errors import reading

FILE = "ensembles.csv"
TEXT = [
    *("ensemble", "method", "masks", "structure", "tuning", "lr_schedule", "dataset", "model"),
    *("corrupted_set", "corrupted_label"),
]
PLAIN = "one-shot"
# What an ensemble of tuned children shares with its twin that is tuned one-shot.
TWIN = ["dataset", "model", "method", "members", "masks", "structure", "sparsity", "epochs", "lr_schedule", "lr"]


def has_ensembles(results: Path) -> bool:
    """Whether the study in ``results`` scored ensembles."""
    return (results / FILE).is_file()


def read_ensembles(results: Path) -> pd.DataFrame:
    """``results``/ensembles.csv, one row per ensemble and seed, in the study's order; blank cells are NaN.

    A name is that of one ensemble for each data set and model. ``UserError`` if the file is damaged.
    """
    with reading(results / FILE):
        return pd.read_csv(results / FILE, dtype=dict.fromkeys(TEXT, "str"))


def groups(ensembles: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(data set, model, its rows), in the study's order."""
    for (dataset, model), rows in ensembles.groupby(["dataset", "model"], sort=False):
        yield str(dataset), str(model), rows


def by_name(ensembles: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, its rows), in the study's order."""
    for name, rows in ensembles.groupby("ensemble", sort=False):
        yield str(name), rows


def twins(ensembles: pd.DataFrame) -> list[tuple[str, str]]:
    """(ensemble, its plain twin) for each ensemble of tuned children: the same but for being tuned one-shot."""
    kinds = ensembles.dropna(subset="tuning").drop_duplicates("ensemble")
    plain = kinds["tuning"] == PLAIN
    found = kinds[~plain].merge(kinds[plain][["ensemble", *TWIN]], on=TWIN, suffixes=("", "_twin"))
    return list(zip(found["ensemble"], found["ensemble_twin"], strict=True))


def paired(ensembles: pd.DataFrame, name: str, other: str, column: str) -> pd.Series:
    """``column`` of the ensemble ``name`` minus that of ``other``, for each seed that both have; blanks left out."""
    mine, theirs = (ensembles[ensembles["ensemble"] == one].set_index("seed")[column] for one in (name, other))
    return (mine - theirs).dropna()
