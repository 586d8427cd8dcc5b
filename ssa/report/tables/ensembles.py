"""The tables of ensembles: scores and costs, how members are combined, paired differences, and diversity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ssa.analysis.statistics import DASH, p_text, t_interval
from ssa.report.tables.published import SOURCES, published
from ssa.report.tables.style import Part, Table, bracketed, number, plus_minus
from ssa.results.aggregate_ensembles import COSTS
from ssa.results.children import devices
from ssa.results.ensembles import by_name, groups, paired, twins

# A measure's head and the decimals that it is printed with.
CLEAN = {"accuracy": ("Accuracy (%)", 2), "nll": ("NLL", 3), "ece": ("ECE (%)", 2), "brier": ("Brier", 3)}
CORRUPTED = {f"corrupted_{key}": CLEAN[key] for key in ("accuracy", "nll", "ece")}
DIVERSITY = {
    "disagreement": ("Disagreement", 3),
    "kl": ("KL", 3),
    "q_statistic": ("Q", 3),
    "member_accuracy": ("Member accuracy (%)", 2),
    "accuracy": ("Accuracy (%)", 2),
}
CONVENTIONS = {
    "": "probabilities",
    "_logits": "logits",
    "_parent": "probabilities, with the parent",
    "_logits_parent": "logits, with the parent",
    "_scaled": "probabilities, temperature-scaled",
    "_logits_scaled": "logits, temperature-scaled",
}
# Costs that are told relative to the reference's, by the reference's own that each is divided by.
RELATIVE = {
    **dict.fromkeys(("dense_flops", "masked_flops"), "dense_flops"),
    **dict.fromkeys(("inference_flops", "inference_masked_flops"), "inference_flops"),
}
KIND = ["method", "masks", "structure", "sparsity", "tuning", "members", "samples"]
OURS, PUBLISHED = "this study", "published"
SPREAD = "Mean ± half-width of the 95% t-interval over seeds"
DIVERGED = "†k: k ensembles with a diverged member, counted as they evaluate"


def scores(ensembles: pd.DataFrame) -> Table | None:
    """Scores and costs of every ensemble, for each data set and model, above the published ones of the same.

    Corrupted test sets have a part of their own, where results on generated ones, on official ones, and those that
    others published never share a column.
    """
    parts, rows = [], []
    for dataset, model, cells in groups(ensembles):
        known = [row for row in published(dataset, model) if row["accuracy"]]
        found = [{"dataset": dataset, "model": model, **row} for row in [*_scored(cells), *map(_published, known)]]
        rows += found
        parts += [_clean_part(found, cells), _cost_part(found, cells)]
        if any(not _blank(row.get("corrupted_accuracy")) for row in found):
            parts.append(_corrupted_part(found, cells))
    measures = [f"{key}{end}" for key in (*CLEAN, *CORRUPTED) for end in ("", "_low", "_high")]
    relative = [f"relative_{key}" for key in RELATIVE]
    other = ["corrupted_set", "corrupted_label", "corrupted_images", *COSTS, *relative, "n", "diverged", "device"]
    columns = ["dataset", "model", "ensemble", *KIND, "source", *measures, "accuracy_se", *other]
    return _table("table_ensembles", "Ensembles: scores and costs", parts, rows, columns)


def conventions(ensembles: pd.DataFrame) -> Table | None:
    """Accuracy, NLL and ECE under every way of combining the members."""
    parts, rows = [], []
    keys = ("accuracy", "nll", "ece")
    for dataset, model, cells in groups(ensembles):
        found = [
            {"ensemble": name, "combined": words, **_intervals(mine.rename(columns=_renamed(keys, suffix)), keys)}
            for name, mine in by_name(cells)
            for suffix, words in CONVENTIONS.items()
            if mine[f"accuracy{suffix}"].notna().any()
        ]
        rows += [{"dataset": dataset, "model": model, **row} for row in found]
        lines = [
            [row["ensemble"], row["combined"], *(_spread(row, key, CLEAN[key][1]) for key in keys), row["n"]]
            for row in found
        ]
        head = ["Ensemble", "Mean of members'", *(CLEAN[key][0] for key in keys), "n"]
        caption = (
            f"Ensembles by how the members are combined: {_words(cells)}. The first line of each is the primary one. "
            f"Temperature-scaled: by one temperature, fitted on validation images. {SPREAD} (n). {_made(cells)}"
        )
        parts.append(Part(caption, pd.DataFrame(lines, columns=head)))
    measures = [f"{key}{end}" for key in keys for end in ("", "_low", "_high")]
    columns = ["dataset", "model", "ensemble", "combined", *measures, "n"]
    return _table("table_ensembles_conventions", "Ensembles: how members are combined", parts, rows, columns)


def differences(ensembles: pd.DataFrame) -> Table | None:
    """Every ensemble of tuned children minus its plain Prune-and-Tune twin, paired by seed."""
    parts, rows = [], []
    keys = {key: CLEAN[key] for key in ("accuracy", "nll", "ece")}
    for dataset, model, cells in groups(ensembles):
        found = [
            {"ensemble": name, "twin": twin, "tuning": _only(cells, name, "tuning"), "measure": key}
            | {"difference": gap.mean, "low": gap.low, "high": gap.high, "p": gap.p, "n": gap.n}
            for name, twin in twins(cells)
            for key in keys
            for gap in [t_interval(paired(cells, name, twin, key))]
        ]
        if not found:
            continue
        rows += [{"dataset": dataset, "model": model, **row} for row in found]
        lines = []
        for row in found:
            head, digits = keys[row["measure"]]
            text = bracketed(row["difference"], row["low"], row["high"], digits + 1)
            lines.append([f"{row['ensemble']} minus {row['twin']}", head, text, row["n"], p_text(row["p"])])
        caption = (
            "Paired difference of ensembles to their twins that differ in being tuned one-shot alone: "
            f"{_words(cells)}. Mean and 95% t-interval over seeds (n); accuracy and ECE in percentage points, NLL in "
            f"nats; lower NLL and ECE are better; p two-sided, uncorrected. {_made(cells)}"
        )
        parts.append(Part(caption, pd.DataFrame(lines, columns=["Ensembles", "Measure", "Difference", "n", "p"])))
    columns = ["dataset", "model", "ensemble", "twin", "tuning", "measure", "difference", "low", "high", "p", "n"]
    return _table("table_ensembles_differences", "Ensembles: paired differences to plain twins", parts, rows, columns)


def diversity(ensembles: pd.DataFrame) -> Table | None:
    """How much the members differ and how good they are alone, above what was published."""
    parts, rows = [], []
    for dataset, model, cells in groups(ensembles[ensembles["disagreement"].notna()]):
        found = [
            {"ensemble": name, "members": mine["members"].iloc[0], "source": OURS, **_intervals(mine, DIVERSITY)}
            for name, mine in by_name(cells)
        ]
        printed = [row for row in published(dataset, model) if row["disagreement"]]
        found += [_published(row) for row in printed]
        rows += [{"dataset": dataset, "model": model, **row} for row in found]
        lines = [{**_name(row), **_measured(row, DIVERSITY), **_end(row)} for row in found]
        caption = (
            f"Diversity of ensembles' members: {_words(cells)}. Means over pairs of members: share of test images "
            "whose predicted classes differ, Kullback-Leibler divergence (nats), Yule's Q of being right. "
            f"{SPREAD} (n). {_sources(row['source'] for row in printed)}{_made(cells)}"
        )
        parts.append(Part(caption, pd.DataFrame(lines)))
    measures = [f"{key}{end}" for key in DIVERSITY for end in ("", "_low", "_high")]
    columns = ["dataset", "model", "ensemble", "members", "source", *measures, "n"]
    return _table("table_ensembles_diversity", "Ensembles: diversity of the members", parts, rows, columns)


def reference(cells: pd.DataFrame) -> pd.Series:
    """The row that costs are relative to: the single model with the most training, else the largest budget of all."""
    single = cells[(cells["method"] == "independent") & (cells["members"] == 1)]
    among = single if len(single) else cells
    return among.iloc[int(among["dense_flops"].argmax())]


def _scored(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each of one data set's and model's ensembles."""
    unit = reference(cells)
    rows = []
    for name, mine in by_name(cells):
        cost = {key: mine[key].mean() for key in COSTS}
        relative = {f"relative_{key}": cost[key] / unit[whole] for key, whole in RELATIVE.items()}
        first = mine.iloc[0]
        same = {key: first[key] for key in (*KIND, "corrupted_set", "corrupted_label", "corrupted_images")}
        rows.append(
            {
                **{"ensemble": name, "source": OURS, **same, **_intervals(mine, [*CLEAN, *CORRUPTED])},
                **{**cost, **relative, "diverged": int(mine["diverged"].sum()), "device": devices(mine)},
            }
        )
    return rows


