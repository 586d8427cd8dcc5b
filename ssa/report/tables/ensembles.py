"""The tables of ensembles: scores and costs, how members are combined, paired differences, and diversity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ssa.analysis.statistics import DASH, t_interval
from ssa.report.tables.published import SOURCES, published
from ssa.report.tables.style import UNCOUNTED, Part, Table, bracketed, marks, number, plus_minus, printed_p
from ssa.results.aggregate_ensembles import COSTS
from ssa.results.children import trained_on
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
SPREAD = "Mean ± half-width of the 95% t-interval over n seeds."
COST = "Costs are means. Masked FLOPs do not count weights that are zero."
COMBINED = "The first row of each ensemble is the primary one. Scaled: by one temperature, fitted on validation images."
GAIN = "Accuracy and ECE in points, NLL in nats: mean and 95% t-interval over n seeds; p two-sided, uncorrected."
PAIRS = "Disagreement, KL and Q are means over pairs of members."
MARKS = {
    "†": "†k: k ensembles with a diverged member, counted as they evaluate.",
    " SE": "SE: standard error, as published.",
}


def scores(ensembles: pd.DataFrame) -> Table | None:
    """Scores and costs of every ensemble, for each data set and model, above the published ones of the same.

    Results on the clean test set, on generated corruptions and on official ones, and those that others published have
    parts of their own.
    """
    parts, rows = [], []
    for dataset, model, cells in groups(ensembles):
        ours, known = _scored(cells), [_published(row) for row in published(dataset, model) if row["accuracy"]]
        rows += [{"dataset": dataset, "model": model, **row} for row in [*ours, *known]]
        parts += [_clean_part(ours, cells), *_published_part(known, CLEAN, cells), _cost_part(ours, cells)]
        parts += _corrupted_parts(ours, known, cells)
    measures = [f"{key}{end}" for key in (*CLEAN, *CORRUPTED) for end in ("", "_low", "_high")]
    relative = [f"relative_{key}" for key in RELATIVE]
    other = ["corrupted_set", "corrupted_label", "corrupted_images", *COSTS, *relative, "n", "diverged", "device"]
    columns = ["dataset", "model", "ensemble", *KIND, "source", *measures, "accuracy_se", *other]
    return _table("table_ensembles", "Ensembles: scores and costs", f"{SPREAD} {COST}", parts, rows, columns)


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
        parts.append(Part(_words(cells), pd.DataFrame(lines, columns=head)))
    measures = [f"{key}{end}" for key in keys for end in ("", "_low", "_high")]
    columns = ["dataset", "model", "ensemble", "combined", *measures, "n"]
    title = "Ensembles: how members are combined"
    return _table("table_ensembles_conventions", title, f"{SPREAD} {COMBINED}", parts, rows, columns)


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
            text = bracketed(row["difference"], row["low"], row["high"], row["n"], digits + 1)
            p = printed_p(row["p"], row["n"])
            lines.append([f"{row['ensemble']} minus {row['twin']}", head, text, row["n"], p])
        shown = pd.DataFrame(lines, columns=["Ensembles", "Measure", "Difference", "n", "p"])
        parts.append(Part(_words(cells), shown))
    columns = ["dataset", "model", "ensemble", "twin", "tuning", "measure", "difference", "low", "high", "p", "n"]
    title = "Ensembles: paired differences to plain twins"
    return _table("table_ensembles_differences", title, GAIN, parts, rows, columns)


def diversity(ensembles: pd.DataFrame) -> Table | None:
    """How much the members differ and how good they are alone, above what was published."""
    parts, rows = [], []
    for dataset, model, cells in groups(ensembles[ensembles["disagreement"].notna()]):
        found = [
            {"ensemble": name, "members": mine["members"].iloc[0], "source": OURS, **_intervals(mine, DIVERSITY)}
            for name, mine in by_name(cells)
        ]
        known = [_published(row) for row in published(dataset, model) if row["disagreement"]]
        rows += [{"dataset": dataset, "model": model, **row} for row in [*found, *known]]
        lines = [{**_name(row), **_measured(row, DIVERSITY), "n": _whole(row["n"])} for row in found]
        parts += [Part(_words(cells), pd.DataFrame(lines)), *_published_part(known, DIVERSITY, cells)]
    measures = [f"{key}{end}" for key in DIVERSITY for end in ("", "_low", "_high")]
    columns = ["dataset", "model", "ensemble", "members", "source", *measures, "n"]
    title = "Ensembles: diversity of the members"
    return _table("table_ensembles_diversity", title, f"{SPREAD} {PAIRS}", parts, rows, columns)


def cost_reference(cells: pd.DataFrame) -> pd.Series:
    """The row that costs are relative to: the single model with the most training, else the largest budget of all."""
    single = cells[(cells["method"] == "independent") & (cells["members"] == 1)]
    among = single if len(single) else cells
    return among.iloc[int(among["dense_flops"].argmax())]


def _scored(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each of one data set's and model's ensembles."""
    unit = cost_reference(cells)
    rows = []
    for name, mine in by_name(cells):
        cost = {key: mine[key].mean() for key in COSTS}
        relative = {f"relative_{key}": cost[key] / unit[whole] for key, whole in RELATIVE.items()}
        first = mine.iloc[0]
        same = {key: first[key] for key in (*KIND, "corrupted_set", "corrupted_label", "corrupted_images")}
        rows.append(
            {
                **{"ensemble": name, "source": OURS, **same, **_intervals(mine, [*CLEAN, *CORRUPTED])},
                **{**cost, **relative, "diverged": int(mine["diverged"].sum()), "device": trained_on(mine)},
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


def _clean_part(ours: list[dict[str, Any]], cells: pd.DataFrame) -> Part:
    lines = [{**_name(row), **_measured(row, CLEAN), **_training(row), "n": _whole(row["n"])} for row in ours]
    return Part(f"Clean test set: {_words(cells)} {_unit(cells)}", pd.DataFrame(lines))


def _published_part(
    known: list[dict[str, Any]], heads: Mapping[str, tuple[str, int]], cells: pd.DataFrame, what: str = ""
) -> list[Part]:
    """The published rows of one data set and model; none if nobody published any."""
    lines = [
        {**_name(row), **_measured(row, heads), **_training(row), "Mean over": row["corrupted_set"] if what else DASH}
        | {"n": _whole(row["n"]), "Source": row["source"]}
        for row in known
    ]
    first = cells.iloc[0]
    caption = f"Published{what}: {first['dataset']}, {first['model']}. {_sources(row['source'] for row in known)}"
    return [Part(caption, pd.DataFrame(lines))] if lines else []


def _training(row: dict[str, Any]) -> dict[str, str]:
    return {"Epochs": _whole(row.get("epochs")), "Masked FLOPs": _share(row, "masked_flops")}


def _cost_part(ours: list[dict[str, Any]], cells: pd.DataFrame) -> Part:
    """The cost of training and of a prediction."""
    lines = [
        {
            "Ensemble": row["ensemble"],
            "Epochs": _whole(row["epochs"]),
            "Dense FLOPs": _share(row, "dense_flops"),
            "Masked FLOPs": _share(row, "masked_flops"),
            "Seconds": _seconds(row["train_seconds"]),
            "Passes": _whole(row["forward_passes"]),
            "FLOPs asked": _share(row, "inference_flops"),
            "Masked FLOPs asked": _share(row, "inference_masked_flops"),
            "Parameters": DASH if _blank(row["parameters"]) else f"{row['parameters']:,.0f}",
        }
        for row in ours
    ]
    return Part(f"Cost of training and, last, of a prediction: {_words(cells)} {_unit(cells)}", pd.DataFrame(lines))


def _corrupted_parts(ours: list[dict[str, Any]], known: list[dict[str, Any]], cells: pd.DataFrame) -> list[Part]:
    """Scores on corrupted test sets: a part for generated and for official ones each, and one for published scores."""
    scored = [row for row in ours if not _blank(row["corrupted_accuracy"])]
    parts = []
    for name in sorted({row["corrupted_label"] for row in scored}):
        lines = [
            {**_name(row), **_measured(row, CORRUPTED), "Mean over": _corruptions(row), "n": _whole(row["n"])}
            for row in scored
            if row["corrupted_label"] == name
        ]
        parts.append(Part(f"Corrupted test set, {name}: {_words(cells)}", pd.DataFrame(lines)))
    told = [row for row in known if not _blank(row.get("corrupted_accuracy"))]
    return [*parts, *_published_part(told, CORRUPTED, cells, " on corrupted test sets")]


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


def _spread(row: dict[str, Any], key: str, digits: int) -> str:
    """A measure with its spread; what was published as it was printed."""
    if "text" in row:
        text = row["text"].get(key) or DASH
        error = row["text"]["accuracy_se"] if key == "accuracy" else ""
        return f"{text} ± {error} SE" if error else text
    if _blank(row[key]):
        return DASH
    return plus_minus(row[key], row[f"{key}_low"], row[f"{key}_high"], row["n"], digits)


def _unit(cells: pd.DataFrame) -> str:
    first = cost_reference(cells)
    return f"FLOPs are relative to {first['ensemble']} ({first['epochs']:g} epochs)."


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
    """The data, the model and the hardware of what was trained."""
    counts = ", ".join(f"{count:,.0f}" for count in sorted(cells["train_images"].dropna().unique()))
    images = f"{counts} training images" if counts else UNCOUNTED
    augmented = " or ".join("augmented" if value else "not augmented" for value in sorted(cells["augment"].unique()))
    trained = f"{cells['dataset'].iloc[0]}, {cells['model'].iloc[0]}, {images}, {augmented}"
    return f"{trained}; {trained_on(cells)}."


def _sources(found: Iterable[str]) -> str:
    """The sources of the published rows, in full."""
    given = set(found)
    return "; ".join(f"{name}: {SOURCES[name]}" for name in SOURCES if name in given) + "."


def _table(
    name: str, title: str, note: str, parts: list[Part], rows: list[dict[str, Any]], columns: list[str]
) -> Table | None:
    """The table; None if the study has no ensembles to fill it with."""
    note = " ".join([note, *marks(MARKS, parts)])
    return Table(name, title, note, tuple(parts), pd.DataFrame(rows, columns=columns)) if parts else None
