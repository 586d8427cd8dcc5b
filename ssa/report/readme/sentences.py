"""What a finding's table says, in sentences made by rules: nobody's reading of a result.

An interval above 0 is a gain, one below 0 a loss, and one that holds 0 decides nothing: it is never called equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ssa.analysis.findings import CELLS
from ssa.analysis.statistics import n_text
from ssa.report.tables.style import signed
from ssa.study.methods import CONTROLS, label

WORDED = {
    **{"criterion": "{} masks", "sparsity": "{:g}%", "lr_schedule": "{} rate", "lr": "rate {:g}", "stem": "{} stem"},
    **{"epochs": "E = {:g}", "augment": "augment {}", "train_images": "{:,} images"},
}


def controls(table: pd.DataFrame) -> list[str]:
    """What temperature annealing gains over one-shot, then what of it each control leaves out."""
    said = []
    for _, cells in table.groupby(CELLS["controls"]):
        rows = {row["method"]: row for row in cells.to_dict("records")}
        at = _at(cells.iloc[0], table, CELLS["controls"])
        if "temperature" in rows:
            said.append(f"{at}: temperature annealing minus one-shot is {interval(rows['temperature'], 'gain')}.")
        for method, words in CONTROLS.items():
            if method in rows:
                lead = f"{interval(rows[method], 'lead')}; {_part(rows[method], 'the control')}"
                said.append(f"{words}: temperature annealing minus this control is {lead}.")
    return said


def losses(table: pd.DataFrame) -> list[str]:
    """For each method, over all sparsities: what it gains, and whether its training loss ends lower or higher."""
    said = []
    for _, cells in table.groupby([*CELLS["losses"], "method"], sort=False):
        *alone, row = cells.to_dict("records")  # the mean over all sparsities comes last
        gain, loss = _sign(row, "gain"), _sign(row, "loss")
        if gain > 0 and loss > 0:
            verdict = "better in test and worse in training, as a regulariser is"
        elif gain > 0 and loss < 0:
            verdict = "better in both, as a better optimiser is"
        elif gain > 0:
            verdict = "better in test; the training loss does not say why"
        elif gain < 0:
            verdict = "worse in test"
        else:
            verdict = "undecided in test"
        said.append(
            f"{_at(row, table, CELLS['losses'])}: {label(row['method'])} minus one-shot is {interval(row, 'gain')} in "
            f"test, {interval(row, 'loss', 'nats', 3)} in training loss; {verdict}"
            f"{_alone(alone, gain, loss)}."
        )
    return said


def _alone(rows: list[dict[Any, Any]], gain: int, loss: int) -> str:
    """At how many of the sparsities that were averaged both signs are the same, and at how many they say otherwise."""
    if len(rows) < 2:
        return ""
    signs = [(_sign(row, "gain"), _sign(row, "loss")) for row in rows]
    same, other = signs.count((gain, loss)), sum(0 not in sign and sign != (gain, loss) for sign in signs)
    return f" (the mean of {len(rows)} sparsities, {same} of which alone say the same, {other} something else)"


def criteria(table: pd.DataFrame) -> list[str]:
    """For each rival of SSA and kind of mask: at which sparsities SSA is better, and at which worse."""
    said = []
    keys = [key for key in CELLS["criteria"] if key != "sparsity"]
    for at, line in table.groupby([*keys, "method"], sort=False):
        rows = line.sort_values("sparsity").to_dict("records")
        low, high = (signed(pick(row["lead"] for row in rows)) for pick in (min, max))
        at_which = {
            words: ", ".join(f"{row['sparsity']:g}%" for row in rows if _sign(row, "lead") == sign) or "none"
            for sign, words in ((1, "better at"), (-1, "worse at"), (0, "undecided at"))
        }
        listed = "; ".join(f"{words} {sparsities}" for words, sparsities in at_which.items())
        said.append(
            f"{_at(rows[0], table, keys)}: temperature annealing minus {label(str(at[-1]))} is {low} to {high} points "
            f"(n = {n_text(line['n'])}): {listed}."
        )
    return said


def rates(table: pd.DataFrame) -> list[str]:
    """Each method at the rate that validation chose for it, against one-shot at its own."""
    said = []
    for _, tried in table.groupby([*CELLS["rates"], "method", "lr_schedule"], sort=False):
        (row,) = tried[tried["chosen"]].to_dict("records")
        name = label(row["method"]) + ("" if row["lr_schedule"] == "one-cycle" else f" ({row['lr_schedule']} rate)")
        at = _at(row, table, CELLS["rates"])
        edge = _edge(row["lr"], tried["lr"])
        rate = "" if row["lr_schedule"] == "rewound" else f" at its peak rate {row['lr']:g}{edge}"
        if row["method"] == "one-shot" and row["lr_schedule"] == "one-cycle":
            said.append(f"{at}: {name}{rate} reaches {row['accuracy']:.2f}% (n = {row['n']}).")
        else:
            said.append(f"{at}: {name}{rate} minus the tuned one-shot is {interval(row, 'gain')}; {_gain(row)}.")
            if not math.isnan(row["lead"]):
                lead = f"{interval(row, 'lead')}; {_part(row, 'the other')}"
                said[-1] += f" The tuned temperature annealing minus this is {lead}."
    return said


def _edge(chosen: float, tried: pd.Series) -> str:
    """Whether the best might lie beyond what was tried."""
    if tried.nunique() > 1:
        for words, end in (("highest", tried.max()), ("lowest", tried.min())):
            if chosen == end:
                return f" (the {words} tried)"
    return ""


def lengths(table: pd.DataFrame) -> list[str]:
    """Where validation finds the best share of annealing, and how many of the others are worse in test."""
    said = []
    for _, cells in table.groupby(CELLS["lengths"]):
        rows = cells.to_dict("records")
        best = next(row for row in rows if row["best"])
        worse = sum(_sign(row, "behind") < 0 for row in rows if not row["best"])
        edge = _edge(best["share"], cells["share"])
        others = (
            f"{worse} of the {len(rows) - 1} other shares are worse in test by an interval below 0"
            if best["n"] > 1
            else "one parent decides nothing"
        )
        said.append(
            f"{_at(best, table, CELLS['lengths'])}: e/E = {best['share']:g}{edge} is best on validation images, "
            f"{interval(best, 'gain')} against one-shot; {others}."
        )
    return said


def regime(table: pd.DataFrame) -> list[str]:
    """The gain in each cell, beside how well one-shot fits its training images."""
    return [
        f"{_at(row, table, CELLS['regime'])}; one-shot fits {row['one_shot_train']:.1f}% of its "
        f"training images: temperature annealing minus one-shot is {interval(row, 'gain')}; {_gain(row)}."
        for row in table.to_dict("records")
    ]


def allocation(table: pd.DataFrame) -> list[str]:
    """The gain under each way to spread sparsity, and how it changes against layerwise pruning of all layers."""
    said = []
    for row in table.to_dict("records"):
        arm = row["allocation"] + (", dense stem" if row["stem"] == "dense" else "")
        change = "" if math.isnan(row["change"]) else f", a change of {interval(row, 'change')}: {_changed(row)}"
        at = _at(row, table, CELLS["allocation"])
        said.append(
            f"{at}, {arm}: {label(row['method'])} minus one-shot is {interval(row, 'gain')} where one-shot "
            f"reaches {row['one_shot']:.2f}% at an effective sparsity of {row['effective']:.2f}%{change}."
        )
    return said


def gradients(table: pd.DataFrame) -> list[str]:
    """How gradients vary under temperature annealing: at each epoch until masks are exact, and then."""
    said: list[str] = []
    exact: dict[str, list[str]] = {}
    for at, cells in table.groupby([*CELLS["gradients"], "epoch"]):
        rows = {row["method"]: row for row in cells.to_dict("records")}
        own, where = rows.get("temperature"), _at(cells.iloc[0], table, CELLS["gradients"])
        if own is None:
            continue
        if own["masks"] == 0:  # annealing is over: all methods train the same mask
            exact.setdefault(where, []).extend(
                f"{_ratio(rows[name])} at epoch {at[-1]:g}" for name in rows if name == "one-shot"
            )
            continue
        ratios = ", ".join(
            f"{_ratio(rows[name])} times that of {label(name)}" for name in rows if name != "temperature"
        )
        shares = ", ".join(f"{label(name)} {row['masks']:.0f}%" for name, row in rows.items() if row["masks"] > 0)
        said.append(
            f"{where}, epoch {at[-1]:g}: the variance of the gradient under temperature annealing is "
            f"{ratios or 'measured alone'} (n = {own['n']:g}). Masks make of it: {shares}."
        )
    later = [
        f"{where}, once masks are exact: the variance is, in times that of One-shot, {', '.join(at)}."
        for where, at in exact.items()
        if at
    ]
    return [*said, *later]


def calibration(table: pd.DataFrame) -> list[str]:
    """What SSA's ensembles gain over each other one in NLL and ECE, as they are and temperature-scaled."""
    said = []
    for row in table.to_dict("records"):
        where = f"{row['dataset']}, {row['model']}: {row['ensemble']} against {row['other']}"
        gains = [
            f"{interval(row, key, unit, 3)}, scaled {interval(row, f'{key}_scaled', unit, 3)}"
            for key, unit in (("nll", "nats"), ("ece", "points"))
        ]
        said.append(f"{where}: gain in NLL {gains[0]}; in ECE {gains[1]}; {_lasting(row)}.")
    return said


