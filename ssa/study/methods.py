"""The catalogue of fine-tuning methods: each is a law for p(t), with at most a switch of the child."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """What a method's name stands for in a study.

    ``law`` is a name from :mod:`ssa.method.laws` or the import path of a user's own law; ``args`` are its
    fixed arguments; ``switches`` are child settings that the method fixes (``pruned_weights``).
    """

    law: str
    label: str
    args: Mapping[str, Any] = field(default_factory=dict)
    switches: Mapping[str, Any] = field(default_factory=dict)


CATALOGUE: dict[str, Method] = {
    "dense": Method("OneShot", "Dense"),
    "one-shot": Method("OneShot", "One-shot"),
    "weight-rewinding": Method("OneShot", "Weight rewinding", {}, {"start": "rewound"}),
    "iterative": Method("Iterative", "Iterative"),
    "iterative-fixed": Method("Iterative", "Iterative, fixed order"),
    "movement": Method("Iterative", "Iterative, by movement", {"order": "movement"}),
    "gradual": Method("Iterative", "Gradual magnitude pruning", {"order": "reranked", "schedule": "cubic"}),
    "random": Method("RandomAnnealing", "SSA random"),
    "random-independent": Method("RandomAnnealing", "SSA random, independent", {"draw": "independent"}),
    "temperature": Method("TemperatureAnnealing", "SSA temperature"),
    "temperature-all": Method("TemperatureAnnealing", "SSA temperature, all weights", {"scope": "all"}),
    "expected": Method("TemperatureAnnealing", "Expected mask (no sampling)", {"expected": True}),
    "dense-then-cut": Method("DenseThenCut", "Dense, then cut"),
    "constant-temperature": Method("ConstantTemperature", "Constant tau, then cut"),
    "frozen": Method("TemperatureAnnealing", "Frozen pruned weights", {}, {"pruned_weights": "freeze"}),
    "shuffled": Method("TemperatureAnnealing", "Shuffled pruned weights", {}, {"pruned_weights": "shuffle"}),
}

ANNEALED = ("random", "random-independent", "temperature", "temperature-all")  # SSA, its controls aside


def label(method: str) -> str:
    """The name of ``method`` as tables and figures print it; a user's own method keeps its name."""
    return CATALOGUE[method].label if method in CATALOGUE else method


def in_order(methods: Iterable[str]) -> list[str]:
    """``methods`` in the catalogue's order, unknown ones after them by name."""
    rank = {name: i for i, name in enumerate(CATALOGUE)}
    return sorted(set(methods), key=lambda name: (rank.get(name, len(rank)), name))
