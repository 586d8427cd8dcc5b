"""From the records of ensembles to the tables that everything downstream reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ssa.results.planned import settings_of_ensemble
from ssa.store.store import Store
from ssa.study.ensembles import Ensemble
from ssa.study.study import Study
from ssa.vocabulary import CONVENTIONS, MEASURES

COSTS = (
    *("epochs", "dense_flops", "masked_flops", "train_seconds", "forward_passes"),
    *("inference_flops", "inference_masked_flops", "parameters"),
)
# Each way of combining members, as columns name it, by where a record keeps it.
WAYS = {"": "conventions", "parent": "with_parent", "scaled": "scaled"}
SUFFIXES = {
    (way, convention): "".join(f"_{word}" for word in ("logits" if convention == "logits" else "", name) if word)
    for name, way in WAYS.items()
    for convention in CONVENTIONS
}
SCORES = tuple(f"{measure}{suffix}" for suffix in SUFFIXES.values() for measure in MEASURES)
SETTINGS = (
    *("study", "ensemble", "method", "masks", "structure", "sparsity", "tuning", "tau", "anneal_epochs"),
    *("lr_schedule", "lr", "seed", "dataset", "model", "train_images", "augment", "members", "samples"),
)
COLUMNS = (
    *(*SETTINGS, *SCORES, "temperature", "temperature_logits"),
    *("member_accuracy", "member_nll", "member_ece", "disagreement", "kl", "q_statistic", *COSTS),
    *(f"corrupted_{score}" for score in SCORES),
    *("corrupted_set", "corrupted_label", "corrupted_images", "diverged", "ensemble_id", "device", "git_commit"),
)
TABLES = {
    "ensembles": COLUMNS,
    "ensemble_sizes": ("ensemble_id", "size", "convention", *MEASURES),
    "ensemble_bins": ("ensemble_id", "set", "convention", "bin", "count", "confidence", "correct"),
    "corruptions": ("ensemble_id", "label", "kind", "severity", "convention", *MEASURES),
}


def collect_ensembles(study: Study, store: Store) -> tuple[dict[str, pd.DataFrame], list[dict[str, Any]]]:
    """The tables of :data:`TABLES` by name, none if the study has no ensembles; and the records behind them.

    ``UserError`` naming a missing or damaged record.
    """
    if not study.ensembles:
        return {}, []
    records = [store.read_ensemble(ensemble.spec) for ensemble in study.ensembles]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for ensemble, record in zip(study.ensembles, records, strict=True):
        key, result = {"ensemble_id": ensemble.spec.id}, record["result"]
        rows["ensembles"].append(ensemble_row(study, ensemble, record))
        rows["ensemble_sizes"] += [{**key, **found} for found in _sizes(result)]
        rows["ensemble_bins"] += [{**key, **found} for found in _bins(result)]
        rows["corruptions"] += [{**key, **found} for found in _corruptions(result.get("corrupted"))]
    return {name: pd.DataFrame(rows[name], columns=list(columns)) for name, columns in TABLES.items()}, records


def ensemble_row(study: Study, ensemble: Ensemble, record: Mapping[str, Any]) -> dict[str, Any]:
    """An ensemble's row of ensembles.csv."""
    result = record["result"]
    found: dict[str, Any] = {
        **{"study": study.name, **settings_of_ensemble(ensemble)},
        "members": result["members"],
        **{key: result["cost"][key] for key in COSTS},
        **{f"member_{measure}": _mean(result[f"member_{measure}"]) for measure in MEASURES[:3]},
        **result["diversity"],
        "diverged": not all(result["member_finite"]),
        **{key: record["made"][key] for key in ("device", "git_commit")},
    }
    found |= dict(_scores(result))
    for convention, suffix in zip(CONVENTIONS, ("", "_logits"), strict=True):
        found[f"temperature{suffix}"] = (result["scaled"][convention] or {}).get("temperature")
    if "corrupted" in result:
        found |= _corrupted(result["corrupted"])
    return {column: found.get(column) for column in COLUMNS}


def _scores(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for (way, convention), suffix in SUFFIXES.items():
        scores = (result.get(way) or {}).get(convention) or {}
        for measure in MEASURES:
            yield f"{prefix}{measure}{suffix}", scores.get(measure)


def _corrupted(corrupted: Mapping[str, Any]) -> dict[str, Any]:
    """The means over the widest named set that was scored."""
    name = list(corrupted["means"])[-1]
    return {
        **dict(_scores(corrupted["means"][name], "corrupted_")),
        **{"corrupted_set": name, "corrupted_label": corrupted["label"], "corrupted_images": corrupted["images"]},
    }


def _sizes(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for size in result["sizes"]:
        for convention in CONVENTIONS:
            yield {"size": size["size"], "convention": convention, **_only(size[convention])}


def _bins(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The reliability diagram on clean images, and that on all corrupted ones together."""
    for convention in CONVENTIONS:
        yield from _diagram("clean", convention, [result["reliability"][convention]])
        if "corrupted" in result:
            each = [found["reliability"][convention] for found in result["corrupted"]["rows"]]
            yield from _diagram("corrupted", convention, each)


def _diagram(name: str, convention: str, parts: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for number in range(len(parts[0]["count"])):
        totals = {key: sum(part[key][number] for part in parts) for key in ("count", "confidence", "correct")}
        yield {"set": name, "convention": convention, "bin": number, **totals}


def _corruptions(corrupted: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if corrupted is None:
        return
    for found in corrupted["rows"]:
        for convention in CONVENTIONS:
            head = {"label": corrupted["label"], "kind": found["kind"], "severity": found["severity"]}
            yield {**head, "convention": convention, **_only(found["conventions"][convention])}


def _only(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {measure: scores[measure] for measure in MEASURES}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
