"""Recorded results: replicates that are committed, added once, never replaced.

::

    recorded/<name>/study.yaml                              the study as it was when it was recorded last
    recorded/<name>/{children,parents}.csv, history.parquet, study.json
    recorded/<name>/{ensembles,ensemble_sizes,ensemble_bins,corruptions}.csv   where the study has ensembles
    recorded/<name>/runs.json                               each addition: when, how, on what, by which commit
    recorded/<name>/withdrawn{,_ensembles}.csv              rows that were taken back, each with the reason

A replicate is a parent with all of its children; an ensemble is added when all parents that it needs are. Children that
a study asks for later are added to their recorded parent. Tables, claims, figures and the page are made from a record
as they are from a study's results.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ssa.errors import UserError, reading
from ssa.files import write_atomically, write_json
from ssa.process import provenance
from ssa.results.aggregate import Collected, collect, dense_accuracy, resolved, write_results
from ssa.results.aggregate_ensembles import TABLES
from ssa.results.children import TEXT
from ssa.specs.specs import ParentSpec
from ssa.store.store import Store
from ssa.study import study as studies
from ssa.study.blocks import Child
from ssa.study.study import Study

# Columns of children.csv that are words, whatever they look like.
TEXT_COLUMNS = (*TEXT, "study", "block", "dataset", "model", "parent_id", "device", "git_commit")
# Why a record's own study lacks what is recorded.
CHANGED = (
    "the source of a law or model of one's own, or how children are trained, has changed since; check out the commit"
)
# What was withdrawn, by the columns that name each run; the first is a row's own.
WITHDRAWN = {"withdrawn.csv": ("child_id", "parent_id"), "withdrawn_ensembles.csv": ("ensemble_id",)}
FILES = ("children.csv", "parents.csv", "history.parquet", *(f"{name}.csv" for name in TABLES))


class Added(NamedTuple):
    """How many were added; ``children``: of parents that were recorded before."""

    parents: int = 0
    ensembles: int = 0
    children: int = 0


def add(study: Study, store: Store, folder: Path, how: str) -> Added:
    """Add the finished replicates and ensembles of ``study`` that ``folder`` never had.

    A recorded parent of which the study now asks for more children is added to, once all of these are finished. ``how``
    says how they were run. Where the study now says more of the same children, such as another question or claim, the
    record takes that over.

    ``UserError`` if the study no longer has something that is recorded, or if children or an ensemble are of a
    recorded parent that was trained anew and came out as another network: they would not be comparable.
    """
    if folder.name == study.name:
        raise UserError(f"{folder} is named as its study, whose tables it would overwrite; choose another name for it")
    old, runs = read(folder), _runs(folder)
    # What was withdrawn is known too.
    known, known_ensembles = ({key for run in runs for key in run[kind]} for kind in ("parents", "ensembles"))
    if old is not None:
        _check_whole(old, runs, folder)
        _check_still_there(study, old, folder, "record it under another name")
    new = [key for key in study.all_parents() if key not in known and _is_finished(study, store, key)]
    grown = {} if old is None else _grown(study, store, old)
    ensembles = [
        one
        for one in study.of_parents({*new, *(() if old is None else old.parents.parent_id)}).ensembles
        if one.spec.id not in known_ensembles and store.ensemble_record(one.spec.id).exists()
    ]
    if not new and not ensembles and not grown:
        if old is not None:
            _write_study(folder, study, old, runs)
        return Added()
    if old is not None:
        asked = {spec.id: spec for one in ensembles for spec in one.spec.parents}
        _check_same_networks(store, old, asked | {key: study.parent(key) for key in grown}, folder)
    more = {child.spec.id for children in grown.values() for child in children}
    part = study.of_parents({*new, *grown})
    wanted = tuple(child for child in part.children if child.spec.parent.id in new or child.spec.id in more)
    found = collect(replace(part, children=wanted, ensembles=tuple(ensembles)), store, known=grown)
    added = {"parents": [*new, *grown], "ensembles": [one.spec.id for one in ensembles]}
    addition = {**found.made, **added, "how": how, "recorded": provenance.now()}
    _write(folder, study, _joined(old, found), [*runs, addition])
    return Added(len(new), len(ensembles), len(more))


def _grown(study: Study, store: Store, old: Collected) -> dict[str, list[Child]]:
    """The children of each recorded parent that are finished and not recorded, where that makes it whole again."""
    there, found = set(old.children.child_id), {}
    for key in old.parents.parent_id:
        missing = [child for child in study.children_of(key) if child.spec.id not in there]
        if missing and {child.spec.id for child in missing} <= store.recorded_children(key):
            found[key] = missing
    return found


def withdraw(folder: Path, parent_ids: list[str], reason: str) -> None:
    """Move the rows of these parents and their children to withdrawn.csv, with ``reason``.

    ``UserError`` if they are not recorded, an addition was cut off, or the code does not know all that is recorded.
    """
    old, study = _recorded(folder)
    if old is None or not set(parent_ids) <= {*old.parents.parent_id, *old.children.parent_id}:
        known = ", ".join(old.parents.parent_id) if old is not None else "nothing"
        raise UserError(f"{folder} has not all of {', '.join(parent_ids)}; recorded there: {known}")
    runs = _runs(folder)
    _check_whole(old, runs, folder)
    _check_still_there(study, old, folder, f"{CHANGED} that its table names")
    _set_aside(folder / "withdrawn.csv", old.children[old.children.parent_id.isin(parent_ids)], reason)
    lost = _ensembles_of(study, parent_ids)
    if old.ensembles:
        ensembles = old.ensembles["ensembles"]
        _set_aside(folder / "withdrawn_ensembles.csv", ensembles[ensembles.ensemble_id.isin(lost)], reason)
    children = old.children[~old.children.parent_id.isin(parent_ids)]
    left = {name: table[~table.ensemble_id.isin(lost)] for name, table in old.ensembles.items()}
    found = Collected(
        children,
        old.parents[~old.parents.parent_id.isin(parent_ids)],
        old.history[old.history.child_id.isin(children.child_id)],
        {},
        left if any(map(len, left.values())) else {},
    )
    if len(found.parents):
        _write(folder, study, found, runs)
    else:
        for name in (*FILES, "study.json"):
            (folder / name).unlink(missing_ok=True)


def _set_aside(path: Path, rows: pd.DataFrame, reason: str) -> None:
    """Add ``rows`` to those in ``path``, each once: the same may be withdrawn again after it was cut off."""
    gone = rows.assign(reason=reason, withdrawn=provenance.now())
    if path.exists():
        gone = pd.concat([_read_csv(path), gone]).drop_duplicates(WITHDRAWN[path.name][0], keep="last")
    write_atomically(path, lambda partial: gone.to_csv(partial, index=False))


def _ensembles_of(study: Study, parent_ids: list[str]) -> set[str]:
    """The ensembles that need any of these parents."""
    return {e.spec.id for e in study.ensembles if any(spec.id in parent_ids for spec in e.spec.parents)}


def read(folder: Path) -> Collected | None:
    """The tables that ``folder`` records; None if it does not exist yet. ``UserError`` naming one that is damaged."""
    if not (folder / "children.csv").exists():
        return None
    children, parents = (_read_csv(folder / f"{name}.csv") for name in ("children", "parents"))
    with reading(folder / "history.parquet"):
        history = pd.read_parquet(folder / "history.parquet")
    history = history[history.child_id.isin(children.child_id)]  # an addition that was cut off may have left more
    ensembles = {name: _read_csv(folder / f"{name}.csv") for name in TABLES if (folder / f"{name}.csv").exists()}
    return Collected(children, parents, history, {}, ensembles)


def show(folder: Path, child_id: str) -> dict[str, Any]:
    """One recorded child: its row, its history, its whole specification, the commit, and how to train it again.

    ``commit_is``: whether the repository still has the commit, else a guess by date, which is called so.

    The command is for the checkout that holds the record: the specification names the version of the training
    semantics, so that code which would train it otherwise does not know the child. ``UserError`` if it does not, or if
    the child is not recorded.
    """
    found, study = _recorded(folder)
    if found is None or child_id not in set(found.children.child_id):
        raise UserError(f"{folder} records no child {child_id!r}; the column child_id of its children.csv names them")
    row = found.children.set_index("child_id", drop=False).loc[child_id]
    specs = {child.spec.id: child.spec for child in study.children}
    if child_id not in specs:
        raise UserError(
            f"{study.path} no longer has {child_id}: {CHANGED} that made it ({row.git_commit or 'unknown'})"
        )
    again = f"ssa children {folder / 'study.yaml'} --parent {row.parent_id} --child {child_id}"
    return {
        "row": {str(key): _value(str(key), text) for key, text in row.to_dict().items()},
        "history": found.history[found.history.child_id == child_id].drop(columns="child_id").to_dict("records"),
        "specification": specs[child_id].content(),
        "commit": row.git_commit,
        "commit_is": provenance.whereabouts(str(row.git_commit), _started(folder, str(row.parent_id))),
        "rerun": f"{again} --results rerun",
    }


def _recorded(folder: Path) -> tuple[Collected | None, Study]:
    """The tables of ``folder``, None if all was withdrawn, and their study; ``UserError`` unless it is a record."""
    if not (folder / "study.yaml").exists():
        raise UserError(f"{folder} is no record; name a folder that ssa record made, such as recorded/reduced-cpu")
    return read(folder), studies.load(folder / "study.yaml")


def _value(column: str, text: str) -> str | float | bool | None:
    """A cell of a table as what it stands for; None for an empty one."""
    if not text or column in TEXT_COLUMNS:
        return text or None
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def _started(folder: Path, parent_id: str) -> str:
    """When the addition that holds this parent began to train."""
    return next((run["started"] for run in _runs(folder) if parent_id in run["parents"]), "")


def _joined(old: Collected | None, new: Collected) -> Collected:
    """The rows of both; those of ``old`` stay as they are written."""
    if old is not None:  # the dense sibling of a new child may have been recorded before
        both = pd.concat([pd.read_csv(StringIO(old.children.to_csv(index=False))), new.children])
        new.children["dense_accuracy"] = dense_accuracy(both).to_numpy()[len(old.children) :]
    children, parents = (_as_text(table) for table in (new.children, new.parents))
    ensembles = {name: _as_text(table) for name, table in new.ensembles.items()}
    if old is None:
        return Collected(children, parents, new.history, {}, ensembles)
    return Collected(
        _stacked(old.children, children),
        _stacked(old.parents, parents),
        pd.concat([old.history, new.history]),
        {},
        {**old.ensembles, **{name: _stacked(old.ensembles.get(name), table) for name, table in ensembles.items()}},
    )


def _stacked(old: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    return new if old is None else pd.concat([old, new]).fillna("")


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    return _cells(StringIO(table.to_csv(index=False)))


def _is_finished(study: Study, store: Store, parent_id: str) -> bool:
    wanted = {child.spec.id for child in study.children_of(parent_id)}
    return store.parent_record(parent_id).exists() and wanted <= store.recorded_children(parent_id)


def _ensemble_ids(found: Collected) -> set[str]:
    return set(found.ensembles["ensembles"].ensemble_id) if found.ensembles else set()


def _check_whole(old: Collected, runs: list[dict[str, Any]], folder: Path) -> None:
    """``UserError`` if an addition was cut off: the tables have more than ``runs``, which are written after them."""
    gone = {name: _read_csv(path) for name in WITHDRAWN if (path := folder / name).exists()}
    there = {*old.children.child_id, *old.parents.parent_id, *_ensemble_ids(old)}
    there |= {key for name, table in gone.items() for column in WITHDRAWN[name] for key in table[column]}
    told = sum(sum(run["devices"].values()) for run in runs)
    if len(there) > told:
        raise UserError(
            f"{folder} was left unfinished: its tables have {len(there)} runs, and runs.json tells of {told}; restore "
            "the folder as it was committed (git checkout), or delete it where it never was, and record again"
        )


def _check_still_there(study: Study, old: Collected, folder: Path, way_out: str) -> None:
    for kind, recorded, known in (
        ("children", set(old.children.child_id), {child.spec.id for child in study.children}),
        ("parents", set(old.parents.parent_id), set(study.all_parents())),
        ("ensembles", _ensemble_ids(old), {one.spec.id for one in study.ensembles}),
    ):
        if lost := sorted(recorded - known):
            raise UserError(
                f"{study.path} has no longer {len(lost)} of the {kind} recorded in {folder}, such as {lost[0]}; "
                f"{way_out}"
            )


def _check_same_networks(store: Store, old: Collected, parents: dict[str, ParentSpec], folder: Path) -> None:
    for parent_id, nll, device in old.parents[["parent_id", "nll", "device"]].itertuples(index=False, name=None):
        here = store.read_parent(parents[parent_id]) if parent_id in parents else None
        if here and float(nll) != here["result"]["nll"]:
            raise UserError(
                f"{store.parent_record(parent_id)} is another network than the one recorded in {folder} (trained on "
                f"{here['made']['device']}, that one on {device}); record ensembles and more children of parents that "
                "are not recorded yet, or train this one where the recorded one was"
            )


def _write(folder: Path, study: Study, found: Collected, runs: list[dict[str, Any]]) -> None:
    """All files of the record; the study's, which the next addition writes again, after what they are made from."""
    write_results(folder, found)
    write_json(folder / "runs.json", runs)
    _write_study(folder, study, found, runs)


