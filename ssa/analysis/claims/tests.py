"""How each claim is tested on one arm's children, or ensembles: its comparisons, and what each says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ssa.analysis import statistics
from ssa.analysis.claims.comparison import NONE, Comparison, UntestableError
from ssa.analysis.claims.ensembles import compare_ensembles
from ssa.analysis.statistics import NOT_TESTABLE, Interval
from ssa.results.children import pairs
from ssa.study.claims import CONTROLS, FEWEST
from ssa.study.methods import in_order, label


@dataclass(frozen=True)
class Case:
    """A claim before one arm's children, or its ensembles: its settings, and the numbers that every rule shares.

    ``spread``: how the children's sparsity is spread over layers, in words, where the arm has others too. ``rates``:
    the peak rate that the claim looks at by learning-rate schedule, where the arm has several.
    """

    settings: Mapping[str, Any]
    ssa: Mapping[str, Any]
    children: pd.DataFrame
    history: pd.DataFrame
    smallest: float
    confidence: float
    ensembles: pd.DataFrame | None = None
    spread: str = ""
    rates: Mapping[str, float] = field(default_factory=dict)

    def reference(self, cell: pd.DataFrame, method: str) -> pd.DataFrame:
        """The children of ``method`` at its reference setting; ``UntestableError`` if there are none."""
        rows = cell[(cell["method"] == method) & cell["reference"]]
        if rows.empty:
            raise UntestableError(f"no children of {label(method)}")
        return rows

    def mean(self, paired: pd.DataFrame) -> Interval:
        """The interval of the paired difference over parents."""
        return statistics.over_parents(paired, "difference", self.confidence)


AXES = {
    "sparsity": ("sparsities", "{:g}%"),
    "criterion": ("criteria", "{} masks"),
    "lr_schedule": ("lr_schedules", "{} rate"),
    "epochs": ("epochs", "{:g} epochs"),
}


def _cells(case: Case) -> Iterator[tuple[str, pd.DataFrame]]:
    """The cells that the claim names, or else all that the arm has, each with the words for it."""
    several = ["epochs"] if isinstance(case.settings["epochs"], list) else []
    for words, cell in _split(case.children, ["criterion", "lr_schedule", *several, "sparsity"], case.settings):
        rate = [f"peak rate {lr:g}" for schedule, lr in case.rates.items() if schedule in set(cell["lr_schedule"])]
        told = [words[axis] for axis in AXES if axis in words]
        yield ", ".join(filter(None, [*told, *rate, case.spread])), cell


def _split(
    children: pd.DataFrame, axes: list[str], settings: Mapping[str, Any]
) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """``children`` along ``axes``: a value that is named makes a cell even without children, others do not."""
    if not axes:
        yield {}, children
        return
    axis, *rest = axes
    key, text = AXES[axis]
    for value in settings[key] or sorted(children[axis].unique()):
        for words, cell in _split(children[children[axis] == value], rest, settings):
            yield {axis: text.format(value), **words}, cell
    if not settings[key] and children.empty:
        yield from _split(children, rest, settings)


def _compare(
    text: str, cell: pd.DataFrame, measure: Callable[[pd.DataFrame], Interval], rule: Callable[[Interval], str]
) -> Comparison:
    """The comparison that ``measure`` and ``rule`` make of one cell, or the reason why it cannot be made."""
    try:
        _refuse_mixture(cell)
        interval = measure(cell)
        if interval.n == 0:
            raise UntestableError("no pairs of children with scores")
    except UntestableError as reason:
        return Comparison(text, NONE, f"{NOT_TESTABLE}: {reason}")
    return Comparison(text, interval, rule(interval) if interval.n > 1 else f"{statistics.UNDECIDED} (n < 2)")


def _refuse_mixture(cell: pd.DataFrame) -> None:
    """``UntestableError`` where several recipes meet in ``cell``: pooling them would hide which one is judged."""
    for key in ("epochs", "lr"):
        values = sorted(cell[key].unique())
        if len(values) > 1:
            listed = ", ".join(f"{value:g}" for value in values)
            raise UntestableError(f"several recipes, {key} {listed}; the claim must name one")
    if cell["augment"].nunique() > 1:
        raise UntestableError("augmented children and others; they must be of kinds of parents of their own")


def _against(
    case: Case,
    baselines: list[str],
    words: str,
    measure: Callable[..., Interval],
    rule: Callable[[Interval], str],
) -> list[Comparison]:
    """``measure`` against each of ``baselines`` in every cell, judged by ``rule``; ``words`` name the comparison."""
    return [
        _compare(f"{words.format(label(baseline))}: {cell_words}", cell, partial(measure, baseline=baseline), rule)
        for cell_words, cell in _cells(case)
        for baseline in baselines
    ]


def _versus(case: Case, method: str, baselines: list[str], rule: Callable[[Interval], str]) -> list[Comparison]:
    """The accuracy of ``method`` minus that of each of ``baselines``."""

    def measure(cell: pd.DataFrame, baseline: str) -> Interval:
        return case.mean(pairs(case.reference(cell, method), case.reference(cell, baseline)))

    return _against(case, baselines, f"{label(method)} minus {{}}", measure, rule)


def _gain(case: Case) -> list[Comparison]:
    rule = partial(statistics.gain_verdict, smallest=case.smallest)
    return _versus(case, case.ssa["method"], case.settings["baselines"], rule)


def _gain_in_family(case: Case) -> list[Comparison]:
    """As :func:`_gain`, with Holm's adjustment; a comparison without a p-value stays in the family, with p = 1."""
    found = _gain(case)
    adjusted = statistics.holm([1.0 if math.isnan(c.interval.p) else c.interval.p for c in found])
    return [c if math.isnan(c.interval.p) else _adjusted(case, c, p) for c, p in zip(found, adjusted, strict=True)]


