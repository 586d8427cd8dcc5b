"""A study of 20,000 children is planned, kept and aggregated on what a login node allows. Its records are made up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY

from ssa.store.store import Store, write_record
from ssa.study import study

pytestmark = pytest.mark.slow
METHODS = ["one-shot", "iterative", "random", "temperature"]
EPOCHS = 20
# Between the tests and what is measured: Linux counts to a process the memory of the one that started it.
WATCH = """
import pathlib, resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
pathlib.Path("memory.txt").write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load")
    raw = {**TINY, "name": "load", "children_per_job": 20, "children": {**TINY["children"], "epochs": EPOCHS}}
    raw["parents"] = {"small": {**TINY["parents"]["small"], "seeds": list(range(20))}}
    grid = {"method": METHODS, "sparsity": [50, 70, 80, 90, 95], "seed": list(range(50))}
    raw["blocks"] = [{"name": "main", "parents": "small", **grid}]
    (folder / "load.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return folder


def measured(folder: Path, *command: str) -> tuple[float, float, str]:
    """Seconds, GB at most and output of ``python -m COMMAND`` in ``folder``."""
    started = time.monotonic()
    watched = [sys.executable, "-c", WATCH, sys.executable, "-m", *command]
    process = subprocess.run(watched, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    seconds, said = time.monotonic() - started, process.stdout + process.stderr
    assert process.returncode == 0, said[-2000:]
    return seconds, int((folder / "memory.txt").read_text(encoding="utf-8")) / 1e6, said


def test_a_study_of_20000_children_is_planned_in_a_minute(folder: Path) -> None:
    options = ("-s", str(ROOT / "Snakefile"), "--configfile", "load.yaml", "--cores", "2", "--dry-run", "--quiet")
    seconds, memory, said = measured(folder, "snakemake", *options)
    print(f"dry run of 20,000 children in 1,000 jobs: {seconds:.1f} s, {memory:.2f} GB")
    assert "20000 children" in said
    assert seconds < 60
    assert memory < 2


def test_20000_records_are_few_files_and_are_aggregated_in_seconds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    loaded, store = study.load(folder / "load.yaml"), Store(folder / "results")
    for parent in loaded.all_parents().values():
        write_record(store.parent_record(parent.id), parent, {"result": dict.fromkeys(PARENT, 1.0), "made": MADE})
    for child in loaded.children:
        store.record_child(child.spec, {"result": RESULT, "history": HISTORY, "made": MADE})
    files = sum(len(names) for top in ("parents", "children") for _, _, names in os.walk(store.root / top))
    size = sum(path.stat().st_size for path in store.root.rglob("*") if path.is_file()) / 1e6
    seconds, memory, _ = measured(folder, "ssa", "aggregate", "load.yaml")
    print(f"20,000 records in {files} files, {size:.0f} MB; aggregated in {seconds:.1f} s, {memory:.2f} GB")
    assert files <= 40
    assert len(pd.read_csv(folder / "results/load/children.csv")) == 20_000
    assert len(pd.read_parquet(folder / "results/load/history.parquet")) == 20_000 * (EPOCHS + 1)
    assert seconds < 30
    assert memory < 2


PARENT = ("accuracy", "nll", "ece", "validation_accuracy", "train_loss_clean", "train_loss", "train_seconds")
SCORES = ("accuracy", "nll", "ece", "accuracy_bn", "accuracy_before", "train_loss_clean", "train_accuracy_clean")
RESULT: dict[str, Any] = {
    **dict.fromkeys(
        (*SCORES, "validation_accuracy", "realised_sparsity", "effective_sparsity", "train_seconds"), 50.123
    ),
    **{"diverged_step": None, "finite": True},
}
ROW = ("train_loss", "lr", "keep_pruned", "validation_accuracy", "test_accuracy")
HISTORY = [{"epoch": epoch, **dict.fromkeys(ROW, 0.123456789)} for epoch in range(EPOCHS + 1)]
MADE = {
    **{"device": "none", "threads": 1, "versions": {"python": "3"}, "git_commit": "0000000"},
    **{"started": "2024-01-01T00:00:00+00:00", "finished": "2024-01-01T00:00:01+00:00"},
}