def _lasting(row: Mapping[Any, Any]) -> str:
    """In which of the two there is a gain, and in which of these once both are scaled."""
    gained = [key for key in ("nll", "ece") if _sign(row, key) > 0]
    if not gained:
        return "no gain is shown in either"
    words = {1: "a gain too", 0: "undecided", -1: "a loss"}
    scaled = ", ".join(f"{words[_sign(row, f'{key}_scaled')]} in {key.upper()}" for key in gained)
    return f"a gain in {' and '.join(key.upper() for key in gained)}, scaled {scaled}"


def _ratio(row: Mapping[Any, Any]) -> str:
    """``1.20 (1.10 to 1.30)`` from a difference of log10."""
    ratios = [10 ** row[f"lead{end}"] for end in ("", "_low", "_high")]
    mean, low, high = (f"{ratio:,.2f}" if ratio < 100 else f"{ratio:,.0f}" for ratio in ratios)
    return mean if math.isnan(ratios[1]) else f"{mean} ({low} to {high})"


def interval(row: Mapping[Any, Any], column: str, unit: str = "points", digits: int = 2) -> str:
    """``+0.88 points (0.12 to 1.64, n = 12)``."""
    mean, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    if math.isnan(mean):
        return "an unknown amount (no pairs)"
    bounds = "" if math.isnan(low) else f"{signed(low, digits)} to {signed(high, digits)}, "
    return f"{signed(mean, digits)} {unit} ({bounds}n = {row['n']:g})"


def _at(row: Mapping[Any, Any] | pd.Series, table: pd.DataFrame, keys: list[str]) -> str:
    """The cell of ``row`` in words: masks and sparsity, and those of ``keys`` in which the table's cells differ."""
    told = [key for key in keys if key in ("criterion", "sparsity") or table[key].nunique() > 1]
    return ", ".join(WORDED.get(key, "{}").format(row[key]) for key in told)


def _sign(row: Mapping[Any, Any], column: str) -> int:
    """1 where the interval lies above 0, -1 where it lies below, 0 where it holds 0 or is not known."""
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return 1 if low > 0 else -1 if high < 0 else 0


def _part(row: Mapping[Any, Any], other: str) -> str:
    return {1: "temperature annealing is better", -1: f"{other} is better", 0: "undecided"}[_sign(row, "lead")]


def _gain(row: Mapping[Any, Any]) -> str:
    return {1: "a gain", -1: "a loss", 0: "undecided"}[_sign(row, "gain")]


def _changed(row: Mapping[Any, Any]) -> str:
    return {1: "the gain grows", -1: "the gain shrinks", 0: "undecided"}[_sign(row, "change")]
