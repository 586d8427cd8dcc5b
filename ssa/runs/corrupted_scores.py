"""Scores on corrupted test sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ssa.data.corruptions.generated import SETS, VERSION
from ssa.data.corruptions.sets import CorruptedSet
from ssa.data.splits import Split
from ssa.runs.ensemble_scores import measure, reliability_by_convention
from ssa.vocabulary import CONVENTIONS, CORRUPTION_SETS, MEASURES


def summarise_corrupted(
    predict: Callable[[Split], Tensor],
    corrupted_set: CorruptedSet,
    temperatures: dict[str, float] | None = None,
    parent: Callable[[Split], Tensor] | None = None,
) -> dict[str, Any]:
    """One ensemble's scores on a corrupted test set, as JSON types; no logits are kept.

    ``predict``: the members' logits on a split, (members, n, classes). ``temperatures``: of each convention, fitted on
    clean validation images, for the scores after scaling. ``parent``: the parent's logits, (n, classes), for the scores
    with it as one more member. ``rows`` has an entry for each kind and severity; ``means`` averages each measure over
    the kinds and severities of every named set that the corrupted set covers, as the published tables do.
    """
    rows = []
    for kind, severity, split in corrupted_set:
        logits = predict(split).cpu()
        row: dict[str, Any] = {"kind": kind, "severity": severity}
        row["conventions"] = {name: asdict(measure(logits, split.labels, name)) for name in CONVENTIONS}
        if temperatures:
            row["scaled"] = {
                name: asdict(measure(logits, split.labels, name, temperature=value))
                for name, value in temperatures.items()
            }
        if parent:
            joined = torch.cat([logits, parent(split).cpu()[None].to(logits)])
            row["with_parent"] = {name: asdict(measure(joined, split.labels, name)) for name in CONVENTIONS}
        row["reliability"] = reliability_by_convention(logits, split.labels)
        rows.append(row)
    covered = [name for name in CORRUPTION_SETS[corrupted_set.source] if set(SETS[name]) <= set(corrupted_set.kinds)]
    return {
        **{"label": corrupted_set.label, "description": corrupted_set.description},
        **{"images": len(corrupted_set.labels), "total": corrupted_set.total, "version": VERSION},
        "rows": rows,
        "means": {name: _means([row for row in rows if row["kind"] in SETS[name]]) for name in covered},
    }


def _means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each measure over ``rows``, under each way of combining and each convention."""
    ways = [way for way in ("conventions", "scaled", "with_parent") if way in rows[0]]
    return {
        way: {
            name: {
                "finite": all(row[way][name]["finite"] for row in rows),
                **{key: sum(row[way][name][key] for row in rows) / len(rows) for key in MEASURES},
            }
            for name in rows[0][way]
        }
        for way in ways
    }
