"""A built-in method is added in two files, its law and its entry in the catalogue, and a third to test its numbers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from ssa.study.methods import ANNEALED, CATALOGUE, CONTROLS

LAW = '''

@dataclass(frozen=True)
class Toy(Law):
    """Pruned weights are kept with probability (1 - a) / 4."""

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """1 for kept weights, (1 - a) / 4 for pruned ones."""
        return 1.0, (1 - a) / 4
'''
ENTRY = '    "toy": Method("Toy", "Toy annealing", style=Style("#123456", "*")),\n'
# Trains the study and shows it, as the commands do one by one.
SHOWN = """
from pathlib import Path

import ssa
from ssa import cli
from ssa.report.findings import controls
from ssa.results.children import read_children

shown = "report results/toy --tables shown --figures shown --out shown/report.html"
for command in ("run toy.yaml", "aggregate toy.yaml", shown):
    assert cli.main(command.split()) == 0, command
print(*controls.table(read_children(Path("results/toy")))["method"], ssa.__file__, sep="\\n")
"""


def insert(path: Path, before: str, text: str) -> None:
    """Put ``text`` into the file in front of the one place that begins with ``before``."""
    old = path.read_text(encoding="utf-8")
    assert old.count(before) == 1, before
    path.write_text(old.replace(before, text + before), encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with a method more, which is also a control: two files differ from ours."""
    shutil.copytree(ROOT / "ssa", tmp_path / "ssa", ignore=shutil.ignore_patterns("__pycache__"))
    methods, laws = tmp_path / "ssa/study/methods.py", tmp_path / "ssa/method/laws.py"
    laws.write_text(laws.read_text(encoding="utf-8") + LAW, encoding="utf-8")
    insert(methods, '    "shuffled": Method(', ENTRY)
    insert(methods, '"expected", "dense-then-cut"', '"toy", ')
    return tmp_path


@pytest.mark.slow
def test_a_toy_method_is_trained_and_shown_once_two_files_know_it(package: Path, tiny: dict[str, Any]) -> None:
    tiny |= {"name": "toy", "claims": {"ssa": {"anneal_fraction": 0.5}}}  # one epoch of two: what is compared
    tiny["blocks"][1] |= {"method": ["one-shot", "temperature", "toy"], "sparsity": [80]}
    (package / "toy.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    run = subprocess.run([sys.executable, "-c", SHOWN], cwd=package, capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines()[-1] == str(package / "ssa/__init__.py")
    assert "toy" in run.stdout.splitlines()
    history = package / "results/toy/history.parquet"
    kept = pd.read_parquet(history).merge(pd.read_csv(history.with_name("children.csv")), on="child_id")
    toys = kept[kept["method"] == "toy"].groupby("epoch")["keep_pruned"].unique()
    assert [list(values) for values in toys] == [[0.25], [0.0], [0.0]]  # a is 0, then 1 from the first epoch on
    assert "Toy annealing" in (package / "shown/table1_accuracy.md").read_text(encoding="utf-8")
    assert (package / "shown/keep_probability.pdf").stat().st_size > 0


def test_what_is_said_of_methods_is_said_of_methods_that_there_are() -> None:
    assert set(CONTROLS) < set(CATALOGUE)
    assert set(ANNEALED) < set(CATALOGUE)
    assert len({method.label for method in CATALOGUE.values()}) == len(CATALOGUE)
