"""Count what training asks of a GPU, on one that does nothing: graphs recorded anew, waits, leaks, launches."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT, TINY
from nullgpu import build

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
Measure = Callable[..., list[dict[str, Any]]]
SMALL = {"network": "resnet-small", "options": {"width": 8, "stages": 2}}
ELEMENTWISE = ["dense", "one-shot", "temperature", "temperature-all", "random", "random-independent"]
OTHERS = ["dense-then-cut", "constant-temperature", "iterative", "iterative-magnitude", "expected"]
RANKED = ["gradual", "movement"]
STRUCTURES = ["connections", "neurons"]
FROZEN = ["masked_weights", "pruned_weights"]


@pytest.fixture(scope="session")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that sees the null GPU."""
    if not (shutil.which("g++") and shutil.which("nm")):
        pytest.skip("needs g++ and nm to build the null GPU")
    if not torch.backends.cuda.is_built():
        pytest.skip("needs a PyTorch that was built for CUDA")
    hidden = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return {**hidden, **build.build(tmp_path_factory.mktemp("nullgpu")), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def measure(gpu: dict[str, str]) -> Measure:
    def rows(*cases: dict[str, Any]) -> list[dict[str, Any]]:
        command = (sys.executable, str(HERE / "measure.py"), json.dumps(cases))
        done = subprocess.run(command, env=gpu, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr[-3000:]
        found = [json.loads(line) for line in done.stdout.splitlines()]
        for row in found:
            print(row)
        return found

    return rows


def faults(row: dict[str, Any], launches: float = 25) -> list[str]:
    """The counts of a row that are higher than they should be."""
    limits = {"captures": 0, "waits": 1, "launches": launches, "grown": 1}
    broken = [name for name, limit in limits.items() if row[name] > limit]
    return broken + ["not compiled"] * (row["ran"] != "reduce-overhead")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_law_costs_more_than_its_launches(measure: Measure, structure: str) -> None:
    """One variant each for no mask, bytes and numbers, whatever the number of children."""
    rows = measure({**SMALL, "structure": structure, "laws": [*ELEMENTWISE, *OTHERS, *RANKED, *ELEMENTWISE[1:3]]})
    for row in rows:
        assert not faults(row), row
    assert rows[-1]["variants"] == 3


def test_frozen_weights_are_put_back_and_draws_are_regenerated_in_as_few_launches(measure: Measure) -> None:
    frozen = ({"laws": ["temperature", "expected"], "settings": {each: "freeze"}} for each in FROZEN)
    drawn = ({"laws": ELEMENTWISE[4:], "structure": each, "settings": {"regenerate": True}} for each in STRUCTURES)
    for row in measure(*({**SMALL, **each} for each in (*frozen, *drawn))):
        assert not faults(row), row


def test_annealing_takes_a_millisecond_of_the_cpu_and_little_more_than_one_shot_does(measure: Measure) -> None:
    """A step, in 60 epochs in turn with a one-shot child and with plain PyTorch: other processes disturb all alike."""
    case = {**SMALL, "laws": ["one-shot", *ELEMENTWISE[2:], "iterative", *RANKED], "timed": 60}
    *rows, slow = measure(case, {**case, "laws": ["temperature"], "fault": "slow"})
    for row in rows:
        assert row["times"] <= 1.5, row
        assert row["milliseconds"] <= 1, row
    assert slow["times"] > 1.5
    assert slow["milliseconds"] > 1


@pytest.mark.parametrize(
    ("network", "options", "augment"),
    [
        ("resnet18", {}, "crop-flip"),
        ("wrn-28-10", {"dropout": 0.3}, "crop-flip"),
        ("vit", {}, "autoaugment"),
        ("lenet-s", {"batch_ensemble": 4}, "crop-flip"),
        ("lenet-s", {"mimo": 3}, "crop-flip"),
    ],
)
def test_annealing_costs_the_host_what_one_shot_does(
    measure: Measure, network: str, options: dict[str, Any], augment: str
) -> None:
    case = {
        "network": network,
        "options": options,
        "augment": augment,
        "steps": 24,
    }  # AutoAugment's launches are shared
    case["laws"] = ["one-shot", "temperature", "random"]
    rows = measure(case)
    for row in rows:
        assert not faults(row), row
    assert max(row["launches"] for row in rows) - rows[0]["launches"] <= 8  # what drawing a mask takes
    assert abs(rows[1]["left"] - rows[0]["left"]) < 1
    assert rows[-1]["variants"] == 1


def test_a_hundred_children_leave_memory_flat_and_compile_no_more_than_the_first(measure: Measure) -> None:
    """Of three parents of one kind, in turn: every graph is recorded by the first child of a law."""
    laws = ["one-shot", "temperature", "gradual", "movement"]
    rows = measure({**SMALL, "laws": laws * 25, "parents": 3, "steps": 2, "batch": 8})
    assert len(rows) == 100
    assert max(row["left"] for row in rows[4:]) - min(row["left"] for row in rows[4:]) < 1
    assert {(row["variants"], row["recorded"]) for row in rows[4:]} == {(1, rows[3]["recorded"])}


def test_planted_faults_are_noticed(measure: Measure) -> None:
    """Each in every step of temperature annealing, which has none by itself."""
    wanted = {"": [], "new multiplier": ["captures"], "item": ["waits"], "from the CPU": ["waits"], "leak": ["grown"]}
    rows = measure(*({**SMALL, "laws": ["temperature"], "fault": fault} for fault in wanted))
    assert [row["fault"] for row in rows] == list(wanted)
    for row in rows:
        assert set(wanted[row["fault"]]) <= set(faults(row)), row
    assert not faults(rows[0])


def test_a_study_runs_from_end_to_end(gpu: dict[str, str], tmp_path: Path) -> None:
    study = {**copy.deepcopy(TINY), "device": "cuda"}
    study["parents"]["small"]["seeds"] = [0]
    study["blocks"] = [{"name": "main", "parents": "small", "method": ["one-shot", "temperature"], "sparsity": 80}]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    code = "import nullgpu, sys; from ssa.cli import main; sys.exit(main(sys.argv[1:]))"
    command = (sys.executable, "-c", code, "run", "tiny.yaml", "--results", "results")
    done = subprocess.run(command, env=gpu, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    files = [*(tmp_path / "results").rglob("children/*/*.jsonl")]
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(records) == 2
    assert {record["made"]["device"] for record in records} == {"Null H100"}
    assert {record["made"]["compile"] for record in records} == {"reduce-overhead"}
    assert not (ROOT / "results" / "tiny").exists()
