"""The part of a study's results that is known before anything is trained: settings of children and ensembles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.errors import reading
from ssa.method import laws
from ssa.results.children import COLUMNS, FLAGS
from ssa.specs.specs import ChildSpec
from ssa.study.blocks import Child
from ssa.study.claims import CLAIMS
from ssa.study.ensembles import Ensemble
from ssa.study.study import Study, train_images

TUNING = ("structure", "sparsity", "tuning", "tau", "anneal_epochs", "lr_schedule", "lr")


@dataclass(frozen=True)
class Planned:
    """A row for each child and each ensemble that tables and figures will be made of; whether claims are tested.

    Columns are those of children.csv, and those of ensembles.csv that hold settings. Scores are blank, but for
    ``accuracy``, which is 0, and ``diverged``, which is False.
    """

    children: pd.DataFrame
    ensembles: pd.DataFrame
    findings: tuple[str, ...]
    claims: bool


def of(study: Study, record: Path | None = None) -> Planned:
    """The results that ``study`` will have, or of them only those that the folder ``record`` holds.

    ``UserError`` if a table of the record is damaged.
    """
    used = any(child.spec.score_used for child in study.children)
    children = [settings_of_child(child) | _scored(child.spec, used) for child in study.children]
    ensembles = [settings_of_ensemble(ensemble) | _asked(ensemble) for ensemble in study.ensembles]
    findings = tuple(study.raw.get("findings") or ())
    columns = [*COLUMNS, "gradient_batches", "points"]  # named, and flags bool, where there are no rows too
    rows = pd.DataFrame(children, columns=columns).astype(dict.fromkeys(FLAGS, bool))
    return Planned(
        _held(rows, record, "children", "child_id"),
        _held(pd.DataFrame(ensembles), record, "ensembles", "ensemble_id"),
        findings,
        claims=any(name in CLAIMS for name in study.raw.get("claims") or ()),
    )


def settings_of_child(child: Child) -> dict[str, Any]:
    """The columns of children.csv that hold a child's settings."""
    spec, annealing = child.spec, _annealing(child.spec)
    annealed = annealing["anneal_epochs"] is not None
    return {
        "parent": child.parent,
        **{"dataset": spec.parent.data.source, "model": spec.parent.model},
        **{"train_images": train_images(spec.parent.data), "augment": spec.recipe.augment != "none"},
        **{"parent_seed": spec.parent.seed, "seed": spec.seed},
        **{key: getattr(spec.mask, key) for key in ("criterion", "structure", "allocation", "stem", "sparsity")},
        **{"method": spec.method, "reference": child.reference},
        **annealing,
        "anneal_schedule": dict(spec.law_args)["schedule"] if annealed and laws.find(spec.law).gradual else None,
        **{key: getattr(spec.recipe, key) for key in ("epochs", "lr_schedule", "lr")},
        "child_id": spec.id,
    }


def settings_of_ensemble(ensemble: Ensemble) -> dict[str, Any]:
    """The columns of ensembles.csv that hold an ensemble's settings."""
    spec, parent = ensemble.spec, ensemble.spec.parents[0]
    return {
        **{"ensemble": ensemble.name, "method": spec.method, "masks": ensemble.masks},
        **_tuning(ensemble),
        **{"seed": spec.seed, "dataset": parent.data.source, "model": parent.model},
        **{"train_images": train_images(parent.data), "augment": parent.recipe.augment != "none"},
        **{"samples": spec.samples, "ensemble_id": spec.id},
    }


def _annealing(spec: ChildSpec) -> dict[str, Any]:
    """A child's tau and epochs of annealing; None of a child that is cut at once."""
    args = dict(spec.law_args)
    annealed = args.get("epochs", 0) > 0
    return {"tau": args.get("tau") if annealed else None, "anneal_epochs": args["epochs"] if annealed else None}


def _scored(spec: ChildSpec, used: bool) -> dict[str, Any]:
    """Placeholders of scores, and how many epochs a learning curve has; ``used``: whether it is of networks as used."""
    last = spec.recipe.epochs
    exact = set(range(last + 1)) if spec.score_epochs is None else {*spec.score_epochs, last}
    annealed = dict(spec.law_args).get("epochs", 0) if used else 0
    points = {epoch for epoch in exact if epoch >= annealed} | set(spec.score_used or ())
    return {
        **{"accuracy": 0.0, "diverged": False, "gradient_batches": spec.gradient_batches},
        "points": len([epoch for epoch in points if epoch <= last]),
    }


def _tuning(ensemble: Ensemble) -> dict[str, Any]:
    """How members are pruned and tuned; None for ensembles whose members are no children."""
    if not ensemble.spec.children:
        return dict.fromkeys(TUNING)
    child = ensemble.spec.children[0]
    return {
        **{"structure": child.mask.structure, "sparsity": child.mask.sparsity, "tuning": child.method},
        **_annealing(child),
        **{"lr_schedule": child.recipe.lr_schedule, "lr": child.recipe.lr},
    }


def _asked(ensemble: Ensemble) -> dict[str, Any]:
    """The settings that decide which scores an ensemble will have, and what its training will take.

    ``members``: all that answer, each head of a network and each sampled pass.
    """
    spec = ensemble.spec
    options = dict(spec.parents[0].model_options)
    heads = options.get("batch_ensemble") or options.get("mimo") or 1
    runs = {run.id: run.recipe.epochs for run in (*(member.run for member in spec.members), *spec.parents)}
    return {
        "members": len(spec.members) * heads * spec.samples,
        "epochs": sum(runs.values()),
        "corrupted_set": spec.corruptions,
        "validated": spec.parents[0].data.validation > 0,
    }


def _held(rows: pd.DataFrame, record: Path | None, table: str, key: str) -> pd.DataFrame:
    """Those of ``rows`` that a record's ``table`` has too; all where there is no record."""
    if record is None or rows.empty:
        return rows
    path = record / f"{table}.csv"
    if not path.is_file():
        return rows[:0]
    with reading(path):
        return rows[rows[key].isin(pd.read_csv(path, usecols=[key])[key])]