def _published(row: dict[str, str]) -> dict[str, Any]:
    """A published row in our columns; ``text`` keeps the digits that were printed."""
    numeric = [*CLEAN, *CORRUPTED, *DIVERSITY, "accuracy_se", "n", "members", "epochs"]
    numbers = {key: float(row[key]) for key in numeric if row.get(key)}
    relative = {"relative_masked_flops": float(row["flops"])} if row["flops"] else {}
    label = {"corrupted_label": PUBLISHED, "corrupted_set": row["corruptions"]} if row["corrupted_accuracy"] else {}
    head = {"ensemble": row["method"], "source": row["source"], "n": math.nan, "text": row}
    return {**head, **numbers, **relative, **label}


def _intervals(rows: pd.DataFrame, keys: Iterable[str]) -> dict[str, Any]:
    """``key``, ``key_low`` and ``key_high`` over the seeds of one ensemble, and their number ``n``."""
    found: dict[str, Any] = {}
    for key in keys:
        interval = t_interval(rows[key].dropna())
        found |= {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}
    return {**found, "n": rows["seed"].nunique()}


def _clean_part(found: list[dict[str, Any]], cells: pd.DataFrame) -> Part:
    lines = [
        {
            **_name(row),
            **_measured(row, CLEAN),
            "Epochs": _whole(row.get("epochs")),
            "Masked FLOPs": _share(row, "masked_flops"),
            **_end(row),
        }
        for row in found
    ]
    caption = (
        f"Ensembles on the clean test set: {_words(cells)}. {SPREAD} (n); published: mean, where ± is followed by SE "
        f"the standard error. Epochs, and FLOPs that count no weight that is zero, are those of all training; FLOPs "
        f"are relative to those of {_unit(cells)}. {DIVERGED}. "
        f"{_sources(row['source'] for row in found)}{_made(cells)}"
    )
    return Part(caption, pd.DataFrame(lines))