def _adjusted(case: Case, comparison: Comparison, p: float) -> Comparison:
    verdict = statistics.holm_gain_verdict(comparison.interval, p, case.smallest, case.confidence)
    return replace(comparison, p_holm=p, verdict=verdict)


def _controls(case: Case) -> list[Comparison]:
    """SSA against its variants: those named, else temperature on all weights and whichever others were run."""
    run = set(case.children["method"]) | {"temperature-all"}
    baselines = case.settings["baselines"] or in_order(run & set(CONTROLS))
    return _gain(replace(case, settings={**case.settings, "baselines": baselines}))


def _ensembles(case: Case) -> list[Comparison]:
    if case.ensembles is None:
        raise UntestableError("no ensembles in this study")
    return compare_ensembles(case.ensembles, case.settings, case.ssa["method"], case.smallest, case.confidence)


def _best_length(case: Case) -> list[Comparison]:
    """Every other length of annealing against the better of those claimed to be best."""
    best = sorted(case.settings["best"])
    named = ", ".join(f"{e:g}" for e in best)
    found = []
    for words, cell in _cells(case):
        rows = _lengths(case, cell)
        others = sorted(set(rows["anneal_epochs"]) - set(best))
        if not others:
            found.append(Comparison(words, NONE, f"{NOT_TESTABLE}: no other length of annealing"))
        for other in others:
            found.append(
                _compare(
                    f"e = {other:g} minus the better of e = {named}: {words}",
                    rows,
                    partial(_over_the_better, case, other=other, best=best),
                    partial(statistics.rival_verdict, smallest=case.smallest),
                )
            )
    return found


def _lengths(case: Case, cell: pd.DataFrame) -> pd.DataFrame:
    """SSA's children in ``cell`` that differ from its reference setting in the length of annealing at most."""
    tau = cell["tau"].isna() | (cell["tau"] == case.ssa["tau"])
    schedule = cell["anneal_schedule"].isna() | (cell["anneal_schedule"] == case.ssa["anneal_schedule"])
    return cell[(cell["method"] == case.ssa["method"]) & tau & schedule]


