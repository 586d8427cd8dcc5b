"""A figure or table is one entry, from which Snakemake knows beforehand what a study will have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT

from ssa.report.outputs import outputs
from ssa.report.registry import FIGURES, TABLES
from ssa.results import planned
from ssa.study import study

RECORDS = sorted(path.parent for path in (ROOT / "recorded").glob("*/children.csv"))
DRAW = """
def draw(children):
    from ssa.report.figures.style import blank

    figure = blank(3, 2)
    figure.subplots().plot(children["accuracy"], "o")
    return figure
"""
ENTRY = '    "toy": Entry(STUDY, "toy.draw", ("children",), "a toy", "Every child in its row.", lambda plan: True),\n'
HEAD = "FIGURES: dict[str, Entry] = {\n"


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_what_is_planned_is_what_is_committed(record: Path) -> None:
    plan = planned.of(study.load(record / "study.yaml"), record)
    expected = {one.path for one in outputs(record.name, "page.html", plan) if not one.path.endswith(".pdf")}
    folders = [ROOT / top / record.name for top in ("figures", "paper_tables")]
    found = {str(path.relative_to(ROOT)) for folder in folders for path in folder.iterdir() if path.suffix != ".pdf"}
    assert found == expected - {"page.html"}


def test_every_entry_names_a_function() -> None:
    for entry in (*FIGURES.values(), *TABLES.values()):
        module, _, name = entry.make.rpartition(".")
        assert callable(getattr(import_module(module), name))


def test_snakemake_reads_the_registry_without_what_draws() -> None:
    code = "import sys, ssa.report.outputs; print({'matplotlib', 'scipy', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert run.stdout == "set()\n"


@pytest.mark.slow
def test_a_toy_figure_is_drawn_and_shown_once_one_entry_names_it(tmp_path: Path) -> None:
    for name in ("ssa", "workflow", "profiles", "envs", "recorded/gradients-cpu"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "toy.py").write_text(DRAW, encoding="utf-8")
    registry = tmp_path / "ssa/report/registry.py"
    old = registry.read_text(encoding="utf-8")
    assert HEAD in old
    registry.write_text(old.replace(HEAD, HEAD + ENTRY), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "recorded=gradients-cpu"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr[-2000:]
    assert (tmp_path / "figures/gradients-cpu/toy.png").read_bytes()[1:4] == b"PNG"
    assert "Every child in its row." in (tmp_path / "results/gradients-cpu/report.html").read_text(encoding="utf-8")
    run = subprocess.run(
        [*command, "--report", "snakemake.html"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Every child in its row." in (tmp_path / "snakemake.html").read_text(encoding="utf-8")
