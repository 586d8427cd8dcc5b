"""The failure signatures that the paper names, looked for in a study's record: where, on what evidence, what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis.statistics import Interval, over_parents, spread_ratio
from ssa.errors import UserError, reading
from ssa.results.children import CELL, collapsed, pairs, read_children, trained_on
from ssa.study.methods import CATALOGUE, CONTROLS, label

SETTING = ["method", "tau", "anneal_epochs", "anneal_schedule"]

READING = (
    "Intervals: 95%, over n parents. No gain means that the interval is not above 0; where it reaches above, too few "
    "parents may be the reason. Where there is no drop and no higher variance, one in 40 is named by chance."
)


@dataclass(frozen=True)
class Signature:
    """A failure signature: how it is measured, which intervals show it, and what the paper does to tau.

    ``measure`` takes the children of one setting, with the column ``first`` of :func:`examined`, and the one-shot
    children. Without ``needs``, and with fewer than ``fewest`` parents, the signature is not testable.
    """

    name: str
    measure: Callable[[pd.DataFrame, pd.DataFrame], Interval]
    shows: Callable[[Interval], bool]
    evidence: str
    tau: str
    needs: str
    fewest: int = 2

    def testable(self, interval: Interval) -> bool:
        """Whether ``interval`` has bounds, from parents enough."""
        return interval.n >= self.fewest and not math.isnan(interval.low)


@dataclass(frozen=True)
class Setting:
    """One setting of a method in one cell: what was measured, and how many children diverged or collapsed."""

    cell: Mapping[str, Any]
    values: Mapping[str, Any]
    measured: tuple[tuple[Signature, Interval], ...]
    diverged: int
    collapsed: int

    @property
    def shown(self) -> list[tuple[Signature, Interval]]:
        """The signatures that it shows, each with its evidence."""
        return [(one, interval) for one, interval in self.measured if one.testable(interval) and one.shows(interval)]


def first_epoch(rows: pd.DataFrame, one_shot: pd.DataFrame) -> Interval:
    """The target subnetwork's test accuracy after the first epoch minus that before the first step, in points."""
    return over_parents(rows, "first")


def gain_over_one_shot(rows: pd.DataFrame, one_shot: pd.DataFrame) -> Interval:
    """The paired difference in final test accuracy to one-shot, in points."""
    return over_parents(pairs(rows, one_shot), "difference")


def spread(rows: pd.DataFrame, one_shot: pd.DataFrame) -> Interval:
    """The standard deviation over parents of final test accuracy divided by that of one-shot, paired.

    The square root of :func:`ssa.analysis.statistics.spread_ratio` (Pitman-Morgan) and its bounds.
    """
    ratio = spread_ratio(pairs(rows, one_shot))
    return Interval(math.sqrt(ratio.mean), math.sqrt(ratio.low), math.sqrt(ratio.high), ratio.p, ratio.n)


SIGNATURES = (
    Signature(
        "drop at the first epoch",
        first_epoch,
        lambda interval: interval.high < 0,
        "{:+.2f} points of test accuracy from before the first step to epoch 1",
        "lower",
        "test accuracy at epochs 0 and 1, 2 parents",
    ),
    Signature(
        "no gain over one-shot",
        gain_over_one_shot,
        lambda interval: not interval.low > 0,
        "{:+.2f} points of test accuracy, paired",
        "raise",
        "one-shot children of the same cell, 2 parents",
    ),
    # Of independent standard deviations, the ratio must exceed 3.1 at n = 6 to be seen, but 6.2 at n = 4: with fewer
    # parents, a high variance that is not found would say next to nothing.
    Signature(
        "high variance over seeds",
        spread,
        lambda interval: interval.low > 1,
        "standard deviation over parents {:.2f} times that of one-shot",
        "adjust",
        "one-shot children of the same cell, 6 parents that differ",
        fewest=6,
    ),
)


