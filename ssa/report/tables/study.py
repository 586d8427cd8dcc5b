"""The study's tables: accuracy, ablation, paired differences and sanity, as CSV (numbers), Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import pandas as pd

from ssa.analysis import statistics
from ssa.analysis.statistics import DASH, p_text
from ssa.report.tables.style import Part, Table, bracketed, number, plus_minus
from ssa.results.children import COLLAPSE, PARENT, collapsed, devices, differences, pairs
from ssa.study.methods import in_order, label

BASELINE, ABLATED = "one-shot", "temperature"
TRAINING = ["parent", "dataset", "model", "train_images", "augment", "epochs", "lr_schedule", "lr"]
GROUP = [*TRAINING, "criterion", "structure", "allocation", "stem"]
SETTING = ["tau", "anneal_epochs", "anneal_schedule"]
ACCURACY = ["mean", "low", "high", "n", "children", "diverged"]
DIFFERENCE = ["difference", "difference_low", "difference_high"]
DIFFERENCE_HEAD = [
    *("Method", "Sparsity", "Difference", "n", "p", "Bootstrap", "SD between", "SD within", "BN re-estimated"),
]
LEVEL = 0.05  # of the test against a column's best
RESAMPLED = 5  # parents, below which a bootstrap has too few to draw from

SPREAD = "Mean ± half-width of the 95% t-interval over parents, one parent's children averaged first"
DIVERGED = "†k: k diverged children, counted in mean and n as they evaluate"


def accuracy(children: pd.DataFrame) -> Table | None:
    """Test accuracy by method and sparsity, reference settings only, with the dense child and the parent."""
    parts, rows = [], []
    for group, cells in _groups(children[children["reference"]], GROUP):
        found = [*_unpruned(children, cells), *_accuracies(cells)]
        rows += [{**group, **row} for row in found]
        parts.append(_accuracy_part(group, pd.DataFrame(found), cells))
    extra = ["realised_sparsity", "effective_sparsity", "p_to_best", "bold", "device"]
    columns = [*GROUP, "method", "sparsity", *ACCURACY, *extra]
    return _table("table1_accuracy", "Test accuracy by method and sparsity", parts, rows, columns)


def ablation(children: pd.DataFrame) -> Table | None:
    """Test accuracy of temperature annealing over tau, length and schedule, wherever more than one setting was run."""
    parts, rows = [], []
    one_shot = children[children["method"] == BASELINE]
    for group, cells in _groups(children[children["method"] == ABLATED], [*GROUP, "sparsity"]):
        if len(cells[SETTING].drop_duplicates()) == 1:
            continue
        found = [_variant(setting, variant, one_shot) for setting, variant in _groups(cells, SETTING)]
        rows += [{**group, **row} for row in found]
        parts.append(_ablation_part(group, pd.DataFrame(found), cells))
    columns = [*GROUP, "sparsity", *SETTING, "reference", *ACCURACY, *DIFFERENCE, "device"]
    return _table("table2_ablation", "Ablation of temperature annealing", parts, rows, columns)


def paired_differences(children: pd.DataFrame) -> Table | None:
    """Paired differences to one-shot at reference settings, with a bootstrap and the spread's two components."""
    parts, rows = [], []
    compared = children[children["reference"] & (children["method"] != "dense")]
    paired = differences(compared, BASELINE)
    reestimated = differences(compared.assign(diverged=collapsed(compared)), BASELINE, "accuracy_bn")
    paired = paired.assign(difference_bn=reestimated["difference"], collapsed=reestimated["diverged"])
    for group, cells in _groups(paired, GROUP):
        found = [_difference(method, sparsity, part) for method, sparsity, part in _by_method(cells)]
        rows += [{**group, **row} for row in found]
        parts.append(_difference_part(group, pd.DataFrame(found), cells))
    extra = ["bootstrap_low", "bootstrap_high", "sd_between", "sd_within", "diverged"]
    batchnorm = ["difference_bn", "difference_bn_low", "difference_bn_high", "collapsed"]
    columns = [*GROUP, "method", "sparsity", *DIFFERENCE, "n", "p", *extra, *batchnorm, "device"]
    return _table("table3_differences", "Paired differences to one-shot", parts, rows, columns)


def _table(name: str, title: str, parts: list[Part], rows: list[dict[str, Any]], columns: list[str]) -> Table | None:
    """The table; None if the study has nothing to fill it with."""
    return Table(name, title, tuple(parts), pd.DataFrame(rows, columns=columns)) if parts else None