def _cost_part(found: list[dict[str, Any]], cells: pd.DataFrame) -> Part:
    """The cost of training and of a prediction."""
    shown = [row for row in found if not _blank(row.get("epochs"))]
    lines = [
        {
            "Ensemble": _name(row)["Ensemble"],
            "Epochs": _whole(row["epochs"]),
            "Dense FLOPs": _share(row, "dense_flops"),
            "Masked FLOPs": _share(row, "masked_flops"),
            "Seconds": _seconds(row.get("train_seconds")),
            "Passes": _whole(row.get("forward_passes")),
            "FLOPs asked": _share(row, "inference_flops"),
            "Masked FLOPs asked": _share(row, "inference_masked_flops"),
            "Parameters": DASH if _blank(row.get("parameters")) else f"{row['parameters']:,.0f}",
            "Source": _end(row)["Source"],
        }
        for row in shown
    ]
    caption = (
        f"What the ensembles cost: {_words(cells)}. Means over seeds. Epochs, FLOPs and seconds of all training (wall "
        "time beside whatever else the machines did: no measurement of speed), "
        "parents counted once; passes through a network, FLOPs and parameters that are not zero of one prediction. "
        f"Masked: weights that are zero do not count, nor those that an annealed step leaves out. FLOPs are relative "
        f"to those of {_unit(cells)}. {_sources(row['source'] for row in shown)}{_made(cells)}"
    )
    return Part(caption, pd.DataFrame(lines))


