"""The study's tables: accuracy, ablation, paired differences and sanity, as CSV (numbers), Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd

from ssa.analysis import statistics
from ssa.analysis.statistics import DASH, FEWEST, capitalise
from ssa.report.tables.style import UNCOUNTED, Part, Table, bracketed, marks, number, plus_minus, printed_p
from ssa.results.children import COLLAPSE, PARENT, collapsed, differences_to, pairs, trained_on
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

SPREAD = "Test accuracy (%): mean ± half-width of the 95% t-interval over n parents."
ABLATION = f"{SPREAD} tau: initial probability; e: epochs of annealing."
GAIN = "Percentage points: mean and 95% t-interval over n parents; p two-sided, uncorrected."
MARKS = {
    "**": (
        "Bold: a column's best, and all that are not shown to be worse (the paired 95% interval holds 0); none if no "
        "method is worse."
    ),
    "(ref.)": "(ref.): the setting fixed beforehand.",
    "†": "†k: k diverged children, counted as they evaluate.",
    "‡": f"‡k: k pairs with a child that loses more than {COLLAPSE:g} points when re-estimated.",
}
UNPRUNED = {"parent": "Parents", "dense": "dense children"}
# What a table is of, in words.
WORDS = {
    **{"parent": 'parents "{}"', "dataset": "{}", "model": "{}", "train_images": "{:,.0f} training images"},
    **{"criterion": "{} masks", "structure": "{} pruned", "allocation": "{} allocation", "stem": "{} stem"},
    **{"epochs": "{:g} epochs", "lr_schedule": "{} rate", "lr": "peak rate {:g}"},
}
COUNTS = ("train_images", "epochs")  # in the plural, unless there is one
Filled: TypeAlias = tuple[dict[str, Any], str, pd.DataFrame]  # a part: its group, what its caption adds, its cells


def accuracy(children: pd.DataFrame) -> Table | None:
    """Test accuracy by method and sparsity, reference settings only, with the dense child and the parent."""
    parts, rows = [], []
    for group, cells in _groups(children[children["reference"]], GROUP):
        unpruned, found = _unpruned(children, cells), _accuracies(cells)
        rows += [{**group, **row} for row in [*unpruned, *found]]
        parts.append((group, *_accuracy_part(unpruned, pd.DataFrame(found), cells)))
    extra = ["realised_sparsity", "effective_sparsity", "p_to_best", "bold", "device"]
    columns = [*GROUP, "method", "sparsity", *ACCURACY, *extra]
    return _table("table1_accuracy", "Test accuracy by method and sparsity", SPREAD, parts, rows, columns)


def ablation(children: pd.DataFrame) -> Table | None:
    """Test accuracy of temperature annealing over tau, length and schedule, wherever more than one setting was run."""
    parts, rows = [], []
    one_shot = children[children["method"] == BASELINE]
    for group, cells in _groups(children[children["method"] == ABLATED], GROUP):
        several = [part for _, part in cells.groupby("sparsity") if len(part[SETTING].drop_duplicates()) > 1]
        if not several:
            continue
        varied = _groups(pd.concat(several), ["sparsity", *SETTING])
        found = [_variant(setting, variant, one_shot) for setting, variant in varied]
        rows += [{**group, **row} for row in found]
        parts.append((group, *_ablation_part(pd.DataFrame(found), cells)))
    columns = [*GROUP, "sparsity", *SETTING, "reference", *ACCURACY, *DIFFERENCE, "device"]
    return _table("table2_ablation", "Ablation of temperature annealing", ABLATION, parts, rows, columns)


def paired_differences(children: pd.DataFrame) -> Table | None:
    """Paired differences to one-shot at reference settings, with a bootstrap and the spread's two components."""
    parts, rows = [], []
    compared = children[children["reference"] & (children["method"] != "dense")]
    paired = differences_to(compared, BASELINE)
    reestimated = differences_to(compared.assign(diverged=collapsed(compared)), BASELINE, "accuracy_bn")
    paired = paired.assign(difference_bn=reestimated["difference"], collapsed=reestimated["diverged"])
    for group, cells in _groups(paired, GROUP):
        found = [_difference(method, sparsity, part) for method, sparsity, part in _by_method(cells)]
        rows += [{**group, **row} for row in found]
        parts.append((group, *_difference_part(pd.DataFrame(found), cells)))
    extra = ["bootstrap_low", "bootstrap_high", "sd_between", "sd_within", "diverged"]
    batchnorm = ["difference_bn", "difference_bn_low", "difference_bn_high", "collapsed"]
    columns = [*GROUP, "method", "sparsity", *DIFFERENCE, "n", "p", *extra, *batchnorm, "device"]
    return _table("table3_differences", "Paired differences to one-shot", GAIN, parts, rows, columns)


