"""How each claim is tested on one arm's children, or ensembles: its comparisons, and what each says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ssa.analysis import statistics
from ssa.analysis.claims import verdicts
from ssa.analysis.claims.cells import Case, at_reference, cells, lengths
from ssa.analysis.claims.comparison import BESIDE, NONE, SINGLE, Comparison, UntestableError
from ssa.analysis.claims.drop import MEASURES, with_drop
from ssa.analysis.claims.ensembles import compare_ensembles
from ssa.analysis.claims.verdicts import NOT_TESTABLE
from ssa.analysis.statistics import Interval, parent_means, share_above, t_interval
from ssa.results.children import PAIRING, pairs
from ssa.study.claims import ENOUGH, QUOTED_OF
from ssa.study.methods import CONTROLS, in_order, label

Measure = Callable[..., pd.Series]  # of a cell, against a baseline: one value for each parent


@dataclass(frozen=True)
class Pool:
    """One baseline's differences by parent: in each cell, and averaged over the cells; or why that cannot be.

    ``missing``: the verdict on each cell that could not be compared. ``text``: what is compared.
    """

    group: str
    text: str
    cells: dict[str, pd.Series]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def values(self) -> pd.Series:
        """The mean over cells for each parent that has them all; empty if a cell is missing."""
        if self.missing or not self.cells:
            return pd.Series(dtype=float)
        return pd.concat(self.cells.values(), axis=1, join="inner").mean(axis=1)

    @property
    def lacks(self) -> str:
        """Why the cells have no mean, as a verdict; empty if they have one."""
        if not self.values.empty:
            return ""
        return next(iter(self.missing.values()), f"{NOT_TESTABLE}: no parent has every cell")

    @property
    def head(self) -> str:
        """The comparison that the pooled number makes, in words."""
        words = [*self.cells, *self.missing]
        return f"{self.text}: {words[0] if len(words) == 1 else f'mean over {len(words)} cells'}"

    def judged(
        self, rule: Callable[[pd.Series], str], confidence: float, against: float = 0.0, measure: str | None = None
    ) -> Comparison:
        """The pooled number, its test ``against`` a value, and what ``rule`` says of it."""
        values = self.values
        more: dict[str, Any] = {"measure": measure, "against": against, "group": self.group}
        if values.empty:
            return Comparison(self.head, NONE, self.lacks, **more)
        said = verdicts.known(rule(values), len(values))
        better = share_above(values, confidence)
        return Comparison(self.head, t_interval(values, confidence, against), said, better=better, **more)


def measured(case: Case, group: str, text: str, measure: Callable[[pd.DataFrame], pd.Series]) -> Pool:
    """``measure`` in each cell of the arm."""
    found, missing = {}, {}
    for words, cell in cells(case):
        try:
            values = measure(cell)
            if values.empty:
                raise UntestableError("no pairs of children with scores")
            found[words] = values
        except UntestableError as reason:
            missing[words] = f"{NOT_TESTABLE}: {reason}"
    return Pool(group, text, found, missing)


def difference(method: str, one_machine: bool = False) -> Measure:
    """The test accuracy of ``method`` minus a baseline's; ``one_machine``: of pairs on one kind of hardware only."""

    def measure(cell: pd.DataFrame, baseline: str) -> pd.Series:
        rows, base = at_reference(cell, method), at_reference(cell, baseline)
        paired = pairs(rows, base)
        if one_machine:
            partners = paired[PAIRING].merge(base, on=PAIRING)
            paired = paired[device_kinds(paired).to_numpy() == device_kinds(partners).to_numpy()]
        return parent_means(paired, "difference")

    return measure


def device_kinds(children: pd.DataFrame) -> pd.Series:
    """The kind of device that each child was trained on, with its instructions if the record says them."""
    keys = [key for key in ("device", "instructions") if key in children]
    named = [children[key].astype(object).fillna("").astype(str) for key in keys]
    return named[0] if len(named) == 1 else named[0] + " " + named[1]


def on_one_machine(case: Case, text: str, method: str, baselines: Sequence[str]) -> list[Comparison]:
    """The differences of pairs on one kind of hardware, which are not judged; none if all pairs are."""
    kinds = device_kinds(case.children).groupby(case.children["parent_id"]).nunique()
    if not (kinds > 1).any():
        return []
    measure = "difference in test accuracy, pairs on one kind of hardware (points)"
    return shown(case, pools(case, text, difference(method, one_machine=True), baselines), measure)


