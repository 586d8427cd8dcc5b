"""The study's own numbers beside what is known of them: to be looked at before any claim is believed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from ssa.analysis.claims.verdicts import UNDECIDED
from ssa.analysis.statistics import Interval, over_parents, t_interval
from ssa.report.tables.published import ALL_IMAGES, DENSE, KNOWN, PRUNED, published, published_children
from ssa.report.tables.style import Part, Table, number, plus_minus
from ssa.results.children import PARENT, having, trained_on
from ssa.results.ensembles import by_name, groups

NEAR = 0.5  # points that a dense parent may lie off
LOSS = 2.5  # points that one-shot magnitude pruning may cost
THUMB = "rule of thumb"
WITHIN, BELOW, ABOVE = "as known", "below", "above"
NOT_JUDGED = "not judged: its sparsity is not known"
COLUMNS = ["check", "arm", "estimate", "low", "high", "n", "known_low", "known_high", "source", "verdict", "device"]
TITLE = "Sanity: our numbers beside known ones"


def sanity(children: pd.DataFrame, ensembles: pd.DataFrame | None) -> Table | None:
    """Dense parents, one-shot magnitude pruning and published ensembles, those that the study has; None if it has none.

    ``verdict``: :data:`WITHIN` where our mean lies from ``known_low`` to ``known_high`` (percent, or points of
    difference), else :data:`BELOW` or :data:`ABOVE` if our whole 95% interval does, else undecided;
    :data:`NOT_JUDGED` beside numbers that were published without a sparsity.
    """
    found = [
        *_parents(children),
        *_one_shot(children),
        *_children(children),
        *(() if ensembles is None else _ensembles(ensembles)),
    ]
    if not found:
        return None
    note = (
        "Ours: mean ± half-width of the 95% t-interval over n parents or seeds. As known: our mean lies in the range "
        "that is known; below or above: our whole interval does; undecided: neither."
    )
    known = (
        f"Known of dense parents: others' accuracy ± {NEAR:g}; of one-shot pruning: a loss of at most {LOSS:g} points, "
        "a rule of thumb for large networks; of ensembles: the published accuracy ± 2 standard errors."
    )
    shown = [printed_line(row) for row in found]
    head = ["Check", "Arm", "Ours", "n", "Known", "Source", "Verdict"]
    part = Part(known, pd.DataFrame(shown, columns=head))
    return Table("table4_sanity", TITLE, note, (part,), pd.DataFrame(found, columns=COLUMNS))


def verdict(ours: Interval, low: float, high: float) -> str:
    """Where ``ours`` lies beside what is known, from ``low`` to ``high``; undecided if an interval is missing."""
    if low <= ours.mean <= high:
        return WITHIN
    if ours.high < low:
        return BELOW
    return ABOVE if ours.low > high else UNDECIDED


def _parents(children: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Dense parents of known networks, on all images, whose children augment."""
    usual = children[(children["train_images"] == ALL_IMAGES) & children["augment"]]
    for (kind, dataset, model), rows in usual.groupby(["parent", "dataset", "model"], sort=False):
        known = DENSE.get((str(dataset), str(model)))
        if known:
            low, high, source = known
            ours = over_parents(rows.drop_duplicates(PARENT), "parent_accuracy")
            yield _row("dense parent (%)", f"{kind}: {dataset}, {model}", ours, (low - NEAR, high + NEAR), source, rows)


def _one_shot(children: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The cost to the parents of one-shot pruning by magnitude, for each recipe of fine-tuning."""
    asked = {**KNOWN, "method": "one-shot", "sparsity": PRUNED}
    pruned = having(children, asked)
    keys = ["parent", "allocation", "stem", "epochs", "lr_schedule", "lr"]
    for (kind, allocation, stem, epochs, schedule, lr), rows in pruned.groupby(keys, sort=False):
        arm = f"{kind}: {allocation}, {stem} stem, {epochs:g} epochs, {schedule} rate ({lr:g})"
        ours = over_parents(rows.assign(cost=rows["accuracy"] - rows["parent_accuracy"]), "cost")
        yield _row(f"one-shot, magnitude, {PRUNED}%, minus parent (points)", arm, ours, (-LOSS, math.inf), THUMB, rows)


def _children(children: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Children under magnitude masks on all images, at each sparsity, beside those that the paper's reviews quote."""
    asked = {**KNOWN, "train_images": ALL_IMAGES, "reference": True}
    keys = ["parent", "dataset", "model", "method", "sparsity", "epochs", "lr_schedule"]
    for (kind, dataset, model, method, sparsity, epochs, rate), rows in having(children, asked).groupby(
        keys, sort=False
    ):
        for row in published_children(str(dataset), str(model)):
            if row["method"] == method:
                arm = f"{kind}: {method}, magnitude masks, {sparsity:g}%, {epochs:g} epochs, {rate} rate"
                ours, known = over_parents(rows, "accuracy"), float(row["accuracy"])
                found = _row("accuracy quoted from the paper (%)", arm, ours, (known, known), row["source"], rows)
                yield {**found, "verdict": NOT_JUDGED}


def _ensembles(ensembles: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Ensembles, on all images, of a name, size and budget that somebody published with a standard error."""
    for dataset, model, cells in groups(ensembles[ensembles["train_images"] == ALL_IMAGES]):
        known = {row["method"]: row for row in published(dataset, model) if row["accuracy_se"]}
        for name, rows in by_name(cells):
            row, first = known.get(name), rows.iloc[0]
            if row and [float(row[key]) for key in ("members", "epochs")] == [first["members"], first["epochs"]]:
                mean, spread = float(row["accuracy"]), 2 * float(row["accuracy_se"])
                ours = t_interval(rows["accuracy"])
                limits = (mean - spread, mean + spread)
                yield _row("published ensemble (%)", f"{dataset}, {model}: {name}", ours, limits, row["source"], rows)


def _row(
    check: str, arm: str, ours: Interval, known: tuple[float, float], source: str, rows: pd.DataFrame
) -> dict[str, Any]:
    numbers = {"estimate": ours.mean, "low": ours.low, "high": ours.high, "n": ours.n}
    limits = {"known_low": known[0], "known_high": known[1], "source": source, "verdict": verdict(ours, *known)}
    return {"check": check, "arm": arm, **numbers, **limits, "device": trained_on(rows)}


def printed_line(row: dict[Any, Any]) -> dict[str, Any]:
    """A row as it is printed."""
    low, high = row["known_low"], row["known_high"]
    known = number(low) if low == high else f"{number(low)} to {number(high)}"
    if math.isinf(high):
        known = f"at least {number(low)}"
    ours = plus_minus(row["estimate"], row["low"], row["high"], row["n"])
    end = {"Source": row["source"], "Verdict": row["verdict"]}
    return {"Check": row["check"], "Arm": row["arm"], "Ours": ours, "n": row["n"], "Known": known, **end}
