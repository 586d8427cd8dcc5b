"""A figure or table is one entry, from which Snakemake knows beforehand what a study will have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from images import image_folder
from matplotlib.figure import Figure

from ssa.process.deadline import Deadline
from ssa.report import write
from ssa.report.outputs import outputs
from ssa.report.registry import FIGURES, TABLES
from ssa.results import planned
from ssa.results.aggregate import aggregate
from ssa.store.store import Store
from ssa.study import study
from ssa.study.questions import FINDINGS
from ssa.workflow import stages

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
FIXED = {"claims": {"ssa": {"anneal_fraction": 0.5}}}
NONE, EVERY = {"exclude": [{"sparsity": 50}]}, {"findings": list(FINDINGS)}
FOLDER = {"source": "imagefolder", "folder": "insects", "image_size": 8, "validation": 2}
INDEPENDENT = {"method": "independent", "members": 2}
PAIRED = {"table1_accuracy", "table3_differences", "learning_curves", "forest_differences"}
SWEPT = {"table2_ablation", "ablation_heatmap"}
ALONE = {"table1_accuracy", "learning_curves", "keep_probability"} | {
    f"finding_{name}" for name in ("controls", "losses", "criteria", "rates", "gradients")
}
SCORED = {"table_ensembles", "table_ensembles_conventions"} | {
    f"ensemble_{name}" for name in ("accuracy", "cost", "reliability")
}
SEVERAL = {*SCORED, "table_ensembles_diversity", "ensemble_size", "ensemble_diversity"}
# What a study's block and its ensemble set, its parents' model options, other sections; the tables and figures it has.
STUDIES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], set[str]]] = {
    "no children": (NONE, {}, {}, {**EVERY, "claims": {"C1": {}, "C10": {}}}, {"claims", "summary"}),
    "ensembles alone": (NONE, INDEPENDENT, {}, EVERY, SEVERAL),
    "members that are no children": ({}, INDEPENDENT, {}, {}, {*PAIRED, *SEVERAL, "keep_probability"}),
    "no baseline": ({"method": ["iterative", "temperature", "expected"], "gradient_batches": 2}, {}, {}, EVERY, ALONE),
    "nothing pruned": (
        {"method": ["one-shot", "temperature", "expected"], "sparsity": 0, "anneal_epochs": [1, 2]}
        | {"gradient_batches": 2},
        *({}, {}, EVERY, PAIRED | SWEPT),
    ),
    "nothing kept": ({"tau": 0.0}, {}, {}, {"claims": {"ssa": {"tau": 0.0, "anneal_fraction": 0.5}}}, PAIRED),
    "images that are not counted": (
        *({}, {}, {}, {"datasets": {"digits": FOLDER}, "findings": ["regime"]}),
        {*PAIRED, "keep_probability"},
    ),
    "one head": ({}, {"method": "mimo"}, {"mimo": 1}, {}, {*PAIRED, *SCORED, "keep_probability"}),
    "two heads": (NONE, {"method": "batch-ensemble"}, {"batch_ensemble": 2}, {}, SEVERAL),
}


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_what_is_planned_is_what_is_committed(record: Path) -> None:
    plan = planned.of(study.load(record / "study.yaml"), record)
    expected = {one.path for one in outputs(record.name, "page.html", plan) if not one.path.endswith(".pdf")}
    folders = [ROOT / top / record.name for top in ("figures", "paper_tables")]
    found = {str(path.relative_to(ROOT)) for folder in folders for path in folder.iterdir() if path.suffix != ".pdf"}
    assert found == expected - {"page.html"}


@pytest.mark.parametrize("case", STUDIES)
def test_what_is_planned_is_what_is_made(
    case: str, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, ensemble, options, sections, names = STUDIES[case]
    tiny["parents"]["small"] |= {"seeds": [0], "batch_size": 6, "model_options": {"width": 4, "stages": 1, **options}}
    tiny["blocks"] = [
        {"name": "main", "parents": "small", "method": ["one-shot", "temperature"], "sparsity": 50} | block
    ]
    tiny["ensembles"] = [{"name": "several", "parents": "small", **ensemble}] if ensemble else []
    tiny |= {"data_root": tmp_path, **FIXED, **sections}
    plan = study.expand(tiny, tmp_path / "tiny.yaml")
    image_folder(tmp_path)
    store = Store(tmp_path / "results")
    assert stages.run(plan, store, None, Deadline()) == 0
    aggregate(plan, store)

    def quick(figure: Figure, stem: Path) -> None:
        figure.savefig(stem.with_suffix(".png"), dpi=50)
        stem.with_suffix(".pdf").touch()

    monkeypatch.setattr(write, "save_figure", quick)
    page, folders = tmp_path / "page.html", [tmp_path / top / "tiny" for top in ("paper_tables", "figures")]
    write.write_report(store.study_folder("tiny"), *folders, page)
    expected = {one.path for one in outputs("tiny", "page.html", planned.of(plan))}
    made = {path for folder in folders for path in folder.iterdir()}
    assert {str(path.relative_to(tmp_path)) for path in (*made, page)} == expected
    assert {path.stem for path in made} == names


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