def _over_the_better(case: Case, rows: pd.DataFrame, other: float, best: list[float]) -> Interval:
    """``other``'s gain over each of ``best``, and of these the lowest estimate and bounds; no p.

    Valid bounds for the gain over the better one: it is the minimum of the gains, and above 0 only if all are
    (Berger, 1982, Technometrics 24, 295-300).
    """
    rival = rows[rows["anneal_epochs"] == other]
    gains = []
    for e in best:
        base = rows[rows["anneal_epochs"] == e]
        if base.empty:
            raise UntestableError(f"no children at e = {e:g}")
        gains.append(case.mean(pairs(rival, base)))
    mean, low, high = (float(np.min([getattr(gain, key) for gain in gains])) for key in ("mean", "low", "high"))
    return Interval(mean, low, high, math.nan, min(gain.n for gain in gains))


def _quoted(case: Case) -> list[Comparison]:
    """SSA's gain over one-shot against the figure quoted for each learning-rate schedule."""
    found = []
    for schedule, points in case.settings["quoted"].items():
        cells = replace(case, settings={**case.settings, "lr_schedules": [schedule]})
        judged = _versus(cells, case.ssa["method"], ["one-shot"], partial(statistics.quoted_verdict, quoted=points))
        found += [replace(one, text=f"{one.text}; quoted {points:+g}", against=points) for one in judged]
    return found


def _drop(case: Case) -> list[Comparison]:
    """How much deeper than SSA's the baseline's drop is within the epochs that SSA anneals."""

    def measure(cell: pd.DataFrame, baseline: str) -> Interval:
        ssa = case.reference(cell, case.ssa["method"])
        e = ssa["anneal_epochs"].iloc[0]
        lower, upper = (_with_drop(rows, case.history, e) for rows in (ssa, case.reference(cell, baseline)))
        return case.mean(pairs(upper, lower, "drop"))

    words = f"drop of {{}} minus drop of {label(case.ssa['method'])}"
    rule = partial(statistics.gain_verdict, smallest=case.smallest)
    return _against(case, case.settings["baselines"], words, measure, rule)


def _with_drop(rows: pd.DataFrame, history: pd.DataFrame, epochs: float) -> pd.DataFrame:
    """``rows`` with ``drop``: the parent's accuracy minus the lowest in epochs 1 to ``epochs``; NaN if not scored."""
    early = history[history["epoch"].between(1, max(1, epochs))]
    lowest = early.groupby("child_id")["test_accuracy"].min()
    return rows.assign(drop=rows["parent_accuracy"] - rows["child_id"].map(lowest))


def _stability(case: Case) -> list[Comparison]:
    """The ratio of the variances of SSA's and each baseline's parent means."""

    def measure(cell: pd.DataFrame, baseline: str) -> Interval:
        paired = pairs(case.reference(cell, case.ssa["method"]), case.reference(cell, baseline))
        return statistics.spread_ratio(paired, case.confidence)

    words = f"{label(case.ssa['method'])} over {{}}"
    rule = partial(statistics.ratio_verdict, fewest=FEWEST)
    return [replace(one, against=1.0) for one in _against(case, case.settings["baselines"], words, measure, rule)]


def _small_gain(case: Case, method: str) -> list[Comparison]:
    bound = case.settings["small"]
    rule = partial(statistics.small_gain_verdict, bound=bound)
    return [replace(one, against=bound) for one in _versus(case, method, case.settings["baselines"], rule)]


TESTS: dict[str, Callable[[Case], list[Comparison]]] = {
    "C1": _gain_in_family,
    "C2": _gain,
    "C3": _ensembles,
    "C4": _best_length,
    "C5": _quoted,
    "C6": _drop,
    "C7": _controls,
    "C8": _stability,
    "C9": lambda case: _small_gain(case, case.ssa["method"]),
    "C10": lambda case: _small_gain(case, "iterative"),
}
OVERALL = {"C10": statistics.majority_verdict}