def _table(
    name: str, title: str, note: str, filled: list[Filled], rows: list[dict[str, Any]], columns: list[str]
) -> Table | None:
    """The table, with what all of its parts have in common in the note; None if the study has nothing to fill it."""
    if not filled:
        return None
    first = filled[0][0]
    common = {key for key in first if all(group[key] == first[key] for group, *_ in filled)}
    parts = []
    for group, added, shown in filled:
        words = capitalise(_words({key: value for key, value in group.items() if key not in common}))
        parts.append(Part(". ".join(text for text in (words, added) if text), shown))
    settings = f"Settings: {_words({key: first[key] for key in GROUP if key in common})}."
    return Table(
        name, title, " ".join([note, *marks(MARKS, parts), settings]), tuple(parts), pd.DataFrame(rows, columns=columns)
    )


def _groups(rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The groups of pruned children in ``rows`` by ``keys``, in the keys' order."""
    for values, group in rows[rows["method"] != "dense"].groupby(keys, dropna=False):
        yield dict(zip(keys, (None if value != value else value for value in values), strict=True)), group


def _by_method(cells: pd.DataFrame) -> Iterator[tuple[str, float, pd.DataFrame]]:
    for method in in_order(cells["method"]):
        for sparsity, part in cells[cells["method"] == method].groupby("sparsity"):
            yield method, cast(float, sparsity), part


def _words(group: dict[str, Any]) -> str:
    """The settings of ``group``, in words."""
    augmented = {"augment": "augmented" if group.get("augment") else "not augmented"}
    words = {key: {**WORDS, **augmented}[key].format(value) for key, value in group.items() if value is not None}
    words |= {key: UNCOUNTED for key, value in group.items() if value is None}
    return ", ".join(words[key].removesuffix("s") if key in COUNTS and group[key] == 1 else words[key] for key in group)


def _counts(found: pd.DataFrame, cells: pd.DataFrame) -> str:
    """How many parents, and on what: the end of every caption."""
    return f"n = {_usual(found)} parents on {trained_on(cells)}."


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
        rows.append({"method": "dense", "sparsity": 0.0, **_summary(same), "device": trained_on(same)})
    return rows


def _accuracies(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each method and sparsity, with the paired test against the best of its sparsity."""
    rows: list[dict[str, Any]] = []
    for method, sparsity, part in _by_method(cells):
        means = {key: part[key].mean() for key in ("realised_sparsity", "effective_sparsity")}
        rows.append({"method": method, "sparsity": sparsity, **_summary(part), **means, "device": trained_on(part)})
    for level, column in cells.groupby("sparsity"):
        rivals = [row for row in rows if row["sparsity"] == level]
        best = max(rivals, key=lambda row: row["mean"])["method"]
        gaps = {row["method"]: _to_best(column, row["method"], best) for row in rivals}
        worse = {method for method, gap in gaps.items() if gap.n >= FEWEST and gap.p < LEVEL}
        for row in rivals:
            row["p_to_best"] = 1.0 if row["method"] == best else gaps[row["method"]].p
            row["bold"] = bool(worse) and row["method"] not in worse
    return rows


def _to_best(cells: pd.DataFrame, method: str, best: str) -> statistics.Interval:
    paired = pairs(cells[cells["method"] == method], cells[cells["method"] == best])
    return statistics.over_parents(paired, "difference")


def _accuracy_part(
    unpruned: list[dict[str, Any]], found: pd.DataFrame, cells: pd.DataFrame
) -> tuple[str, pd.DataFrame]:
    usual = _usual(found)
    shown = {name: dict.fromkeys(sorted(found["sparsity"].unique()), DASH) for name in found["method"].unique()}
    for row in found.to_dict("records"):
        text = _plus_minus(row, usual)
        shown[row["method"]][row["sparsity"]] = f"**{text}**" if row["bold"] else text
    frame = pd.DataFrame(shown).T
    frame.columns = pd.Index([f"{sparsity:g}%" for sparsity in frame.columns])
    frame.insert(0, "Method", [label(name) for name in shown])
    whole = [f"{UNPRUNED[row['method']]} {_plus_minus(row, usual)}" for row in unpruned]
    return f"{', '.join(whole)}; {_counts(found, cells)}", frame


def _plus_minus(row: Mapping[Any, Any], usual: int) -> str:
    """Mean ± half-width, then what is unusual about the cell."""
    text = plus_minus(row["mean"], row["low"], row["high"], row["n"])
    unusual = f" (n = {row['n']})" if row["n"] != usual and "n =" not in text else ""
    return text + (f" †{row['diverged']}" if row["diverged"] else "") + unusual


def _variant(setting: dict[str, Any], variant: pd.DataFrame, one_shot: pd.DataFrame) -> dict[str, Any]:
    """One setting of the ablation: its accuracy, and its paired difference to one-shot."""
    difference = statistics.over_parents(pairs(variant, one_shot), "difference")
    gain = dict(zip(DIFFERENCE, (difference.mean, difference.low, difference.high), strict=True))
    reference = bool(variant["reference"].all())
    return {**setting, "reference": reference, **_summary(variant), **gain, "device": trained_on(variant)}


def _ablation_part(found: pd.DataFrame, cells: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    usual = _usual(found)
    texts = [_plus_minus(row, usual) + (" (ref.)" if row["reference"] else "") for row in found.to_dict("records")]
    across = ["sparsity", "anneal_schedule", "tau"]
    grid = found.assign(text=texts).pivot(index=across, columns="anneal_epochs", values="text")
    grid.columns = pd.Index([f"e = {epochs:g}" for epochs in grid.columns])
    frame = grid.fillna(DASH).reset_index().rename(columns={"sparsity": "Sparsity", "anneal_schedule": "Schedule"})
    frame["Sparsity"] = [f"{sparsity:g}%" for sparsity in frame["Sparsity"]]
    frame["tau"] = [f"{tau:g}" for tau in frame["tau"]]
    return _counts(found, cells), frame


def _difference(method: str, sparsity: float, part: pd.DataFrame) -> dict[str, Any]:
    """One line of the differences; ``part`` holds paired children of one method and sparsity."""
    interval = statistics.over_parents(part, "difference")
    by_parent = statistics.values_by_parent(part, "difference")
    enough = len(by_parent) >= RESAMPLED
    low, high = statistics.bootstrap_interval(by_parent if enough else [], np.random.default_rng(0))
    spread = statistics.components(by_parent)
    batchnorm = statistics.over_parents(part, "difference_bn")
    return {
        **{"method": method, "sparsity": sparsity, "n": interval.n, "p": interval.p},
        **dict(zip(DIFFERENCE, (interval.mean, interval.low, interval.high), strict=True)),
        **{"bootstrap_low": low, "bootstrap_high": high, "sd_between": spread.between, "sd_within": spread.within},
        **{"diverged": int(part["diverged"].sum()), "device": trained_on(part)},
        **{"difference_bn": batchnorm.mean, "difference_bn_low": batchnorm.low, "difference_bn_high": batchnorm.high},
        "collapsed": int(part["collapsed"].sum()),
    }


def _difference_part(found: pd.DataFrame, cells: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    lines = []
    for row in found.to_dict("records"):
        mark = f" †{row['diverged']}" if row["diverged"] else ""
        text = bracketed(row["difference"], row["difference_low"], row["difference_high"], row["n"])
        batchnorm = bracketed(row["difference_bn"], row["difference_bn_low"], row["difference_bn_high"], row["n"])
        batchnorm += f" ‡{row['collapsed']}" if row["collapsed"] else ""
        bootstrap = f"[{number(row['bootstrap_low'])}, {number(row['bootstrap_high'])}]"
        spread = [number(row["sd_between"]), number(row["sd_within"])]
        p = printed_p(row["p"], row["n"])
        head = [label(row["method"]), f"{row['sparsity']:g}%", text + mark, row["n"], p]
        lines.append([*head, bootstrap, *spread, batchnorm])
    return _counts(found, cells), pd.DataFrame(lines, columns=DIFFERENCE_HEAD)
