"""The content of a record's W&B run: plain values, before anything is written."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from ssa.results import aggregate_ensembles as ensemble_results
from ssa.results.aggregate import SCORED, child_row
from ssa.specs.specs import ParentSpec
from ssa.study.blocks import Child
from ssa.study.ensembles import Ensemble
from ssa.study.study import Study

LAYOUT = 1  # raised when what a run says changes, so that runs that are there are written anew
MEASURED = ("study", "parent_accuracy", *SCORED, "diverged", "device", "git_commit")
ID_LENGTH, TAG_LENGTH = 64, 64  # what W&B accepts


@dataclass(frozen=True)
class TrackedRun:
    """One run. ``history``: a row of metrics for each ``step``, a whole number under that key."""

    name: str
    job_type: str
    group: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step: str = "epoch"

    @property
    def id(self) -> str:
        """The record's own id, shortened before its hash to what W&B accepts; the same for every writing."""
        return run_id(self.name)

    @property
    def digest(self) -> str:
        """A digest of the content, to tell whether a run that was written still says this."""
        content = [LAYOUT, self.name, self.job_type, self.group, self.tags, self.config, self.history, self.summary]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def run_id(name: str) -> str:
    """``name`` as W&B accepts an id: letters, digits, ``.``, ``-`` and ``_``, at most 64; a long one keeps its end."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    if len(plain) <= ID_LENGTH:
        return plain
    head, _, hashed = plain.rpartition("-")
    return f"{head[: ID_LENGTH - len(hashed) - 1].rstrip('-.')}-{hashed}"


def of_parent(study: Study, kind: str, spec: ParentSpec, record: dict[str, Any]) -> TrackedRun:
    """The run of a parent of the kind ``kind``."""
    config = {
        **{"study": study.name, "parent": kind, "dataset": spec.data.source, "model": spec.model},
        **{"parent_seed": spec.seed, "epochs": spec.recipe.epochs, "parent_id": spec.id},
    }
    tags = _tags(study.name, spec.data.source, spec.model)
    return _run(spec.id, "parent", spec.id, tags, config, record["result"], record)


def of_child(
    study: Study, child: Child, record: dict[str, Any], parent: dict[str, Any], job_type: str = "child"
) -> TrackedRun:
    """The run of a child, whose settings have the names that they have in children.csv; ``parent``: its record.

    ``job_type``: "member" for one that an ensemble alone trained, and that the study's comparisons leave out.
    """
    spec, columns = child.spec, child_row(study, child, record, parent)
    config = {"study": study.name, **{key: value for key, value in columns.items() if key not in MEASURED}}
    summary = {**record["result"], "diverged": columns["diverged"], "parent_accuracy": columns["parent_accuracy"]}
    tags = _tags(study.name, spec.parent.data.source, spec.parent.model, spec.mask.criterion, spec.method)
    group = f"{spec.parent.id}/{spec.mask.id}"
    return _run(spec.id, job_type, group, tags, config, summary, record)


def of_ensemble(study: Study, ensemble: Ensemble, record: dict[str, Any]) -> TrackedRun:
    """The run of an ensemble, whose settings and scores have the names that they have in ensembles.csv.

    Its history is by ``size``: the scores of the first so many members.
    """
    spec, parent = ensemble.spec, ensemble.spec.parents[0]
    columns = {
        key: value for key, value in ensemble_results.ensemble_row(study, ensemble, record).items() if value is not None
    }
    config = {key: value for key, value in columns.items() if key in ensemble_results.SETTINGS}
    summary = {key: value for key, value in columns.items() if key not in config}
    tags = _tags(study.name, parent.data.source, parent.model, spec.method, *filter(None, [columns.get("tuning")]))
    group = f"{parent.model}-{parent.data.source}/{ensemble.name}"
    run = _run(spec.id, "ensemble", group, tags, config, summary, record)
    sizes = [{"size": found["size"], **found["probabilities"]} for found in record["result"]["sizes"]]
    history = [{key: row[key] for key in ("size", "accuracy", "nll")} for row in sizes]
    return replace(run, history=history, step="size")


def _run(
    name: str,
    job_type: str,
    group: str,
    tags: tuple[str, ...],
    config: dict[str, Any],
    summary: dict[str, Any],
    record: dict[str, Any],
) -> TrackedRun:
    config = {**config, "spec": record["spec"], "made": record["made"]}
    history = [{key: value for key, value in epoch.items() if value is not None} for epoch in record.get("history", [])]
    return TrackedRun(name, job_type, group, tags, config, history, summary)


def _tags(*words: str) -> tuple[str, ...]:
    """Each word once, in order."""
    return tuple(dict.fromkeys(word[:TAG_LENGTH] for word in words))
