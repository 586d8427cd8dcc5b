"""From records to the tables that everything downstream reads."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssa.files import write_atomically, write_json
from ssa.results import aggregate_ensembles as ensemble_results
from ssa.results.children import COLUMNS, MADE
from ssa.results.planned import settings_of_child
from ssa.specs.specs import DataSpec, Recipe
from ssa.store.store import Store
from ssa.study import own_tables
from ssa.study.blocks import INHERITED, NO_SETTINGS, Child, ChildSettings
from ssa.study.claims import ssa_settings
from ssa.study.ensembles import CorruptionSettings, EnsembleSettings
from ssa.study.study import Study, total_epochs

SCORED = (
    *("accuracy", "nll", "ece", "accuracy_bn", "accuracy_before", "train_loss_clean", "train_accuracy_clean"),
    *("validation_accuracy", "realised_sparsity", "effective_sparsity", "train_seconds", "diverged_step"),
)
PARENT_COLUMNS = (
    *("study", "parent", "dataset", "model", "parent_seed", "epochs", "accuracy", "nll", "ece", "validation_accuracy"),
    *("train_loss_clean", "train_seconds", "parent_id", *MADE),
)
HISTORY = ("epoch", "train_loss", "lr", "keep_pruned", "validation_accuracy", "test_accuracy")  # in every study's
# What holds for every child of every study, with where it comes from; the tests of the engine show that it does.
FIXED = (
    ("sampling", "one mask per optimisation step and tensor, applied to the fp32 weight before any cast", "reviews"),
    ("clock", "epochs from the child's first step; p is read at the start of a step, exact from t >= e", "assumed"),
    ("optimiser state", "fresh for each child", "author-code"),
    (
        "pairing",
        "same parent, mask, batches and augmentation for all methods; masks have a stream of their own",
        "assumed",
    ),
    ("unit of inference", "the parent: differences are averaged within a parent, then a t-interval", "assumed"),
    ("diverged children", "scored as they evaluate, as a uniform guess if not finite; counted and marked", "assumed"),
)
# What blocks, ensembles and corruptions may set.
GIVEN = {
    field.name: field
    for kind in (ChildSettings, Recipe, EnsembleSettings, CorruptionSettings)
    for field in dataclasses.fields(kind)
}


@dataclass(frozen=True)
class Collected:
    """The tables of a study's records, and what made them (devices, versions, commits and times).

    ``ensembles``: the tables of :data:`ssa.results.aggregate_ensembles.TABLES` by name; none if the study has no
    ensembles.
    """

    children: pd.DataFrame
    parents: pd.DataFrame
    history: pd.DataFrame
    made: dict[str, Any]
    ensembles: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)


def aggregate(study: Study, store: Store) -> None:
    """Write children.csv and its companions, and study.json; ``UserError`` naming a missing record, or another study
    whose tables these would replace.
    """
    own_tables.check(study, store)
    folder, found = store.study_folder(study.name), collect(study, store)
    write_results(folder, found)
    write_json(folder / "study.json", resolved(study, found.made))


def write_results(folder: Path, found: Collected) -> None:
    """Write ``found`` as the tables that all else is made from; children have their rows when the rest is there."""
    write_atomically(folder / "history.parquet", partial(found.history.to_parquet, index=False))
    for name in ensemble_results.TABLES.keys() - found.ensembles.keys():  # of ensembles that the study no longer has
        (folder / f"{name}.csv").unlink(missing_ok=True)
    for name, table in {"parents": found.parents, **found.ensembles, "children": found.children}.items():
        write_atomically(folder / f"{name}.csv", partial(table.to_csv, index=False))


def collect(study: Study, store: Store, known: Collection[str] = ()) -> Collected:
    """Read the records of all of the study's runs, the parents ``known`` aside; ``UserError`` for a missing one."""
    parents = {spec.id: store.read_parent(spec) for spec in study.all_parents().values()}
    rows, history, making = [], _History(), _Making()
    for key, record in parents.items():
        if key not in known:
            making.add(record, record["result"]["train_seconds"])
    for child in study.children:
        record, parent = store.read_child(child.spec), parents[child.spec.parent.id]
        store.check_data(child.spec.parent.id, record, parent["made"].get("data"))
        rows.append(child_row(study, child, record, parent))
        history.add(child.spec.id, record["history"])
        making.add(record, record["result"]["train_seconds"])
    ensembles, records = ensemble_results.collect_ensembles(study, store)
    members: set[str] = set()  # several ensembles may have the same
    for ensemble, record in zip(study.ensembles, records, strict=True):
        origin = ensemble.spec.parents[0].id
        if origin in parents:  # else it is one of a study that has the ensemble alone
            store.check_data(origin, record, parents[origin]["made"].get("data"))
        runs = record["result"]["cost"]["runs"]
        new = [child.id for child in ensemble.spec.children if child.id not in members]
        making.add(record, sum(runs[child_id]["seconds"] for child_id in new))
        members.update(new)
    children = pd.DataFrame(rows, columns=[column for column in COLUMNS if column != "dense_accuracy"])
    children["dense_accuracy"] = dense_accuracy(children)
    parent_rows = pd.DataFrame(_parent_rows(study, parents), columns=list(PARENT_COLUMNS))
    parent_rows = parent_rows[~parent_rows["parent_id"].isin(known)]
    return Collected(children[list(COLUMNS)], parent_rows, history.frame(), making.summary(), ensembles)


