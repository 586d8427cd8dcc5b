"""Parts that tests of faults share: a study long enough to disturb, and the comparison with an undisturbed run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from shared import once

STUDY: dict[str, Any] = {
    "name": "faults",
    "title": "A study to disturb",
    "device": "auto",
    "children_per_job": 4,
    "datasets": {"digits": {"source": "digits", "train": 300, "validation": 40, "split": "parent"}},
    "parents": {
        "small": {
            **{"dataset": "digits", "model": "resnet-small", "model_options": {"width": 8, "stages": 2}},
            **{"seeds": [0, 1], "epochs": 30, "batch_size": 30, "lr_schedule": "step-linear", "augment": "none"},
        }
    },
    "children": {"epochs": 16, "anneal_epochs": 4, "bn_images": 60, "score_epochs": [0]},
    "blocks": [
        {"name": "dense", "parents": "small", "method": "dense"},
        {"name": "main", "parents": "small", "method": ["one-shot", "random", "temperature"], "sparsity": 80},
    ],
}
# What says when and where a child was made, not what it is.
MADE = ["train_seconds", "device", "git_commit"]
TABLE = "results/faults/children.csv"


def write_study(folder: Path, trained: Path | None = None, **changes: Any) -> Path:
    """The study's file in ``folder``, which is made; with the parents and masks of the study in ``trained``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.yaml").write_text(yaml.safe_dump({**STUDY, **changes}), encoding="utf-8")
    if trained:
        for part in ("results/parents", "results/faults/marks"):
            shutil.copytree(trained / part, folder / part, ignore=shutil.ignore_patterns("jobs"))
    return folder


def snakemake(
    folder: Path, *options: str, target: str = TABLE, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Snakemake at work in ``folder`` until ``target`` is there; its output goes to snakemake.log."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), target, "--configfile", "faults.yaml"]
    with (folder / "snakemake.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [*command, *options], cwd=folder, env=env, stdout=log, stderr=log, text=True, encoding="utf-8"
        )


def finish(folder: Path, *options: str) -> None:
    """Run the study to its end on this machine."""
    process = snakemake(folder, "--cores", "2", "--rerun-incomplete", *options)
    assert process.wait(timeout=240) == 0, (folder / "snakemake.log").read_text(encoding="utf-8")[-3000:]


def ssa(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """One stage by hand in ``folder``."""
    whole = [sys.executable, "-m", "ssa", command[0], "faults.yaml", *command[1:]]
    return subprocess.run(whole, cwd=folder, capture_output=True, text=True, check=False, timeout=240, encoding="utf-8")


def jobs(folder: Path, stage: str) -> list[int]:
    """The processes of one stage that run in ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:4] == [b"-m", b"ssa", stage.encode()] and (process / "cwd").resolve() == folder.resolve():
                found.append(int(process.name))
        except OSError:
            continue
    return sorted(found)


def lines(folder: Path) -> list[bytes]:
    """All children's records that are whole lines now."""
    paths = sorted((folder / "results" / "children").rglob("*.jsonl"))
    return [line for path in paths for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def wait(what: str, ready: Callable[[], Any], seconds: float = 120) -> Any:
    """The answer of ``ready`` once it is true."""
    stop = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < stop, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.02)
    return found


def middle_of_a_child(folder: Path) -> int:
    """Wait until a job has recorded a child, and is in the next; returns its process."""
    wait("the first record", lambda: lines(folder))
    time.sleep(0.2)
    return wait("a job that trains children", lambda: jobs(folder, "children"))[0]


def rows(folder: Path) -> pd.DataFrame:
    """children.csv without what says when and where."""
    return pd.read_csv(folder / TABLE).drop(columns=MADE)


def compare(folder: Path, undisturbed: Path, kept: list[bytes]) -> None:
    """Assert that the disturbed study ended as the other, row by row, and trained no child of ``kept`` again."""
    ours, theirs = rows(folder), rows(undisturbed)
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    now = lines(folder)
    assert all(line in now for line in kept)
    print(f"compared {len(ours)} rows x {len(ours.columns)} columns: equal; {len(kept)} records from before were kept")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run to its end on this machine with nothing in its way."""

    def run(folder: Path) -> None:
        write_study(folder)
        finish(folder)

    return once(tmp_path_factory, "undisturbed", run)
