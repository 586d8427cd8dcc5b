"""Parts that the tests share: a tiny study, and where the official CIFAR files may be."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch

pytest_plugins = ["shared", "tracked", "faults"]
ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and so do the commands that they run
# Files of minutes, the longest first: begun last, one of them would keep one process busy while the others are done.
LONG = ("test_nullgpu.py", "test_faults.py", "test_slurm.py", "test_findings.py", "test_pipeline.py", "test_browser.py")

TINY: dict[str, Any] = {
    "name": "tiny",
    "device": "cpu",
    "datasets": {"digits": {"source": "digits", "train": 60, "validation": 40, "split": "parent"}},
    "parents": {
        "small": {
            **{"dataset": "digits", "model": "resnet-small", "model_options": {"width": 4, "stages": 2}},
            **{"seeds": [0, 1], "epochs": 2, "batch_size": 30, "lr_schedule": "step-linear", "augment": "none"},
        }
    },
    "children": {"epochs": 2, "anneal_epochs": 1, "bn_images": 60},
    "blocks": [
        {"name": "dense", "parents": "small", "method": "dense"},
        {"name": "main", "parents": "small", "method": ["one-shot", "temperature"], "sparsity": [50, 80]},
    ],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort tests by their files, those of :data:`LONG` first."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A study of two parents and ten children that trains in about a second."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """The folder of the official CIFAR files, named by SSA_DATA; the test is skipped where there is none."""
    folder = os.environ.get("SSA_DATA")
    if not folder or not (Path(folder) / "cifar-10-batches-py").is_dir():
        pytest.skip("needs the official CIFAR-10 files: set SSA_DATA to the folder that holds cifar-10-batches-py")
    return Path(folder)
