"""The drop after pruning: the accuracy of the network as training uses it, over the epochs that SSA anneals."""

from __future__ import annotations

import math

import pandas as pd

from ssa.analysis.claims.comparison import UntestableError
from ssa.results.children import USED

# Which epochs the accuracy is averaged over, and what the difference in it is called; the first is what is judged.
MEASURES = {
    "mean": "difference in the drop (points)",
    "before": "difference in the drop before the first step (points)",
    "during": "difference in the drop, epochs 1 to e (points)",
    "exact": "difference in the drop at epoch e (points)",
}


def epochs_of(key: str, e: float) -> range:
    """The epochs of one of :data:`MEASURES`, for annealing of ``e`` epochs; the first exact mask is at its end."""
    end = math.ceil(e)
    return {"mean": range(end + 1), "before": range(1), "during": range(1, end + 1), "exact": range(end, end + 1)}[key]


def with_drop(rows: pd.DataFrame, history: pd.DataFrame, e: float, key: str) -> pd.DataFrame:
    """``rows`` with ``drop``: the parent's accuracy minus the mean of the used network's over the epochs of ``key``.

    A child that diverged was trained no further: it has its final accuracy in the epochs after. ``UntestableError`` if
    the network as used was not scored; blank for a child that was not at each of these epochs.
    """
    wanted = epochs_of(key, e)
    if USED not in history or history[USED].isna().all():
        raise UntestableError("the network as training uses it was not scored (score_used)")
    known = history[history["epoch"].isin(wanted)].dropna(subset=USED).groupby("child_id")[USED].agg(["sum", "size"])
    scored = rows[["child_id"]].join(known, on="child_id").fillna({"sum": 0.0, "size": 0})
    left = len(wanted) - scored["size"]
    mean = (scored["sum"] + left * rows["accuracy"]) / len(wanted)
    return rows.assign(drop=(rows["parent_accuracy"] - mean).where(rows["diverged"] | (left == 0)))
