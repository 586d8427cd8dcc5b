"""The claims that a study can test, and what its ``claims`` section may say. Imports no pandas: parsing is quick."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ssa.method.schedules import SCHEDULES
from ssa.specs.specs import Recipe
from ssa.study.methods import CATALOGUE
from ssa.vocabulary import ALLOCATIONS, CRITERIA, STRUCTURES

# Rules in words; the braces take the study's own numbers.
GAIN = (
    "supported where the interval of the difference lies above 0 (negligible if it also lies below {smallest:g} "
    "points), contradicted where it lies below {smallest:g} points, else undecided"
)
SMALL = "Supported where the interval lies below {small:g} points, contradicted where it lies above, else undecided."
ALL = "Overall: supported if all comparisons are, contradicted if any is (uncorrected), else undecided."
MOST = "Overall: what more than half of the comparisons say, else undecided."

# Which children a claim looks at; None stands for every value that the study has.
RECIPE: dict[str, Any] = {
    "parents": None,
    "structure": "connections",
    "allocation": "layerwise",
    "stem": "pruned",
    "epochs": None,
    "lr": None,
}
CELLS = {**RECIPE, "criteria": ["random"], "sparsities": None, "lr_schedules": None}
SECTION: dict[str, Any] = {
    "smallest_difference": 0.2,
    "confidence": 0.95,
    "ssa": {"method": "temperature", "tau": 0.5, "anneal_fraction": 0.25, "anneal_schedule": "linear"},
    "cells": RECIPE,
}


@dataclass(frozen=True)
class Claim:
    """A claim, where it was made, how it is judged, and the keys that a study may give it with their defaults.

    ``unit``: what its intervals are over.
    """

    statement: str
    source: str
    rule: str
    measure: str = "difference in test accuracy (points)"
    defaults: Mapping[str, Any] = field(default_factory=lambda: CELLS)
    unit: str = "parents"


FEWEST = 20  # parents below which a ratio of variances cannot tell

CLAIMS: dict[str, Claim] = {
    "C1": Claim(
        "SSA ends more accurate than one-shot and iterative pruning at high sparsity.",
        "paper",
        f"Each comparison: {GAIN}. Supported also needs p below {{alpha:g}} after Holm's adjustment over all "
        f"comparisons of the arm (else undecided); the intervals shown are not adjusted. {ALL}",
        defaults={**CELLS, "sparsities": [95, 98], "baselines": ["one-shot", "iterative"]},
    ),
    "C2": Claim(
        "Temperature annealing ends more accurate than random annealing.",
        "paper",
        f"Each comparison: {GAIN}. {ALL}",
        defaults={**CELLS, "baselines": ["random"]},
    ),
    "C3": Claim(
        "Ensembles of SSA children beat other low-cost ensembles for less training.",
        "paper",
        "Gains are paired by seed and above 0 where SSA is better: accuracy and ECE in points, NLL in nats / 100. "
        f"Each comparison: {GAIN}. Compared with the plain twin, and with every other ensemble of the data set and "
        "model but annealed ones and ensembles of independent networks that take more epochs. Supported also needs no "
        "more training epochs and no more masked FLOPs than the other ensemble (else undecided); of the twin only the "
        f"difference is asked: annealing keeps more weights for as many epochs. {ALL}",
        "gain (points; NLL: nats / 100)",
        {"ensembles": None, "baselines": None},
        "seeds",
    ),
    "C4": Claim(
        "At every sparsity the best length of annealing is one of those named.",
        "paper",
        "The interval is of another length's gain over the better of those named (the lowest of its estimates and "
        "bounds against each): contradicted where it lies above 0, supported where it does not exceed "
        f"{{smallest:g}} points, else undecided. {ALL}",
        defaults={**CELLS, "best": [5, 10]},
    ),
    "C5": Claim(
        "The gain over one-shot is as large as the figures quoted.",
        "reviews",
        f"Supported where the quoted figure lies inside or below the interval, contradicted where it lies above. {ALL}",
        defaults={**CELLS, "sparsities": [98], "quoted": {"constant": 6.0, "one-cycle": 4.0}},
    ),
    "C6": Claim(
        "Pruning at once costs accuracy in the first epochs, and annealing avoids the drop.",
        "paper",
        "The drop is the parent's accuracy minus the target subnetwork's lowest, with batch-norm statistics "
        "re-estimated, at the scored epochs from the first to the last that the SSA child anneals. Before the first "
        "all methods have the same subnetwork; while it anneals, an SSA child trains sampled subnetworks, not this "
        f"one. The difference is the baseline's drop minus SSA's: {GAIN}. {ALL}",
        "difference in the drop (points)",
        {**CELLS, "baselines": ["one-shot"]},
    ),
    "C7": Claim(
        "Temperature on the pruned weights alone is what helps: no variant of it does as well.",
        "paper",
        f"Each comparison: {GAIN}. {ALL}",
        defaults={**CELLS, "baselines": None},
    ),
    "C8": Claim(
        "Children tuned with SSA vary less over seeds.",
        "summary",
        "Variance over parents of SSA's accuracy divided by the baseline's, paired (Pitman-Morgan): supported where "
        f"the interval lies below 1, contradicted above 1, else undecided; undecided below {FEWEST} parents. {ALL}",
        "ratio of variances",
        {**CELLS, "baselines": ["one-shot", "iterative"]},
    ),
    "C9": Claim(
        "With magnitude masks the gain over one-shot is small.",
        "reviews",
        f"{SMALL} {ALL}",
        defaults={**CELLS, "criteria": ["magnitude"], "baselines": ["one-shot"], "small": 0.5},
    ),
    "C10": Claim(
        "Iterative pruning is hardly better than one-shot in most cells.",
        "reviews",
        f"{SMALL} {MOST}",
        defaults={**CELLS, "criteria": ["random", "magnitude"], "baselines": ["one-shot"], "small": 0.5},
    ),
}
CONTROLS = ("temperature-all", "expected", "dense-then-cut", "constant-temperature", "frozen", "shuffled")


def validate_claims(
    section: Mapping[str, Any],
    methods: Collection[str] = tuple(CATALOGUE),
    parents: Collection[str] | None = None,
    ensembles: Collection[str] | None = None,
) -> None:
    """``ValueError`` with one line naming key, value and what is allowed unless ``section`` is a claims section.

    ``methods``, ``parents`` and ``ensembles`` are the names that the study knows; any text is a name where the last
    two are None.
    """
    kinds = _kinds(methods, parents)
    among = _list_of(_name(ensembles))
    of_ensembles = kinds | {"ensembles": among, "baselines": among}
    _mapping(section, "claims", [*SECTION, *CLAIMS], kinds)
    _mapping(section.get("ssa") or {}, "claims.ssa", SECTION["ssa"], kinds)
    _mapping(section.get("cells") or {}, "claims.cells", RECIPE, kinds)
    for name, claim in CLAIMS.items():
        own = of_ensembles if "ensembles" in claim.defaults else kinds
        _mapping(section.get(name) or {}, f"claims.{name}", claim.defaults, own)


def settings_of(section: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All settings of claim ``name``: its own in ``section``, else the section's ``cells``, else the defaults."""
    claim = CLAIMS[name]
    shared = {key: value for key, value in (section.get("cells") or {}).items() if key in claim.defaults}
    return {**claim.defaults, **shared, **(section.get(name) or {})}