def _corrupted_part(found: list[dict[str, Any]], cells: pd.DataFrame) -> Part:
    """Scores on corrupted test sets: a block of columns for generated, for official, and for published ones each."""
    shown = [row for row in found if not _blank(row.get("corrupted_accuracy"))]
    labels = sorted({row["corrupted_label"] for row in shown})
    lines = [
        {
            **_name(row),
            **{
                f"{CORRUPTED[key][0]}, {name}": _spread(row, key, digits) if row["corrupted_label"] == name else DASH
                for name in labels
                for key, (_, digits) in CORRUPTED.items()
            },
            "Mean over": _corruptions(row),
            **_end(row),
        }
        for row in shown
    ]
    caption = (
        f"Ensembles on corrupted test sets: {_words(cells)}. Means over types and every severity. Generated: made here "
        "from the test images, not to be compared with results on the official archives, nor with what was published, "
        f"which have columns of their own. {SPREAD} (n). {_sources(row['source'] for row in shown)}{_made(cells)}"
    )
    return Part(caption, pd.DataFrame(lines))


def _corruptions(row: dict[str, Any]) -> str:
    """Over which types a row's scores are averaged, and on how many of our test images."""
    images = row.get("corrupted_images")
    return row["corrupted_set"] if _blank(images) else f"{row['corrupted_set']}, {images:,.0f} images"


def _name(row: dict[str, Any]) -> dict[str, str]:
    members = row.get("members", math.nan)
    mark = f" †{row['diverged']}" if row.get("diverged") else ""
    return {"Ensemble": f"{row['ensemble']}{mark}", "Members": _whole(members)}


def _measured(row: dict[str, Any], heads: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    return {head: _spread(row, key, digits) for key, (head, digits) in heads.items()}


def _end(row: dict[str, Any]) -> dict[str, str]:
    return {"n": _whole(row["n"]), "Source": row["source"] if row["source"] == OURS else f"published: {row['source']}"}


def _spread(row: dict[str, Any], key: str, digits: int) -> str:
    """A measure with its spread; what was published as it was printed."""
    if "text" in row:
        text = row["text"].get(key) or DASH
        error = row["text"]["accuracy_se"] if key == "accuracy" else ""
        return f"{text} ± {error} SE" if error else text
    if _blank(row[key]):
        return DASH
    return plus_minus(row[key], (row[f"{key}_high"] - row[f"{key}_low"]) / 2, digits)


def _unit(cells: pd.DataFrame) -> str:
    first = reference(cells)
    return f"{first['ensemble']} ({first['epochs']:g} epochs)"


def _share(row: dict[str, Any], cost: str) -> str:
    return number(row.get(f"relative_{cost}", math.nan))


def _seconds(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _whole(value: float | None) -> str:
    return DASH if _blank(value) else f"{value:g}"


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _only(cells: pd.DataFrame, name: str, key: str) -> Any:
    return cells.loc[cells["ensemble"] == name, key].iloc[0]


def _renamed(keys: Iterable[str], suffix: str) -> dict[str, str]:
    """New names by old: columns with ``suffix`` become the plain ones."""
    return {f"{key}{suffix}": key for key in keys} | ({key: f"{key}_plain" for key in keys} if suffix else {})


def _words(cells: pd.DataFrame) -> str:
    images = ", ".join(f"{count:,}" for count in sorted(cells["train_images"].unique()))
    augmented = " or ".join("augmented" if value else "not augmented" for value in sorted(cells["augment"].unique()))
    return f"{cells['dataset'].iloc[0]}, {cells['model'].iloc[0]}, {images} training images, {augmented}"


def _sources(found: Iterable[str]) -> str:
    """The sources of the published rows, in full."""
    given = set(found)
    named = [name for name in SOURCES if name in given]
    return "Published by others: " + "; ".join(f"{name}: {SOURCES[name]}" for name in named) + ". " if named else ""


def _made(cells: pd.DataFrame) -> str:
    return f"Hardware: {devices(cells)}."


def _table(name: str, title: str, parts: list[Part], rows: list[dict[str, Any]], columns: list[str]) -> Table | None:
    """The table; None if the study has no ensembles to fill it with."""
    return Table(name, title, tuple(parts), pd.DataFrame(rows, columns=columns)) if parts else None