class _History:
    """The rows of history.parquet by column: as one mapping a row, 100,000 children would take gigabytes."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.lengths: list[int] = []
        self.rows = 0
        self.columns: dict[str, array[float]] = {key: array("d") for key in HISTORY}

    def add(self, child_id: str, rows: list[dict[str, Any]]) -> None:
        self.ids.append(child_id)
        self.lengths.append(len(rows))
        for key in dict.fromkeys((*self.columns, *rows[0])):
            if key not in self.columns:
                self.columns[key] = array("d", [math.nan]) * self.rows
            self.columns[key].extend(math.nan if row.get(key) is None else row[key] for row in rows)
        self.rows += len(rows)

    def frame(self) -> pd.DataFrame:
        """child_id, epoch as whole numbers, and the rest."""
        ids = np.repeat(np.array(self.ids, dtype=object), self.lengths)
        frame = pd.DataFrame({"child_id": ids, **{key: np.frombuffer(values) for key, values in self.columns.items()}})
        return frame.astype({"epoch": int})


class _Making:
    """The making of the records: devices, versions, commits and times."""

    def __init__(self) -> None:
        self.devices: Counter[str] = Counter()
        self.versions: dict[str, set[str]] = {}
        self.commits: set[str] = set()
        self.started: list[str] = []
        self.finished: list[str] = []
        self.seconds = 0.0

    def add(self, record: dict[str, Any], train_seconds: float) -> None:
        made = record["made"]
        self.devices[made["device"]] += 1
        for package, version in made["versions"].items():
            self.versions.setdefault(package, set()).add(version)
        self.commits.add(made["git_commit"])
        self.started.append(made["started"])
        self.finished.append(made["finished"])
        self.seconds += train_seconds

    def summary(self) -> dict[str, Any]:
        return {
            "devices": dict(self.devices),
            "versions": {package: ", ".join(sorted(found)) for package, found in sorted(self.versions.items())},
            "git_commits": sorted(self.commits),
            "started": min(self.started),
            "finished": max(self.finished),
            "train_hours": round(self.seconds / 3600, 3),
        }


def child_row(study: Study, child: Child, record: dict[str, Any], parent: dict[str, Any]) -> dict[str, Any]:
    """A child's row of children.csv; ``parent``: its parent's record."""
    result = record["result"]
    return {
        **{"study": study.name, "block": child.block},
        **settings_of_child(child),
        **{key: result[key] for key in SCORED},
        **{"diverged": result["diverged_step"] is not None or not result["finite"]},
        "parent_accuracy": parent["result"]["accuracy"],
        "parent_id": child.spec.parent.id,
        **{key: record["made"].get(key, "") for key in MADE},
    }


def dense_accuracy(children: pd.DataFrame) -> pd.Series:
    """The accuracy of the dense child of the same parent, seed and training; NaN if the study has none."""
    keys = ["parent_id", "seed", "augment", "epochs", "lr_schedule", "lr"]
    dense = children[children.method == "dense"].drop_duplicates(keys).set_index(keys)["accuracy"]
    found = dense.reindex(pd.MultiIndex.from_frame(children[keys]))
    return pd.Series(found.to_numpy(), index=children.index)


def _parent_rows(study: Study, records: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    scored = ("accuracy", "nll", "ece", "validation_accuracy", "train_loss_clean", "train_seconds")
    for kind, specs in study.parents.items():
        for spec in specs:
            record = records[spec.id]
            yield {
                **{"study": study.name, "parent": kind, "dataset": spec.data.source, "model": spec.model},
                **{"parent_seed": spec.seed, "epochs": spec.recipe.epochs},
                **{key: record["result"][key] for key in scored},
                **{"parent_id": spec.id, **{key: record["made"].get(key, "") for key in MADE}},
            }


def resolved(study: Study, made: dict[str, Any]) -> dict[str, Any]:
    """The study as it was run: its texts, claims, every hyperparameter with its source, and what made the records."""
    claims = study.raw.get("claims") or {}
    text = {key: str(study.raw.get(key) or "").strip() for key in ("title", "question", "regime")}
    return {
        "name": study.name,
        **text,
        **({"demonstration": True} if study.raw.get("demonstration") else {}),
        "config_file": str(study.path),
        "claims": {**claims, "ssa": ssa_settings(claims)} if claims else {},
        "ensembles": list(study.raw.get("ensembles") or []),
        "findings": list(study.raw.get("findings") or []),
        "hyperparameters": list(hyperparameters(study)),
        "assumptions": list(study.raw.get("assumptions") or []),
        "deviations": list(study.raw.get("deviations") or []),
        "counts": {
            "parents": len(study.all_parents()),
            "children": len(study.children),
            "ensembles": len(study.ensembles),
            "epochs": total_epochs(study),
        },
        "record": made,
    }


def hyperparameters(study: Study) -> Iterator[dict[str, str]]:
    """Scope, key, value and source of every setting.

    A default's source is its own; that of what the study sets is what its ``provenance`` says, else "assumed".
    """
    raw = study.raw
    labels = raw.get("provenance") or {}
    for name, values in raw["datasets"].items():
        yield from _scope(f"data set {name}", DataSpec, values, labels)
    for name, values in raw["parents"].items():
        for key in ("model", "model_options", "seeds"):
            if values.get(key):
                yield _entry(f"parents {name}", key, values[key], "assumed")
        yield from _scope(f"parents {name}", Recipe, values, labels)
    for name, values in (raw.get("methods") or {}).items():
        yield from (_entry(f"method {name}", key, value, "assumed") for key, value in values.items())
    defaults = raw.get("children") or {}
    yield from _scope("children", ChildSettings, defaults, labels)
    yield from _scope("children", Recipe, defaults, labels, inherited=INHERITED)
    for block in raw["blocks"]:
        yield from _given(f"block {block['name']}", block, labels, (*NO_SETTINGS, "method"))
    for ensemble in raw.get("ensembles") or ():
        yield from _given(f"ensemble {ensemble['name']}", ensemble, labels, ("name", "parents"))
    yield from _given("corruptions", raw.get("corruptions") or {}, labels, ())
    for key, value, source in FIXED:
        yield _entry("fixed", key, value, source)


def _scope(
    scope: str, kind: type, values: Mapping[str, Any], labels: Mapping[str, str], inherited: Collection[str] = ()
) -> Iterator[dict[str, str]]:
    """The settings of ``kind`` in ``values``, and its defaults for the rest, but for those that are ``inherited``."""
    for field in dataclasses.fields(kind):
        given = field.name in values
        missing = field.default is dataclasses.MISSING or field.metadata.get("added") or field.name in inherited
        if field.name != "method" and (given or not missing):
            yield _entry(scope, field.name, values.get(field.name, field.default), _source(field, values, labels))


def _given(
    scope: str, values: Mapping[str, Any], labels: Mapping[str, str], others: Collection[str]
) -> Iterator[dict[str, str]]:
    """The settings in ``values``, but for ``others``, which are no settings."""
    for key, value in values.items():
        if key not in others:
            yield _entry(scope, key, value, _source(GIVEN[key], values, labels))


def _source(field: dataclasses.Field[Any], values: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    if values.get(field.name, field.default) == field.default:
        return str(field.metadata["source"])
    return labels.get(field.name, "assumed")


def _entry(scope: str, key: str, value: Any, source: str) -> dict[str, str]:
    if isinstance(value, Mapping):
        value = [f"{name}: {item}" for name, item in value.items()]
    listed = isinstance(value, (list, tuple))
    shown = (", ".join(str(item) for item in value) or "none") if listed else str(value)
    return {"scope": scope, "key": key, "value": "null" if value is None else shown, "source": source}
