"""The claim about ensembles: SSA's against the other low-cost ones, in accuracy and calibration, and in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from ssa.analysis.claims.comparison import NONE, Comparison, UntestableError
from ssa.analysis.statistics import NOT_TESTABLE, SUPPORTED, UNDECIDED, Interval, gain_verdict, t_interval
from ssa.results.ensembles import by_name, paired, twins
from ssa.study.methods import ANNEALED, label

# A measure's name, its gain's unit, and what turns a difference into a gain in that unit.
MEASURES = {
    "accuracy": ("accuracy", "points", 1.0),
    "nll": ("NLL", "nats / 100", -100.0),
    "ece": ("ECE", "points", -1.0),
}
COSTS = {"epochs": "epochs", "masked_flops": "masked FLOPs"}


def compare_ensembles(
    ensembles: pd.DataFrame, settings: Mapping[str, Any], method: str, smallest: float, confidence: float
) -> list[Comparison]:
    """Every SSA ensemble against every baseline, in each of :data:`MEASURES`; ``ensembles``: of one data set and model.

    ``settings`` may name ``ensembles`` and ``baselines``; else they are those tuned by ``method``, and all others but
    annealed ones and ensembles of independent networks that take more epochs. ``UntestableError`` where either is
    missing.
    """
    kinds = {name: rows.iloc[0] for name, rows in by_name(ensembles)}
    ours = [name for name in kinds if _named(settings["ensembles"], name, kinds[name]["tuning"] == method)]
    if not ours:
        raise UntestableError(f"no ensembles of {label(method)}")
    equals = twins(ensembles)
    found = [
        _compare(ensembles, name, other, key, smallest, confidence, (name, other) in equals)
        for name in ours
        for other in _baselines(kinds, name, ours, settings["baselines"])
        for key in MEASURES
    ]
    if not found:
        raise UntestableError("no other ensembles to compare with")
    return found


def _named(names: list[str] | None, name: str, otherwise: bool) -> bool:
    return name in names if names is not None else otherwise


def _baselines(kinds: Mapping[str, pd.Series], name: str, ours: list[str], named: list[str] | None) -> Iterator[str]:
    """What ``name`` is compared with: what the claim names, else all but annealed ones and longer deep ensembles."""
    for other, kind in kinds.items():
        deep = kind["method"] == "independent" and kind["members"] > 1 and kind["epochs"] > kinds[name]["epochs"]
        if other not in ours and _named(named, other, not deep and kind["tuning"] not in ANNEALED):
            yield other


def _excess(mine: pd.Series, other: pd.Series) -> list[str]:
    """What ``mine`` needs more of than ``other``; the same sum added up in another order is not more."""
    return [words for key, words in COSTS.items() if mine[key] > other[key] * (1 + 1e-9)]


def _compare(
    ensembles: pd.DataFrame, name: str, other: str, key: str, smallest: float, confidence: float, twin: bool
) -> Comparison:
    words, unit, factor = MEASURES[key]
    head = Comparison(f"{words}: {name} against {other}", NONE, "", measure=f"gain in {words} ({unit})")
    gains = factor * paired(ensembles, name, other, key)
    if gains.empty:
        return replace(head, verdict=f"{NOT_TESTABLE}: no seeds in common")
    interval = t_interval(gains, confidence)
    mine, theirs = (ensembles[ensembles["ensemble"] == one].iloc[0] for one in (name, other))
    excess = [] if twin else _excess(mine, theirs)
    return replace(head, interval=interval, verdict=_verdict(interval, smallest, excess))


def _verdict(interval: Interval, smallest: float, excess: list[str]) -> str:
    """As every claimed gain is judged, but one that takes more training is undecided."""
    if interval.n < 2:
        return f"{UNDECIDED} (n < 2)"
    verdict = gain_verdict(interval, smallest)
    if verdict.startswith(SUPPORTED) and excess:
        return f"{UNDECIDED} (better for more {' and '.join(excess)})"
    return verdict
