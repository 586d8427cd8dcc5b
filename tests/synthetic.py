"""A small invented study of known effects, in the layout that the tables, claims and figures read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

EPOCHS = 20
SPARSITIES = (50.0, 90.0, 95.0, 98.0)
RATES = {"one-cycle": 0.1, "constant": 0.01}
# Points of test accuracy over one-shot, the same in every cell.
EFFECTS = {
    "one-shot": 0.0,
    "iterative": 0.1,
    "random": 0.8,
    "temperature": 1.5,
    "temperature-all": 0.9,
    "expected": 1.0,
}
CRITERIA = {
    "random": tuple(EFFECTS),
    "magnitude": ("one-shot", "iterative", "temperature"),
}
# Points that the target subnetwork has lost to its parent before the first step.
DROPS = {"one-shot": 30.0}
ANNEALED = ("iterative", "random", "temperature", "temperature-all", "expected")
REFERENCE = {"tau": 0.5, "anneal_epochs": 5.0, "anneal_schedule": "linear"}


def children(seed: int = 0, parents: int = 6, effects: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Children of ``parents`` parents, two each per cell, with gains over one-shot of ``effects`` points plus noise.

    Accuracy is the parent's, minus a loss that grows with sparsity, plus the method's effect, plus noise of the
    parent (sd 0.5, shared by the methods), of parent and method (sd 0.1) and of the child (sd 0.2).
    """
    rng = np.random.default_rng(seed)
    gains = {**EFFECTS, **(effects or {})}
    rows = []
    for parent_seed in range(parents):
        parent_accuracy = 92 + rng.normal(0, 0.5)
        shift = {method: rng.normal(0, 0.1) for method in gains}
        for child_seed, (lr_schedule, lr) in itertools.product((0, 1), RATES.items()):
            head = {"parent_seed": parent_seed, "seed": child_seed, "lr_schedule": lr_schedule, "lr": lr}
            dense = parent_accuracy + 0.3 + rng.normal(0, 0.2)
            head |= {"parent_accuracy": parent_accuracy, "dense_accuracy": dense}
            rows.append({**head, "method": "dense", "criterion": "none", "sparsity": 0.0, "accuracy": dense})
            for cell in _cells(lr_schedule):
                loss = 10 * (cell["sparsity"] / 100) ** 8
                noise = shift[cell["method"]] + rng.normal(0, 0.2) + cell.pop("variant")
                accuracy = parent_accuracy - loss + gains[cell["method"]] + noise
                rows.append({**head, **cell, "accuracy": accuracy})
    return _finished(pd.DataFrame(rows))


def history(children: pd.DataFrame) -> pd.DataFrame:
    """A row for each child and epoch 0..20; the target subnetwork recovers exponentially from its first drop.

    So does the network as it is used, which is scored at epochs 0..5: while a child is annealed it has 20 points more.
    Gradients vary ten times as much where all pruned weights are kept as where none is; masks make half of that.
    """
    epochs = np.arange(EPOCHS + 1)
    long = children.merge(pd.DataFrame({"epoch": epochs}), how="cross")
    drop = long["method"].map(DROPS).fillna(5.0).where(long["method"] != "dense", 0.0)
    accuracy = long["accuracy"] - drop * np.exp(-long["epoch"] / 2)
    done = (long["epoch"] / long["anneal_epochs"].fillna(1.0)).clip(upper=1)
    start = long["tau"].fillna(0.5).where(long["anneal_epochs"].notna(), 0.0)
    keep = start * (1 - done)
    return pd.DataFrame(
        {
            "child_id": long["child_id"],
            "epoch": long["epoch"],
            "train_loss": 0.2 + np.exp(-long["epoch"] / 3),
            "validation_accuracy": accuracy - 1,
            "test_accuracy": accuracy,
            "test_accuracy_used": (accuracy + 20 * (keep > 0)).where(long["epoch"] <= 5),
            "lr": long["lr"],
            "keep_pruned": keep,
            "gradient_variance": 0.01 * 10**keep,
            "gradient_mask_variance": 0.005 * 10**keep * (keep > 0),
            "gradient_square": 0.02 * 10**keep,
        }
    )