def _write_study(folder: Path, study: Study, found: Collected, runs: list[dict[str, Any]]) -> None:
    """study.yaml, and study.json, which describes the recorded part of it."""
    path, kept = folder / "study.yaml", set(found.parents.parent_id)
    if study.path.resolve() != path.resolve():
        write_atomically(path, lambda partial: shutil.copyfile(study.path, partial))
    recorded = _ensemble_ids(found)
    made = _together([run for run in runs if kept & set(run["parents"]) or recorded & set(run["ensembles"])])
    ensembles = tuple(one for one in study.ensembles if one.spec.id in recorded)
    part = study.of_parents(kept)
    there = set(found.children.child_id)
    children = tuple(child for child in part.children if child.spec.id in there)
    part = replace(part, path=path, children=children, ensembles=ensembles)
    planned = {"parents": study.all_parents(), "children": study.children, "ensembles": study.ensembles}
    made["planned"] = {kind: len(each) for kind, each in planned.items()}
    write_json(folder / "study.json", resolved(part, made))


def _runs(folder: Path) -> list[dict[str, Any]]:
    path = folder / "runs.json"
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The making of all ``runs``, in the form of one."""
    devices: Counter[str] = Counter()
    versions: dict[str, set[str]] = {}
    for run in runs:
        devices.update(run["devices"])
        for package, found in run["versions"].items():
            versions.setdefault(package, set()).update(found.split(", "))
    return {
        "devices": dict(devices),
        "versions": {package: ", ".join(sorted(found)) for package, found in sorted(versions.items())},
        "git_commits": sorted({commit for run in runs for commit in run["git_commits"]}),
        "started": min(run["started"] for run in runs),
        "finished": max(run["finished"] for run in runs),
        "train_hours": round(sum(run["train_hours"] for run in runs), 3),
    }


def _read_csv(path: Path) -> pd.DataFrame:
    with reading(path):
        return _cells(path)


def _cells(table: Path | StringIO) -> pd.DataFrame:
    """Every cell as it is written, so that nothing changes when it is written again."""
    return pd.read_csv(table, dtype=str, keep_default_na=False)
