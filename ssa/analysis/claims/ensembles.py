"""The claim about ensembles: SSA's against other low-cost ones, by accuracy; calibration and cost stand beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ssa.analysis.claims import verdicts
from ssa.analysis.claims.comparison import BESIDE, NONE, Comparison, UntestableError
from ssa.analysis.claims.verdicts import NOT_TESTABLE
from ssa.analysis.statistics import Interval, holm, share_above, t_interval
from ssa.results.ensembles import by_name, paired
from ssa.study.methods import ANNEALED, label

# What stands beside accuracy: a measure's name, its gain's unit, and what turns a difference into a gain in that unit.
BESIDE_IT = {"nll": ("NLL", "nats / 100", -100.0), "ece": ("ECE", "points", -1.0)}
COSTS = {"epochs": "training epochs", "masked_flops": "masked FLOPs of training"}


def compare_ensembles(
    ensembles: pd.DataFrame, settings: Mapping[str, Any], method: str, smallest: float, confidence: float
) -> list[Comparison]:
    """Every SSA ensemble against every baseline; ``ensembles``: of one data set and model.

    ``settings`` may name ``ensembles`` and ``baselines``; else they are those tuned by ``method``, and all others but
    annealed ones and ensembles of independent networks that take more epochs. ``UntestableError`` if either is
    missing.
    """
    kinds = {name: rows.iloc[0] for name, rows in by_name(ensembles)}
    ours = [name for name in kinds if _named(settings["ensembles"], name, kinds[name]["tuning"] == method)]
    if not ours:
        raise UntestableError(f"no ensembles of {label(method)}")
    sides = [(name, other) for name in ours for other in _baselines(kinds, name, ours, settings["baselines"])]
    lacking = [name for name in settings["baselines"] or () if name not in kinds]
    if not sides and not lacking:
        raise UntestableError("no other ensembles to compare with")
    missing = [
        Comparison(f"{ours[0]} against {name}", NONE, f"{NOT_TESTABLE}: no ensembles {name}", group=name)
        for name in lacking
    ]
    judged = _judged(ensembles, sides, smallest, confidence)
    return [*judged, *missing, *(one for pair in sides for one in _beside(ensembles, *pair, confidence))]


def _named(names: list[str] | None, name: str, otherwise: bool) -> bool:
    return name in names if names is not None else otherwise


def _baselines(kinds: Mapping[str, pd.Series], name: str, ours: list[str], named: list[str] | None) -> Iterator[str]:
    """The baselines of ``name``: those the claim names, else all but annealed ones and longer deep ensembles."""
    for other, kind in kinds.items():
        deep = kind["method"] == "independent" and kind["members"] > 1 and kind["epochs"] > kinds[name]["epochs"]
        if other not in ours and _named(named, other, not deep and kind["tuning"] not in ANNEALED):
            yield other


def _judged(
    ensembles: pd.DataFrame, sides: list[tuple[str, str]], smallest: float, confidence: float
) -> Iterator[Comparison]:
    """The gain in accuracy of each of ``sides``, a claimed gain over as many baselines, with Holm's adjustment."""
    gains = [paired(ensembles, name, other, "accuracy") for name, other in sides]
    intervals = [t_interval(values, confidence) for values in gains]
    adjusted = holm([1.0 if math.isnan(interval.p) else interval.p for interval in intervals])
    for (name, other), values, interval, p in zip(sides, gains, intervals, adjusted, strict=True):
        text = f"{name} against {other}"
        if values.empty:
            yield Comparison(text, NONE, f"{NOT_TESTABLE}: no seeds in common", group=other)
            continue
        said = verdicts.gain(values, smallest, confidence, len(sides), float(p))
        shown = math.nan if math.isnan(interval.p) else float(p)
        better = share_above(values, confidence)
        yield Comparison(text, interval, verdicts.known(said, interval.n), shown, group=other, better=better)


def _beside(ensembles: pd.DataFrame, name: str, other: str, confidence: float) -> Iterator[Comparison]:
    """Calibration and the cost of training, which are not judged."""
    text = f"{name} against {other}"
    for key, (words, unit, factor) in BESIDE_IT.items():
        gains = factor * paired(ensembles, name, other, key)
        if len(gains):
            interval = t_interval(gains, confidence)
            yield Comparison(text, interval, measure=f"gain in {words} ({unit})", role=BESIDE)
    mine, theirs = (ensembles[ensembles["ensemble"] == one].iloc[0] for one in (name, other))
    for key, words in COSTS.items():
        ratio = float(mine[key] / theirs[key])
        bare = Interval(ratio, math.nan, math.nan, math.nan, 1)
        yield Comparison(text, bare, measure=f"ratio of {words}", against=1.0, role=BESIDE, sampled=False)