def ssa_settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for SSA in a study's tables and claims: what ``section`` says, else the defaults."""
    return {**SECTION["ssa"], **(section.get("ssa") or {})}


def rule_of(section: Mapping[str, Any], name: str) -> str:
    """The rule of claim ``name`` in words, with the numbers of ``section``."""
    top = {**SECTION, **section}
    return CLAIMS[name].rule.format(
        **settings_of(section, name), smallest=top["smallest_difference"], alpha=1 - top["confidence"]
    )


@dataclass(frozen=True)
class _Kind:
    allowed: str
    accepts: Callable[[Any], bool]


def _mapping(values: Any, where: str, keys: Iterable[str], kinds: Mapping[str, _Kind]) -> None:
    known = list(keys)
    names = ", ".join(known) or "none"
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: {values!r} is not allowed; allowed: a mapping of {names}")
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{where}: unknown key {key!r}; {hint}allowed: {names}")
        if key in kinds and not kinds[key].accepts(value):
            raise ValueError(f"{where}.{key}: {value!r} is not allowed; allowed: {kinds[key].allowed}")


def _kinds(methods: Collection[str], parents: Collection[str] | None) -> dict[str, _Kind]:
    """What each key holds."""
    schedules = Recipe.__dataclass_fields__["lr_schedule"].metadata["choices"]
    epochs = _number("whole number, at least 1", lambda x: x >= 1 and x == int(x))
    positive = _number("number above 0", lambda x: x > 0)
    points = _number("points, at least 0", lambda x: x >= 0)
    percent = _number("percent, at least 1 and below 100 (80, not 0.8)", lambda x: 1 <= x < 100)
    return {
        "smallest_difference": points,
        "confidence": _number("number above 0 and below 1", lambda x: 0 < x < 1),
        "method": _name(methods),
        "tau": _number("number in [0, 1]", lambda x: 0 <= x <= 1),
        "anneal_fraction": _number("number above 0, at most 1", lambda x: 0 < x <= 1),
        "anneal_schedule": _name(SCHEDULES),
        "parents": _list_of(_name(parents)),
        "criteria": _list_of(_name(CRITERIA)),
        "sparsities": _list_of(percent),
        "lr_schedules": _list_of(_name(schedules)),
        "structure": _name(STRUCTURES),
        "allocation": _name(ALLOCATIONS),
        "stem": _name(("pruned", "dense")),
        "epochs": _either(epochs, _list_of(epochs)),
        "lr": _by_schedule(schedules, positive),
        "quoted": _by_schedule(schedules, points),
        "baselines": _list_of(_name(methods)),
        "best": _list_of(positive),
        "small": points,
    }


def _number(allowed: str, within: Callable[[float], bool]) -> _Kind:
    def accepts(value: Any) -> bool:
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        return numeric and math.isfinite(value) and within(value)

    return _Kind(allowed, accepts)


def _name(allowed: Collection[str] | None) -> _Kind:
    words = "text" if allowed is None else ", ".join(allowed)
    return _Kind(words, lambda value: isinstance(value, str) and (allowed is None or value in allowed))


def _either(one: _Kind, other: _Kind) -> _Kind:
    return _Kind(f"{one.allowed}, or {other.allowed}", lambda value: one.accepts(value) or other.accepts(value))


def _list_of(kind: _Kind) -> _Kind:
    def accepts(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(map(kind.accepts, value)) and _distinct(value)

    return _Kind(f"a list, each once, of: {kind.allowed}", accepts)


def _distinct(values: list[Any]) -> bool:
    return len(set(values)) == len(values)


def _by_schedule(schedules: Collection[str], kind: _Kind) -> _Kind:
    def accepts(value: Any) -> bool:
        known = isinstance(value, Mapping) and bool(value) and all(key in schedules for key in value)
        return known and all(map(kind.accepts, value.values()))

    return _Kind(f"a mapping from {', '.join(schedules)} to a {kind.allowed}", accepts)
