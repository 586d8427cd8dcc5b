"""A tiny study that has been trained, and its W&B runs: what the tests of logging share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY
from shared import once

from ssa import cli
from ssa.report.record import Record
from ssa.report.write import write_tables, write_verdicts
from ssa.store.store import Store

RUNS = 2 + 10 + 1  # parents, children, the study
PIXEL = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


def ssa(folder: Path, *args: str, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line in ``folder``, as a user has it."""
    return subprocess.run(
        [sys.executable, "-m", "ssa", *args],
        cwd=folder,
        env=environment(folder, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        encoding="utf-8",
    )


def environment(folder: Path, **env: str) -> dict[str, str]:
    """This process's environment without its own W&B, and with a home in ``folder``."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return {**plain, "HOME": str(folder / "home"), **env}


def logs(folder: Path) -> list[Path]:
    """The log of every run that was written."""
    return sorted((folder / "results/tiny/wandb").glob("offline-run-*/*.wandb"))


def children(folder: Path) -> list[dict[str, Any]]:
    """The records of all children."""
    paths = sorted((folder / "results/children").rglob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until ``condition`` holds; the test fails where that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_store: Store) -> Path:
    """A folder with the records and the tables of the tiny study, and one figure."""
    return once(tmp_path_factory, "trained", lambda folder: _tabulate(folder, tiny_store))


def _tabulate(folder: Path, records: Store) -> None:
    shutil.copytree(records.root, folder / "results")
    ssa = {"method": "temperature", "tau": 0.5, "anneal_fraction": 0.5, "anneal_schedule": "linear"}
    study = {**TINY, "title": "Tiny", "claims": {"ssa": ssa, "C1": {"sparsities": [80]}}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    here = os.getcwd()
    os.chdir(folder)
    try:
        assert cli.main(["aggregate", "tiny.yaml"]) == 0
        record = Record(Path("results/tiny"))
        write_tables(record, Path("paper_tables/tiny"))
        write_verdicts(record, Path("paper_tables/tiny"))
    finally:
        os.chdir(here)
    (folder / "figures/tiny").mkdir(parents=True)
    (folder / "figures/tiny/accuracy_vs_sparsity.png").write_bytes(PIXEL)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of ``trained``, for a test of its own."""
    return Path(shutil.copytree(trained, tmp_path / "study"))


@pytest.fixture(scope="session")
def logged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``trained`` whose runs are written."""

    def log(folder: Path) -> None:
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        done = ssa(folder, "track", "tiny.yaml")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{RUNS} W&B runs written to results/tiny/wandb")

    return once(tmp_path_factory, "logged", log)


@pytest.fixture
def again(logged: Path, tmp_path: Path) -> Path:
    """A copy of ``logged``, for a test of its own."""
    return Path(shutil.copytree(logged, tmp_path / "study", symlinks=True))