def pools(case: Case, text: str, measure: Measure, baselines: Sequence[str]) -> list[Pool]:
    """A pool against each of ``baselines``; ``text`` has a place for the baseline's name."""
    return [
        measured(case, baseline, text.format(label(baseline)), partial(measure, baseline=baseline))
        for baseline in baselines
    ]


def beside_cells(case: Case, found: list[Pool], measure: str | None = None) -> dict[str, list[Comparison]]:
    """By group, the single cells of pools that have several, each with its side of 0 after Holm over all of them."""
    several = [pool for pool in found if len(pool.cells) + len(pool.missing) > 1]
    family = [values for pool in several for values in pool.cells.values()]
    side = iter(verdicts.sides(family, case.confidence))
    adjusted = iter(_holm_of_direction(family))
    rows: dict[str, list[Comparison]] = {pool.group: [] for pool in found}
    for pool in several:
        for words, values in pool.cells.items():
            interval, p = t_interval(values, case.confidence), next(adjusted)
            said = verdicts.known(next(side), interval.n)
            p = math.nan if math.isnan(interval.p) else p
            rows[pool.group].append(_cell(pool, words, interval, said, p, measure))
        rows[pool.group] += [_cell(pool, words, NONE, said, math.nan, measure) for words, said in pool.missing.items()]
    return rows


def _cell(pool: Pool, words: str, interval: Interval, said: str, p: float, measure: str | None) -> Comparison:
    return Comparison(f"{pool.text}: {words}", interval, said, p, measure, role=SINGLE, group=pool.group)


def _not_compared(pool: Pool) -> list[Comparison]:
    missing = pool.missing.items()
    return [Comparison(f"{pool.text}: {cell}", NONE, why, group=pool.group, cell=cell) for cell, why in missing]


def _judged_cell(pool: Pool, words: str, said: str, p: float, confidence: float, against: float = 0.0) -> Comparison:
    """One cell of ``pool`` with what is ``said`` of it, for a claim that judges its cells."""
    values = pool.cells[words]
    interval, better = t_interval(values, confidence, against), share_above(values, confidence)
    told = verdicts.known(said, interval.n)
    text = f"{pool.text}: {words}"
    return Comparison(text, interval, told, p, against=against, group=pool.group, cell=words, better=better)


def _holm_of_direction(family: list[pd.Series]) -> list[float]:
    """Holm's p-value of each of ``family`` in the direction in which it lies, as a two-sided one."""
    up, down = (statistics.holm([verdicts.one_sided(values, sign) for values in family]) for sign in (1, -1))
    return [verdicts.both_sides(min(a, b)) for a, b in zip(up, down, strict=True)]


def gains(case: Case, found: list[Pool], in_family: bool = False, measure: str | None = None) -> list[Comparison]:
    """Each of ``found``, the cells beside it; ``in_family``: a gain must also hold after Holm over the pools."""
    pooled = [pool.values for pool in found]
    p_values = [t_interval(values).p for values in pooled]
    adjusted = statistics.holm([1.0 if math.isnan(p) else p for p in p_values]) if in_family else np.zeros(len(found))
    beside = beside_cells(case, found, measure)
    rows = []
    for pool, p, raw in zip(found, adjusted, p_values, strict=True):

        def rule(values: pd.Series, p: float = p) -> str:
            return verdicts.gain(values, case.smallest, case.confidence, len(found), p)

        judged = pool.judged(rule, case.confidence, measure=measure)
        rows += [replace(judged, p_holm=p if in_family and not math.isnan(raw) else math.nan), *beside[pool.group]]
    return rows


def shown(case: Case, found: list[Pool], measure: str) -> list[Comparison]:
    """The pooled number of each of ``found``, which is not judged."""
    return [replace(pool.judged(lambda _: "", case.confidence, measure=measure), role=BESIDE) for pool in found]


def _gain(case: Case) -> list[Comparison]:
    method, baselines = case.ssa["method"], case.settings["baselines"]
    text = f"{label(method)} minus {{}}"
    found = gains(case, pools(case, text, difference(method), baselines))
    return [*found, *on_one_machine(case, text, method, baselines)]


def _controls(case: Case) -> list[Comparison]:
    """SSA against its variants: those named, else temperature on all weights and whichever others were run."""
    run = set(case.children["method"]) | {"temperature-all"}
    baselines = case.settings["baselines"] or in_order(run & set(CONTROLS))
    method = case.ssa["method"]
    found = pools(case, f"{label(method)} minus {{}}", difference(method), baselines)
    return gains(case, found, in_family=True)