def study() -> dict[str, Any]:
    """The content of study.json."""
    return {
        "name": "synthetic",
        "title": "An invented study",
        "question": "Are known effects found?",
        "regime": "Invented numbers; nothing was trained.",
        "config_file": "config/synthetic.yaml",
        "claims": {
            "smallest_difference": 0.2,
            "confidence": 0.95,
            "ssa": {"method": "temperature", "tau": 0.5, "anneal_fraction": 0.25, "anneal_schedule": "linear"},
            "C1": {"baselines": ["one-shot", "iterative"], "sparsities": [95, 98]},
            "C2": {"sparsities": [95, 98]},
            "C3": {},
            "C4": {"best": [5, 10], "sparsities": [90], "lr_schedules": ["one-cycle"]},
            "C5": {"sparsities": [98], "quoted": {"constant": 6.0, "one-cycle": 4.0}},
            "C6": {"sparsities": [98]},
            "C7": {"sparsities": [98]},
            "C8": {"sparsities": [98]},
            "C9": {"criteria": ["magnitude"]},
            "C10": {"criteria": ["random", "magnitude"]},
        },
        "hyperparameters": [
            {"scope": "child", "key": "epochs", "value": EPOCHS, "source": "assumed"},
            {"scope": "child", "key": "tau", "value": 0.5, "source": "summary"},
        ],
        "assumptions": ["Effects are the same in every cell."],
        "deviations": ["Nothing was trained."],
        "counts": {"parents": 6, "children": 1020, "epochs": 20400},
        "record": {
            "devices": {"test device": 1020},
            "versions": {"torch": "0.0"},
            "git_commits": ["0000000"],
            "started": "2024-01-01T00:00:00+00:00",
            "finished": "2024-01-01T01:00:00+00:00",
            "train_hours": 1.0,
            "planned": {"parents": 6, "children": 1020, "ensembles": 0},
        },
    }


def write(folder: Path) -> Path:
    """Write children.csv, history.parquet, parents.csv and study.json into ``folder``, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = children()
    frame.to_csv(folder / "children.csv", index=False)
    history(frame).to_parquet(folder / "history.parquet", index=False)
    parent_rows(frame).to_csv(folder / "parents.csv", index=False)
    (folder / "study.json").write_text(json.dumps(study(), indent=1), encoding="utf-8")
    return folder


def parent_rows(children: pd.DataFrame) -> pd.DataFrame:
    """The content of parents.csv: a row for each parent."""
    keys = ["study", "parent", "dataset", "model", "parent_seed", "parent_id", "device", "git_commit"]
    rows = children.drop_duplicates("parent_id")[[*keys, "parent_accuracy"]]
    rows = rows.rename(columns={"parent_accuracy": "accuracy"}).reset_index(drop=True)
    return rows.assign(epochs=30, nll=0.3, ece=2.0, validation_accuracy=91.0, train_loss_clean=0.05, train_seconds=60.0)


def _cells(lr_schedule: str) -> list[dict[str, Any]]:
    """The pruned children of one parent, child seed and learning-rate schedule; ``variant`` is an extra effect."""
    cells = [
        {"criterion": criterion, "sparsity": sparsity, "variant": 0.0, **_setting(method)}
        for criterion, methods in CRITERIA.items()
        for sparsity, method in itertools.product(SPARSITIES, methods)
    ]
    if lr_schedule == "one-cycle":  # the ablation at 90%: a short annealing and an extreme tau cost accuracy
        for tau, epochs, schedule in itertools.product((0.1, 0.5), (1.0, 5.0, 10.0), ("linear", "cosine")):
            setting = {"tau": tau, "anneal_epochs": epochs, "anneal_schedule": schedule}
            if setting != REFERENCE:
                loss = (epochs == 1.0) * -0.6 + (tau == 0.1) * -0.5
                cell = {"criterion": "random", "sparsity": 90.0, "method": "temperature", "variant": loss}
                cells.append({**cell, **setting, "reference": False})
    return cells


def _setting(method: str) -> dict[str, Any]:
    """The reference setting of ``method``, with only the arguments that it takes."""
    setting = dict(REFERENCE) if method in ANNEALED else {}
    if method in ("iterative", "random"):
        setting.pop("tau")
    return {"method": method, **setting}


def _finished(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with the columns that are the same in every child or follow from the others."""
    rows["reference"] = rows["reference"].fillna(True).astype(bool)
    fixed = {
        **{"study": "synthetic", "block": "main", "parent": "small", "dataset": "digits", "model": "small-net"},
        **{"train_images": 1000, "augment": True, "structure": "connections", "allocation": "layerwise"},
        **{"stem": "pruned", "epochs": EPOCHS, "nll": 0.4, "ece": 3.0, "train_loss_clean": 0.1},
        **{"train_accuracy_clean": 97.0, "train_seconds": 10.0, "diverged": False, "diverged_step": np.nan},
        **{"device": "test device", "git_commit": "0000000"},
    }
    rows = rows.assign(**fixed)
    rows["parent_id"] = [f"p{seed}" for seed in rows["parent_seed"]]
    rows["child_id"] = [f"c{i:05d}" for i in range(len(rows))]
    rows["realised_sparsity"] = rows["effective_sparsity"] = rows["sparsity"]
    rows["accuracy_bn"] = rows["accuracy"] + 0.05 * (rows["method"] == "one-shot")
    rows["accuracy_before"] = rows["accuracy"] - 30
    rows["validation_accuracy"] = rows["accuracy"] - 1
    return rows