def diagnose(path: Path) -> str:
    """The failure signatures in the study whose history.parquet is ``path``, as text, by cell.

    - *drop at the first epoch*: the interval of :func:`first_epoch` lies below 0. The history's accuracies are the
      target subnetwork's, with BatchNorm statistics re-estimated. One that only guesses before the first step has
      nothing to lose: there the signature cannot show.
    - *no gain over one-shot*: the interval of :func:`gain_over_one_shot` does not lie above 0; that alone is no proof
      of a loss.
    - *high variance over seeds*: the interval of :func:`spread` lies above 1, from 6 parents or more.

    Intervals are at 95%, over parents. :func:`examined` says what is looked at. ``UserError`` if ``path``, or
    children.csv beside it, is missing or is something else.
    """
    children, history = _read(path)
    settings = list(_measure(examined(children, history), children))
    if not settings:
        return f"{path}: no child was annealed by a method of the paper, or by one of your own"
    ill = [setting for setting in settings if setting.shown]
    lines = [f"{path}: failure signatures in {len(ill)} of {len(settings)} settings ({_counts(settings)})"]
    if ill:
        common = {key: value for key, value in ill[0].cell.items() if all(one.cell[key] == value for one in ill)}
        lines += ["", f"In every cell below: {_words(common)}."]
        for cell, found in groupby(ill, lambda setting: setting.cell):
            own = {key: value for key, value in cell.items() if key not in common}
            lines += ["", *([_words(own)] if own else []), *(line for setting in found for line in _lines(setting))]
        lines += ["", f"{READING} Hardware: {trained_on(children)}."]
    return "\n".join(lines)


def examined(children: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The annealed children, iterative pruning's and the controls' aside, with ``first``.

    ``first`` is the test accuracy at epoch 1 minus that at epoch 0, in points; NaN if either was not scored.
    """
    baselines = {name for name, method in CATALOGUE.items() if method.law == "Iterative"}
    own = ~children["method"].isin(baselines | set(CONTROLS))
    curves = history.pivot(index="child_id", columns="epoch", values="test_accuracy").reindex(columns=[0, 1])
    change = curves[1] - curves[0]
    rows = children[own & children["anneal_epochs"].notna()]
    return rows.assign(first=rows["child_id"].map(change))


def _read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    for file in (path, path.with_name("children.csv")):
        if not file.is_file():
            raise UserError(f"{file} is not a file; ssa aggregate writes a study's history.parquet and children.csv")
    with reading(path):
        history = pd.read_parquet(path, columns=["child_id", "epoch", "test_accuracy"])
    return read_children(path.parent), history


def _measure(rows: pd.DataFrame, children: pd.DataFrame) -> Iterator[Setting]:
    """Every setting of ``rows``, those of one cell side by side."""
    one_shot = children[(children["method"] == "one-shot") & children["reference"]]
    for cell_values, cell in rows.groupby(CELL):
        for values, group in cell.groupby(SETTING, dropna=False):
            measured = tuple((signature, signature.measure(group, one_shot)) for signature in SIGNATURES)
            keys = dict(zip(CELL, cell_values, strict=True)), dict(zip(SETTING, values, strict=True))
            yield Setting(*keys, measured, int(group["diverged"].sum()), int(collapsed(group).sum()))


def _counts(settings: list[Setting]) -> str:
    """How often each signature shows among the settings where it is testable, and what the others lack."""
    parts = []
    for i, signature in enumerate(SIGNATURES):
        testable = sum(signature.testable(setting.measured[i][1]) for setting in settings)
        shown = sum(signature in dict(setting.shown) for setting in settings)
        lacking = f" testable; the others lack {signature.needs}" if testable < len(settings) else ""
        parts.append(f"{signature.name}: {shown} of {testable}{lacking}")
    return "; ".join(parts)


def _lines(setting: Setting) -> Iterator[str]:
    values = setting.values
    tau = "" if pd.isna(values["tau"]) else f", tau {values['tau']:g}"
    schedule = "" if pd.isna(values["anneal_schedule"]) else f", {values['anneal_schedule']}"
    diverged = f"; {setting.diverged} diverged" if setting.diverged else ""
    diverged += f"; {setting.collapsed} collapsed when BatchNorm was re-estimated" if setting.collapsed else ""
    yield f"  {label(values['method'])}{tau}, annealed for {values['anneal_epochs']:g} epochs{schedule}{diverged}"
    for signature, found in setting.shown:
        evidence = signature.evidence.format(found.mean)
        yield f"    {signature.name}: {evidence} [{found.low:.2f}, {found.high:.2f}], n = {found.n}"
        yield "      the paper's remedy: anneal for longer" + (f", or {signature.tau} tau" if tau else "")


def _words(cell: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value}" if isinstance(value, (str, bool)) else f"{key} {value:g}" for key, value in cell.items()
    )