def _groups(rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The groups of pruned children in ``rows`` by ``keys``, in the keys' order."""
    for values, group in rows[rows["method"] != "dense"].groupby(keys, dropna=False):
        yield dict(zip(keys, values, strict=True)), group


def _by_method(cells: pd.DataFrame) -> Iterator[tuple[str, float, pd.DataFrame]]:
    for method in in_order(cells["method"]):
        for sparsity, part in cells[cells["method"] == method].groupby("sparsity"):
            yield method, cast(float, sparsity), part


def _words(group: dict[str, Any]) -> str:
    """A group's caption."""
    augmented = "augmented" if group["augment"] else "not augmented"
    images = f"{group['train_images']} training images"
    words = [
        f"{group['parent']} ({group['dataset']}, {group['model']}, {images}, {augmented})",
        f"{group['criterion']} masks of {group['structure']}",
        f"{group['allocation']} allocation",
        f"{group['stem']} stem",
        f"{group['epochs']} epochs, {group['lr_schedule']} rate ({group['lr']:g})",
    ]
    sparsity = [f"{group['sparsity']:g}% sparsity"] if "sparsity" in group else []
    return "; ".join(words + sparsity)


def _counts(found: pd.DataFrame, cells: pd.DataFrame) -> str:
    """How many parents, and on what: the end of every caption."""
    return f"n = {_usual(found)} parents unless said otherwise. Hardware: {devices(cells)}."


def _usual(found: pd.DataFrame) -> int:
    return int(found["n"].mode().max())


def _summary(cells: pd.DataFrame, column: str = "accuracy") -> dict[str, Any]:
    """The columns of :data:`ACCURACY` for one cell."""
    interval = statistics.over_parents(cells, column)
    ends = {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
    return {**ends, "children": len(cells), "diverged": int(cells["diverged"].sum())}


def _unpruned(children: pd.DataFrame, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the group's parents and of their dense children with the same training."""
    parents = cells.drop_duplicates(PARENT).assign(diverged=False)
    rows = [{"method": "parent", "sparsity": 0.0, **_summary(parents, "parent_accuracy"), "children": 0}]
    same = children[children["method"] == "dense"].merge(cells[[*TRAINING, "parent_seed"]].drop_duplicates())
    if not same.empty:
        rows.append({"method": "dense", "sparsity": 0.0, **_summary(same), "device": devices(same)})
    return rows


def _accuracies(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each method and sparsity, with the paired test against the best of its sparsity."""
    rows: list[dict[str, Any]] = []
    for method, sparsity, part in _by_method(cells):
        means = {key: part[key].mean() for key in ("realised_sparsity", "effective_sparsity")}
        rows.append({"method": method, "sparsity": sparsity, **_summary(part), **means, "device": devices(part)})
    for level, column in cells.groupby("sparsity"):
        rivals = [row for row in rows if row["sparsity"] == level]
        best = max(rivals, key=lambda row: row["mean"])["method"]
        for row in rivals:
            row["p_to_best"] = 1.0 if row["method"] == best else _p_between(column, row["method"], best)
            row["bold"] = len(rivals) > 1 and row["p_to_best"] >= LEVEL
    return rows


def _p_between(cells: pd.DataFrame, method: str, best: str) -> float:
    paired = pairs(cells[cells["method"] == method], cells[cells["method"] == best])
    return statistics.over_parents(paired, "difference").p


def _accuracy_part(group: dict[str, Any], found: pd.DataFrame, cells: pd.DataFrame) -> Part:
    usual = _usual(found)
    shown = {name: dict.fromkeys(sorted(found["sparsity"].unique()), DASH) for name in found["method"].unique()}
    for row in found.to_dict("records"):
        text = _plus_minus(row, usual)
        shown[row["method"]][row["sparsity"]] = f"**{text}**" if row["bold"] is True else text
    frame = pd.DataFrame(shown).T
    frame.columns = pd.Index([f"{sparsity:g}%" for sparsity in frame.columns])
    frame.insert(0, "Method", ["Parent" if name == "parent" else label(name) for name in shown])
    caption = (
        f"Test accuracy (%) by method and sparsity: {_words(group)}. {SPREAD}. Bold: a column's "
        f"best, and all that are not significantly worse (paired t-test over parents, p ≥ {LEVEL:g}, uncorrected). "
        f"{DIVERGED}. {_counts(found, cells)}"
    )
    return Part(caption, frame)


def _plus_minus(row: Mapping[Any, Any], usual: int) -> str:
    """Mean ± half-width, then what is unusual about the cell."""
    text = plus_minus(row["mean"], (row["high"] - row["low"]) / 2)
    return (
        text + (f" †{row['diverged']}" if row["diverged"] else "") + (f" (n={row['n']})" if row["n"] != usual else "")
    )


def _variant(setting: dict[str, Any], variant: pd.DataFrame, one_shot: pd.DataFrame) -> dict[str, Any]:
    """One setting of the ablation: its accuracy, and its paired difference to one-shot."""
    difference = statistics.over_parents(pairs(variant, one_shot), "difference")
    gain = dict(zip(DIFFERENCE, (difference.mean, difference.low, difference.high), strict=True))
    reference = bool(variant["reference"].all())
    return {**setting, "reference": reference, **_summary(variant), **gain, "device": devices(variant)}


def _ablation_part(group: dict[str, Any], found: pd.DataFrame, cells: pd.DataFrame) -> Part:
    usual = _usual(found)
    texts = [_plus_minus(row, usual) + (" (ref.)" if row["reference"] else "") for row in found.to_dict("records")]
    grid = found.assign(text=texts).pivot(index=["anneal_schedule", "tau"], columns="anneal_epochs", values="text")
    grid.columns = pd.Index([f"e = {epochs:g}" for epochs in grid.columns])
    frame = grid.fillna(DASH).reset_index().rename(columns={"anneal_schedule": "Schedule"})
    frame["tau"] = [f"{tau:g}" for tau in frame["tau"]]
    caption = (
        f"Test accuracy (%) of {label(ABLATED)} over its initial probability tau, the schedule and the length e of the "
        f"annealing (epochs): {_words(group)}. {SPREAD}. (ref.): the setting fixed beforehand. "
        f"{DIVERGED}. {_counts(found, cells)}"
    )
    return Part(caption, frame)


def _difference(method: str, sparsity: float, part: pd.DataFrame) -> dict[str, Any]:
    """One line of the differences; ``part`` holds paired children of one method and sparsity."""
    interval = statistics.over_parents(part, "difference")
    by_parent = statistics.by_parent(part, "difference")
    enough = len(by_parent) >= RESAMPLED
    low, high = statistics.bootstrap_interval(by_parent if enough else [], np.random.default_rng(0))
    spread = statistics.components(by_parent)
    batchnorm = statistics.over_parents(part, "difference_bn")
    return {
        **{"method": method, "sparsity": sparsity, "n": interval.n, "p": interval.p},
        **dict(zip(DIFFERENCE, (interval.mean, interval.low, interval.high), strict=True)),
        **{"bootstrap_low": low, "bootstrap_high": high, "sd_between": spread.between, "sd_within": spread.within},
        **{"diverged": int(part["diverged"].sum()), "device": devices(part)},
        **{"difference_bn": batchnorm.mean, "difference_bn_low": batchnorm.low, "difference_bn_high": batchnorm.high},
        "collapsed": int(part["collapsed"].sum()),
    }


def _difference_part(group: dict[str, Any], found: pd.DataFrame, cells: pd.DataFrame) -> Part:
    lines = []
    for row in found.to_dict("records"):
        mark = f" †{row['diverged']}" if row["diverged"] else ""
        text = bracketed(row["difference"], row["difference_low"], row["difference_high"])
        batchnorm = bracketed(row["difference_bn"], row["difference_bn_low"], row["difference_bn_high"])
        batchnorm += f" ‡{row['collapsed']}" if row["collapsed"] else ""
        bootstrap = f"[{number(row['bootstrap_low'])}, {number(row['bootstrap_high'])}]"
        spread = [number(row["sd_between"]), number(row["sd_within"])]
        head = [label(row["method"]), f"{row['sparsity']:g}%", text + mark, row["n"], p_text(row["p"])]
        lines.append([*head, bootstrap, *spread, batchnorm])
    caption = (
        f"Paired difference in test accuracy to one-shot (percentage points): {_words(group)}. Mean and 95% t-interval "
        "over parents, one parent's children averaged first; p two-sided, uncorrected; the bootstrap draws parents, "
        f"then children within (2000 times, percentiles; not below {RESAMPLED} parents); SD: of the difference, "
        "between parents and within a parent; "
        "last, the same difference with batch-norm statistics re-estimated; ‡k: k pairs with a child that loses more "
        f"than {COLLAPSE:g} points then. "
        f"{DIVERGED.replace('diverged children', 'pairs with a diverged child')}. {_counts(found, cells)}"
    )
    return Part(caption, pd.DataFrame(lines, columns=DIFFERENCE_HEAD))
