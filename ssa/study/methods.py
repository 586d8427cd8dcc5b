"""The catalogue of fine-tuning methods: each is a law for p(t), with at most a switch of the child.

All that the suite knows of a method by its name stands here: tables, figures, verdicts and the page read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Style:
    """How one method is drawn, in every figure: Matplotlib's colour, marker and line."""

    colour: str
    marker: str
    line: Any = "-"


@dataclass(frozen=True)
class Method:
    """The meaning of a method's name in a study, and how it is shown.

    ``law`` is a name from :mod:`ssa.method.laws` or the import path of a user's own law; ``label`` is what tables and
    figures print; ``args`` are the law's fixed arguments; ``switches`` are child settings that the method fixes
    (``pruned_weights``); ``style`` is None for a study's own methods, which take the spare ones.
    """

    law: str
    label: str
    args: Mapping[str, Any] = field(default_factory=dict)
    switches: Mapping[str, Any] = field(default_factory=dict)
    style: Style | None = None


# Okabe and Ito's colour-blind safe set, its yellow darkened for print. Eight colours do not tell all methods
# apart: variants share their method's, controls share one in pairs, and marker and line differ. The baseline is grey.
CATALOGUE: dict[str, Method] = {
    "dense": Method("OneShot", "Dense", style=Style("#000000", "", (0, (4, 2)))),
    "one-shot": Method("OneShot", "One-shot", style=Style("#666666", "s")),
    "weight-rewinding": Method(
        "OneShot", "Weight rewinding", {}, {"start": "rewound"}, style=Style("#666666", "D", (0, (3, 1.5)))
    ),
    "iterative": Method("Iterative", "Iterative", style=Style("#0072B2", "^")),
    "iterative-fixed": Method("Iterative", "Iterative, fixed order", style=Style("#0072B2", "v", (0, (3, 1.5)))),
    "movement": Method(
        "Iterative", "Iterative, by movement", {"order": "movement"}, style=Style("#0072B2", "<", (0, (1, 1)))
    ),
    "gradual": Method(
        "Iterative",
        "Gradual magnitude pruning",
        {"order": "reranked", "schedule": "cubic"},
        style=Style("#0072B2", ">", (0, (5, 1, 1, 1))),
    ),
    "random": Method("RandomAnnealing", "SSA random", style=Style("#009E73", "D")),
    "random-independent": Method(
        "RandomAnnealing",
        "SSA random, independent",
        {"draw": "independent"},
        style=Style("#009E73", "d", (0, (3, 1.5))),
    ),
    "temperature": Method("TemperatureAnnealing", "SSA temperature", style=Style("#D55E00", "o")),
    "temperature-all": Method(
        "TemperatureAnnealing",
        "SSA temperature, all weights",
        {"scope": "all"},
        style=Style("#D55E00", "p", (0, (3, 1.5))),
    ),
    "expected": Method(
        "TemperatureAnnealing", "Expected mask (no sampling)", {"expected": True}, style=Style("#CC79A7", "P")
    ),
    "dense-then-cut": Method("DenseThenCut", "Dense, then cut", style=Style("#56B4E9", ">", (0, (5, 1, 1, 1)))),
    "constant-temperature": Method(
        "ConstantTemperature", "Constant tau, then cut", style=Style("#B8860B", "<", (0, (5, 1, 1, 1)))
    ),
    "frozen": Method(
        "TemperatureAnnealing",
        "Frozen pruned weights",
        {},
        {"pruned_weights": "freeze"},
        style=Style("#CC79A7", "X", (0, (1, 1))),
    ),
    "shuffled": Method(
        "TemperatureAnnealing",
        "Shuffled pruned weights",
        {},
        {"pruned_weights": "shuffle"},
        style=Style("#B8860B", "h", (0, (1, 1))),
    ),
}

ANNEALED = ("random", "random-independent", "temperature", "temperature-all")  # SSA, its controls aside
# Temperature annealing with one thing changed: no noise; neither noise nor gradual change; noise without gradual
# change; noise on kept weights too; pruned weights that learn nothing; pruned weights whose values were permuted.
CONTROLS = ("expected", "dense-then-cut", "constant-temperature", "temperature-all", "frozen", "shuffled")


def label(method: str) -> str:
    """The name of ``method`` as tables and figures print it; a user's own method keeps its name."""
    return CATALOGUE[method].label if method in CATALOGUE else method


def in_order(methods: Iterable[str]) -> list[str]:
    """``methods`` in the catalogue's order, unknown ones after them by name."""
    rank = {name: i for i, name in enumerate(CATALOGUE)}
    return sorted(set(methods), key=lambda name: (rank.get(name, len(rank)), name))
