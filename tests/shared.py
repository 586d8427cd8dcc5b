"""Train once for all tests, however many processes run them."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ssa.process.deadline import Deadline
from ssa.process.locks import locked
from ssa.store.store import Store
from ssa.study import study
from ssa.workflow import stages


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder ``name``, which ``make`` fills in the first process of this run that asks; the others wait for it.

    Tests that change what is there work on a copy.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own in the run's
        base = base.parent
    folder, made = base / name, base / f"{name}.made"
    with locked(base / f"{name}.lock", wait=True):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The results of the tiny study, all of it."""
    from conftest import TINY

    def train(folder: Path) -> None:
        plan = study.expand(copy.deepcopy(TINY), Path("tiny.yaml"))
        assert stages.run(plan, Store(folder), None, Deadline()) == 0

    return Store(once(tmp_path_factory, "tiny-results", train))