def _ensembles(case: Case) -> list[Comparison]:
    if case.ensembles is None:
        raise UntestableError("no ensembles in this study")
    return compare_ensembles(case.ensembles, case.settings, case.ssa["method"], case.smallest, case.confidence)


def _best_length(case: Case) -> list[Comparison]:
    """Every other length of annealing against the better of those claimed to be best."""
    best = sorted(case.settings["best"])
    named = ", ".join(f"{e:g}" for e in best)
    run = {e for _, cell in cells(case) for e in lengths(case, cell)["anneal_epochs"]}
    others = sorted(run - set(best))
    if not others:
        raise UntestableError("no other length of annealing")
    found = {other: [_over(case, other, e) for e in best] for other in others}
    text = f"e = {{:g}} minus the better of e = {named}"
    heads, intervals, reasons = [], [], []
    for other, against in found.items():
        reason = next((pool.lacks for pool in against if pool.lacks), "")
        heads.append(replace(against[0], text=text.format(other)))
        intervals.append(
            NONE if reason else verdicts.gain_over_better([pool.values for pool in against], case.confidence)
        )
        reasons.append(reason)
    said, adjusted = verdicts.rivals(intervals, case.smallest, case.confidence)
    rows = []
    for head, against, interval, reason, verdict, p in zip(
        heads, found.values(), intervals, reasons, said, adjusted, strict=True
    ):
        told = reason or verdicts.known(verdict, interval.n)
        better = NONE if reason else verdicts.lowest_share([pool.values for pool in against], case.confidence)
        adjusted_p = math.nan if reason else p
        rows.append(Comparison(head.head, interval, told, adjusted_p, group=head.group, better=better))
        rows += _length_cells(case, against, head)
    return rows


def _over(case: Case, other: float, e: float) -> Pool:
    """The gain of annealing for ``other`` epochs over annealing for ``e``."""

    def measure(cell: pd.DataFrame) -> pd.Series:
        rows = lengths(case, cell)
        mine, base = (rows[rows["anneal_epochs"] == length] for length in (other, e))
        for part, length in ((mine, other), (base, e)):
            if part.empty:
                raise UntestableError(f"no children at e = {length:g}")
        return parent_means(pairs(mine, base), "difference")

    return measured(case, f"e = {other:g}", "", measure)


def _length_cells(case: Case, against: list[Pool], head: Pool) -> Iterator[Comparison]:
    """The single cells of one rival length, if there are several."""
    words = against[0].cells if len(against[0].cells) + len(against[0].missing) > 1 else {}
    for cell in words:
        if all(cell in pool.cells for pool in against):
            interval = verdicts.gain_over_better([pool.cells[cell] for pool in against], case.confidence)
            yield Comparison(f"{head.text}: {cell}", interval, role=SINGLE, group=head.group)


def _quoted(case: Case) -> list[Comparison]:
    """SSA's gain over one-shot against the figure quoted for each learning-rate schedule."""
    method, found = case.ssa["method"], []
    for schedule, points in case.settings["quoted"].items():
        part = replace(case, settings={**case.settings, "lr_schedules": [schedule]})
        for pool in pools(part, f"{label(method)} minus {{}}", difference(method), ["one-shot"]):

            def rule(values: pd.Series, points: float = points) -> str:
                return _elsewhere(case) or verdicts.quoted(t_interval(values, case.confidence), points)

            judged = pool.judged(rule, case.confidence, against=points)
            found.append(replace(judged, text=f"{judged.text}; quoted {points:+g}", cell=f"{schedule} rate"))
        found += on_one_machine(part, f"{label(method)} minus {{}}", method, ["one-shot"])
    return found


def _elsewhere(case: Case) -> str:
    """Why a quoted figure cannot be tested on the arm's network and data set; empty if it can."""
    for key, known in QUOTED_OF.items():
        if other := sorted(set(case.children[key]) - set(known)):
            return f"{NOT_TESTABLE}: quoted of ResNet-18 on CIFAR-100, not of {other[0]}"
    return ""


