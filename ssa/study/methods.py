"""The catalogue of fine-tuning methods: each is a law for p(t), with at most a switch of the child.

All that the suite knows of a method by its name stands here: tables, figures, verdicts and the page read it.
"""

from __future__ import annotations

import re
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
    (``pruned_weights``); ``purpose`` says what it is for, in a phrase; ``style`` is None for a study's own methods,
    which take the spare ones.
    """

    law: str
    label: str
    args: Mapping[str, Any] = field(default_factory=dict)
    switches: Mapping[str, Any] = field(default_factory=dict)
    style: Style | None = None
    purpose: str = ""


# Okabe and Ito's colour-blind safe set, its yellow darkened for print. Eight colours do not tell all methods
# apart: variants share their method's, controls share one in pairs, and marker and line differ. The baseline is grey.
CATALOGUE: dict[str, Method] = {
    "dense": Method(
        "OneShot",
        "Dense",
        style=Style("#000000", "", (0, (4, 2))),
        purpose="reference: the parent trained on, with all its weights",
    ),
    "one-shot": Method(
        "OneShot",
        "One-shot",
        style=Style("#666666", "s"),
        purpose="baseline: all pruned weights go before the first step",
    ),
    "weight-rewinding": Method(
        "OneShot",
        "Weight rewinding",
        {},
        {"start": "rewound"},
        style=Style("#666666", "D", (0, (3, 1.5))),
        purpose="baseline: one-shot from the parent's earlier weights (Renda et al., 2020, arXiv 2003.02389)",
    ),
    "iterative": Method(
        "Iterative",
        "Iterative",
        style=Style("#0072B2", "^"),
        purpose="baseline: pruned weights go one after the other; magnitude masks are ranked anew as training goes",
    ),
    "iterative-fixed": Method(
        "Iterative",
        "Iterative, fixed order",
        style=Style("#0072B2", "v", (0, (3, 1.5))),
        purpose="baseline: as `iterative`, but magnitude masks keep the order of the starting weights",
    ),
    "movement": Method(
        "Iterative",
        "Iterative, by movement",
        {"order": "movement"},
        style=Style("#0072B2", "<", (0, (1, 1))),
        purpose="baseline: weights go by their movement towards 0 (Sanh et al., 2020, arXiv 2005.07683)",
    ),
    "gradual": Method(
        "Iterative",
        "Gradual magnitude pruning",
        {"order": "reranked", "schedule": "cubic"},
        style=Style("#0072B2", ">", (0, (5, 1, 1, 1))),
        purpose="baseline: cubic schedule, magnitudes ranked anew (Zhu and Gupta, 2017, arXiv 1710.01878)",
    ),
    "random": Method(
        "RandomAnnealing",
        "SSA random",
        style=Style("#009E73", "D"),
        purpose="the paper's random annealing: each weight starts at a probability of its own",
    ),
    "random-independent": Method(
        "RandomAnnealing",
        "SSA random, independent",
        {"draw": "independent"},
        style=Style("#009E73", "d", (0, (3, 1.5))),
        purpose="random annealing whose starting probabilities do not depend on the mask",
    ),
    "temperature": Method(
        "TemperatureAnnealing",
        "SSA temperature",
        style=Style("#D55E00", "o"),
        purpose="the paper's temperature annealing: all pruned weights share one probability",
    ),
    "temperature-all": Method(
        "TemperatureAnnealing",
        "SSA temperature, all weights",
        {"scope": "all"},
        style=Style("#D55E00", "p", (0, (3, 1.5))),
        purpose="variant and control: kept weights are dropped too",
    ),
    "expected": Method(
        "TemperatureAnnealing",
        "Expected mask (no sampling)",
        {"expected": True},
        style=Style("#CC79A7", "P"),
        purpose="control, no noise: weights are multiplied by the probability instead of sampled",
    ),
    "dense-then-cut": Method(
        "DenseThenCut",
        "Dense, then cut",
        style=Style("#56B4E9", ">", (0, (5, 1, 1, 1))),
        purpose="control, neither noise nor gradual change: late pruning at once",
    ),
    "constant-temperature": Method(
        "ConstantTemperature",
        "Constant tau, then cut",
        style=Style("#B8860B", "<", (0, (5, 1, 1, 1))),
        purpose="control, noise without gradual change",
    ),
    "frozen": Method(
        "TemperatureAnnealing",
        "Frozen pruned weights",
        {},
        {"pruned_weights": "freeze"},
        style=Style("#CC79A7", "X", (0, (1, 1))),
        purpose="control: pruned weights are sampled but do not train",
    ),
    "shuffled": Method(
        "TemperatureAnnealing",
        "Shuffled pruned weights",
        {},
        {"pruned_weights": "shuffle"},
        style=Style("#B8860B", "h", (0, (1, 1))),
        purpose="control: pruned weights start with their values permuted",
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
    """``methods`` in the catalogue's order, unknown ones after them in natural order."""
    rank = {name: i for i, name in enumerate(CATALOGUE)}
    return sorted(set(methods), key=lambda name: (rank.get(name, len(rank)), natural(name)))


def natural(value: Any) -> list[tuple[int, Any]]:
    """A key that sorts numbers within words by their size: n5000 before n20000."""
    parts = re.split(r"(\d+)", str(value))
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]
