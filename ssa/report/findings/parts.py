"""Parts of findings' tables: cells, and means with bounds over parents.

A table is small, one row for each thing compared, differences paired and over parents. Columns that end in ``_low`` and
``_high`` are the bounds of the 95% t-interval over ``n`` parents of the column before them; differences are in
percentage points of test accuracy unless the column says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ssa.results.children import PARENT

if TYPE_CHECKING:
    from ssa.analysis.statistics import Interval


def pruned_cells(frame: pd.DataFrame, keys: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The pruned children of ``frame`` by the values of ``keys``, in order."""
    pruned = frame[frame["sparsity"] > 0]
    return [(dict(zip(keys, values, strict=True)), part) for values, part in pruned.groupby(keys)]


def estimate(name: str, frame: pd.DataFrame, column: str = "difference") -> dict[str, float]:
    """Mean and bounds over parents as columns that begin with ``name``."""
    from ssa.analysis.statistics import over_parents

    return bounds(name, over_parents(frame, column))


def bounds(name: str, interval: Interval) -> dict[str, float]:
    """Mean and bounds of ``interval`` as columns that begin with ``name``."""
    return dict(zip(triple(name), (interval.mean, interval.low, interval.high), strict=True))


def triple(name: str) -> list[str]:
    """The columns of an estimate."""
    return [name, f"{name}_low", f"{name}_high"]


def parents(frame: pd.DataFrame) -> int:
    """How many parents ``frame`` has children of."""
    return len(frame[PARENT].drop_duplicates())


def same_seeds(rows: pd.DataFrame, base: pd.DataFrame, column: str = "accuracy") -> pd.DataFrame:
    """``rows`` minus ``base`` for the same parent and child seed, whatever else differs: ``difference``."""
    partner = base[[*PARENT, "seed", column]].rename(columns={column: "partner"})
    paired = rows.merge(partner, on=[*PARENT, "seed"], validate="many_to_one")
    return paired.assign(difference=paired[column] - paired["partner"])