def _drop(case: Case) -> list[Comparison]:
    """How much deeper than SSA's the baseline's drop is within the epochs that SSA anneals, as networks are used."""
    method = case.ssa["method"]

    def of(key: str) -> Measure:
        def measure(cell: pd.DataFrame, baseline: str) -> pd.Series:
            ssa = at_reference(cell, method)
            e = float(ssa["anneal_epochs"].iloc[0])
            lower, upper = (with_drop(rows, case.history, e, key) for rows in (ssa, at_reference(cell, baseline)))
            return parent_means(pairs(upper, lower, "drop"), "difference")

        return measure

    words, baselines = f"drop of {{}} minus drop of {label(method)}", case.settings["baselines"]
    found = gains(case, pools(case, words, of("mean"), baselines))
    more = [one for one in ["iterative"] if one not in baselines and one in set(case.children["method"])]
    others = [*baselines, *more]
    for key, measure in MEASURES.items():
        told = more if key == "mean" else others
        found += shown(case, pools(case, words, of(key), told), measure)
    return found


def _stability(case: Case) -> list[Comparison]:
    """How much further SSA's accuracy lies from its median than each baseline's from its own; the ratios beside it."""
    method = case.ssa["method"]

    def accuracies(cell: pd.DataFrame, baseline: str) -> pd.DataFrame:
        return statistics.beside_partners(pairs(at_reference(cell, method), at_reference(cell, baseline)))

    def measure(cell: pd.DataFrame, baseline: str) -> pd.Series:
        means = accuracies(cell, baseline)
        if len(means) < ENOUGH:
            raise UntestableError(f"{len(means)} parents; {ENOUGH} are needed to see a difference in stability")
        return pd.Series(verdicts.deviations(means["accuracy"], means["partner"]), index=means.index)

    words = f"{label(method)} against {{}}"
    found = pools(case, words, measure, case.settings["baselines"])
    family = [values for pool in found for values in pool.cells.values()]
    said, adjusted = iter(verdicts.steadier(family, case.confidence)), iter(_holm_of_direction(family))
    rows = []
    for pool in found:
        rows += [_judged_cell(pool, cell, next(said), next(adjusted), case.confidence) for cell in pool.cells]
        rows += _not_compared(pool)
    for baseline in case.settings["baselines"]:
        rows += _ratios(case, words.format(label(baseline)), partial(accuracies, baseline=baseline))
    return rows


def _ratios(case: Case, text: str, accuracies: Callable[[pd.DataFrame], pd.DataFrame]) -> Iterator[Comparison]:
    """The ratio of variances in each cell that can be compared, which is not judged."""
    for words, cell in cells(case):
        try:
            means = accuracies(cell)
        except UntestableError:
            continue
        ratio = statistics.variance_ratio(means["accuracy"], means["partner"], case.confidence)
        yield Comparison(f"{text}: {words}", ratio, "", math.nan, "ratio of variances", 1.0, BESIDE)


def _small(case: Case) -> list[Comparison]:
    """SSA's gain over re-ranked iterative pruning, claimed small; the gain over one-shot is shown."""
    method, bound = case.ssa["method"], case.settings["small"]
    text, measure = f"{label(method)} minus {{}}", difference(method)
    found = pools(case, text, measure, case.settings["baselines"])
    beside, rows = beside_cells(case, found), []
    for pool in found:

        def rule(values: pd.Series) -> str:
            return verdicts.small(t_interval(values, case.confidence), bound)

        rows += [pool.judged(rule, case.confidence, bound), *beside[pool.group]]
    if "one-shot" in case.settings["baselines"]:
        return rows
    return [*rows, *shown(case, pools(case, text, measure, ["one-shot"]), "gain over one-shot (points)")]


def _small_in_most(case: Case) -> list[Comparison]:
    """Iterative pruning's gain over one-shot, cell by cell."""
    bound, method = case.settings["small"], "iterative"
    found = pools(case, f"{label(method)} minus {{}}", difference(method), case.settings["baselines"])
    family = [values for pool in found for values in pool.cells.values()]
    said = iter(verdicts.small_in_cells(family, bound, case.confidence))
    adjusted = iter(_holm_of_direction([values - bound for values in family]))
    rows = []
    for pool in found:
        rows += [_judged_cell(pool, cell, next(said), next(adjusted), case.confidence, bound) for cell in pool.cells]
        rows += _not_compared(pool)
    return rows


TESTS: Mapping[str, Callable[[Case], list[Comparison]]] = {
    "C1": _gain,
    "C2": _gain,
    "C3": _ensembles,
    "C4": _best_length,
    "C5": _quoted,
    "C6": _drop,
    "C7": _controls,
    "C8": _stability,
    "C9": _small,
    "C10": _small_in_most,
}
