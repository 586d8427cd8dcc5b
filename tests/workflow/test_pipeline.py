"""The real workflow on a tiny study, and the command line as a user meets it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from ssa import cli
from ssa.process import locks

ENSEMBLE_FIGURES = {
    f"ensemble_{name}" for name in ("accuracy", "cost", "size", "reliability", "diversity", "corruptions")
}
# What the tiny study can show: its annealed children are not at the setting that claims are about.
CLAIMS = {"claims.csv", "claims.md"}
TABLES = {"table1_accuracy"}
FIGURES = {"summary", "accuracy_vs_sparsity", "learning_curves", "ablation_heatmap"}


def snakemake(folder: Path, *args: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "-s", str(root / "Snakefile"), "--directory", str(folder), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, encoding="utf-8")


def outputs(folder: Path) -> dict[str, bytes]:
    """Every table and figure, byte for byte."""
    files = [path for top in ("figures", "paper_tables") for path in (folder / top).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny study has run from end to end."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("study")
    study = {**TINY, "title": "Tiny", "claims": {"C1": {"sparsities": [80]}, "C9": {}}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    run = snakemake(folder, "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-3000:]
    assert "tiny: 0 of 2 parents, 0 of 10 children" in run.stderr  # a line a minute says how far it is
    assert "data set digits: 10 classes, 60 training, 40 validation, 1,697 test images\n" in run.stdout
    return folder


def test_the_pipeline_makes_everything_it_promises(done: Path) -> None:
    assert len(pd.read_csv(done / "results/tiny/children.csv")) == 10
    assert set(pd.read_parquet(done / "results/tiny/history.parquet").epoch) == {0, 1, 2}
    made = {path.name for path in (done / "paper_tables/tiny").iterdir()}
    assert made == {f"{name}.{ending}" for name in TABLES for ending in ("csv", "md", "tex")} | CLAIMS
    assert {path.stem for path in (done / "figures/tiny").iterdir()} == FIGURES
    for figure in FIGURES:
        assert (done / f"figures/tiny/{figure}.pdf").read_bytes()[:5] == b"%PDF-"
        assert (done / f"figures/tiny/{figure}.png").read_bytes()[1:4] == b"PNG"
    assert set(pd.read_csv(done / "paper_tables/tiny/claims.csv").claim) == {"C1", "C9"}
    assert "<title>" in (done / "results/tiny/report.html").read_text(encoding="utf-8")


def test_a_second_run_has_nothing_to_do(done: Path) -> None:
    run = snakemake(done, "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0
    assert "Nothing to be done" in run.stderr


def test_without_weights_there_is_still_nothing_to_do(done: Path) -> None:
    for path in (done / "results/parents").rglob("*.safetensors"):
        path.unlink()
    run = snakemake(done, "--cores", "2", "--configfile", "tiny.yaml")
    assert "Nothing to be done" in run.stderr


def test_an_edited_study_trains_what_is_new_in_one_run(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "study")
    study = yaml.safe_load((done / "tiny.yaml").read_text(encoding="utf-8"))
    study["blocks"][1]["sparsity"].append(90)
    (tmp_path / "study" / "tiny.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    run = snakemake(tmp_path / "study", "results/tiny/children.csv", "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-2000:]
    assert len(pd.read_csv(tmp_path / "study/results/tiny/children.csv")) == 14


def test_an_edited_study_is_told_anew_however_old_its_file_is(done: Path, tmp_path: Path) -> None:
    """As by cp -p, rsync -a, or a restored backup."""
    shutil.copytree(done, tmp_path / "study")
    path = tmp_path / "study" / "tiny.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**study, "title": "Another title"}), encoding="utf-8")
    os.utime(path, (0, 0))
    run = snakemake(tmp_path / "study", "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Another title" in (tmp_path / "study/results/tiny/report.html").read_text(encoding="utf-8")
    assert "Nothing to be done" in snakemake(tmp_path / "study", "--cores", "2", "--configfile", "tiny.yaml").stderr


def test_a_finished_study_trains_nothing_anew_for_want_of_weights_and_masks(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "study")
    for path in (tmp_path / "study" / "results").rglob("*.safetensors"):
        path.unlink()
    run = snakemake(tmp_path / "study", "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Nothing to be done" in run.stderr


def test_records_that_came_without_snakemake_are_in_the_tables(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "again")
    again = tmp_path / "again"
    parent = next((again / "results/parents").iterdir()).name
    for kind in ("parents", "children"):
        shutil.rmtree(again / "results" / kind / parent)
    subprocess.run([sys.executable, "-m", "ssa", "run", "tiny.yaml"], cwd=again, check=True, capture_output=True)
    before = pd.read_csv(again / "results/tiny/children.csv")["train_seconds"]
    run = snakemake(again, "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "rule aggregate" in run.stderr
    assert "rule children" not in run.stderr
    assert (pd.read_csv(again / "results/tiny/children.csv")["train_seconds"] != before).any()
    assert "Nothing to be done" in snakemake(again, "--cores", "2", "--configfile", "tiny.yaml").stderr


def test_tables_and_figures_regenerate_byte_for_byte_without_training(done: Path) -> None:
    before = outputs(done)
    assert len(before) == len(TABLES) * 3 + len(CLAIMS) + len(FIGURES) * 2
    for name in before:
        (done / name).unlink()
    run = snakemake(done, "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "rule children" not in run.stderr
    assert "rule parent" not in run.stderr
    assert outputs(done) == before


def test_ensembles_go_through_the_pipeline(tmp_path: Path, tiny: dict[str, Any]) -> None:
    pairs = {"method": "prune-and-tune", "parents": "small", "members": 2, "masks": "anti-random", "epochs": 1}
    tiny |= {"blocks": tiny["blocks"][:1], "claims": {"C3": {}}, "corruptions": {"set": "digits-6", "images": 20}}
    tiny["ensembles"] = [
        {"name": "plain", **pairs},
        {"name": "annealed", **pairs, "tuning": "temperature", "anneal_epochs": 0.5},
    ]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    run = snakemake(tmp_path, "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-3000:]
    assert "0 of 4 ensembles" in run.stderr
    rows = pd.read_csv(tmp_path / "results/tiny/ensembles.csv")
    assert list(rows.ensemble) == ["plain", "plain", "annealed", "annealed"]
    verdicts = pd.read_csv(tmp_path / "paper_tables/tiny/claims.csv")
    assert set(verdicts.claim) == {"C3"}
    assert set(verdicts.comparison) == {"annealed against plain", "overall"}
    assert "gain in accuracy (points)" in set(verdicts.measure)
    assert {path.stem for path in (tmp_path / "figures/tiny").glob("ensemble_*.png")} == ENSEMBLE_FIGURES
    assert len(list((tmp_path / "paper_tables/tiny").glob("table_ensembles*.md"))) == 4
    assert "annealed" in (tmp_path / "results/tiny/report.html").read_text(encoding="utf-8")
    runs = list((tmp_path / "results/tiny/wandb").glob("offline-run-*"))
    assert sum("prune-and-tune" in path.name for path in runs) == 4
    assert len(runs) == 2 + 2 + 8 + 4 + 1  # parents, children, members, ensembles, the study
    assert "Nothing to be done" in snakemake(tmp_path, "--cores", "2", "--configfile", "tiny.yaml").stderr


def test_a_change_of_the_packages_source_makes_anew_what_it_wrote_and_nothing_else(done: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(done, tmp_path / "study")
    for name in ("ssa", "workflow", "profiles"):
        shutil.copytree(ROOT / name, changed / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", changed)
    with (changed / "ssa" / "analysis" / "claims" / "tests.py").open("a", encoding="utf-8") as file:
        file.write("# A change.\n")
    run = snakemake(tmp_path / "study", "-n", "--cores", "2", "--configfile", "tiny.yaml", root=changed)
    said = run.stdout + run.stderr
    assert all(f"rule {name}:" in said for name in ("aggregate", "report")), said
    assert not any(f"rule {name}:" in said for name in ("data", "parent", "masks", "children"))


def test_who_only_looks_changes_nothing(done: Path, tmp_path: Path) -> None:
    """A record is newer than the tables, others are lost, the package is another: all is seen, none acted on."""
    study, changed = tmp_path / "study", tmp_path / "changed"
    shutil.copytree(done, study)
    for name in ("ssa", "workflow", "profiles"):
        shutil.copytree(ROOT / name, changed / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", changed)
    with (changed / "ssa" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("# A change.\n")
    newer, lost = sorted((study / "results/children").iterdir())
    os.utime(next(newer.glob("*.jsonl")))
    shutil.rmtree(lost)

    def state() -> dict[Path, tuple[int, bytes]]:
        files = [path for path in study.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = state()
    for options in (["-n"], ["--dag"], ["--summary"]):
        run = snakemake(study, *options, "--cores", "2", "--configfile", "tiny.yaml", root=changed)
        assert run.returncode == 0, run.stderr[-2000:]
        assert state() == before, options
    run = snakemake(study, "-n", "results/tiny/children.csv", "--cores", "2", "--configfile", "tiny.yaml")
    said = run.stdout + run.stderr
    assert f"marks/jobs/{lost.name}/" in said
    assert ".2.done" in said  # of the job that lost its records
    assert f"marks/jobs/{newer.name}/" not in said.partition("rule aggregate:")[0]
    run = snakemake(study, "results/tiny/children.csv", "--cores", "2", "--configfile", "tiny.yaml")
    assert run.returncode == 0, run.stderr[-2000:]
    assert len(pd.read_csv(study / "results/tiny/children.csv")) == 10
    run = snakemake(study, "-n", "results/tiny/children.csv", "--cores", "2", "--configfile", "tiny.yaml")
    assert "Nothing to be done" in run.stdout + run.stderr


def test_a_law_in_the_folder_where_commands_are_run_is_found_by_snakemake_itself(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    law = "import ssa\n\n\nclass Own(ssa.Law):\n    def anneal(self, a, mask, state):\n        return 1.0, 0.5\n"
    (tmp_path / "own_laws.py").write_text(law, encoding="utf-8")
    tiny["methods"] = {"own": {"law": "own_laws.Own"}}
    tiny["blocks"][1]["method"] = "own"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("snakemake")), "-s", str(ROOT / "Snakefile"), "-n", "--cores", "1"]
    run = subprocess.run(
        [*command, "--configfile", "tiny.yaml"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "study tiny: 2 parents" in run.stdout + run.stderr


def test_a_dry_run_takes_no_marks_from_under_a_run_that_goes_on(done: Path) -> None:
    mark = next((done / "results/tiny/marks/jobs").rglob("*.done"))
    with locks.only_one(done / "results/tiny/.lock", "study tiny"):
        (done / "results/children").rename(done / "results/elsewhere")
        try:
            assert snakemake(done, "-n", "--cores", "2", "--configfile", "tiny.yaml").returncode == 0
        finally:
            (done / "results/elsewhere").rename(done / "results/children")
    assert mark.exists()


def test_a_typo_stops_the_workflow_in_one_line_before_any_job(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["blocks"][1]["sparsty"] = 50
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    run = snakemake(tmp_path, "--cores", "1", "--configfile", "tiny.yaml")
    assert run.returncode != 0
    lines = [line for line in run.stderr.splitlines() if "sparsty" in line]
    assert len(lines) == 1
    assert "tiny.yaml: blocks[1]: unknown key 'sparsty'; did you mean 'sparsity'?" in lines[0]
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--configfile", "tiny.yaml", "tiny.yaml"], "one study at a time: give one --configfile"),
        (
            ["--configfile", "tiny.yaml", "--config", "workers=many"],
            "--config.workers: 'many' is not allowed; allowed: int or null, at least 1",
        ),
        (
            ["--configfile", "tiny.yaml", "--config", "thread=2"],
            "--config: unknown key 'thread'; did you mean 'threads'?",
        ),
        (["--config", "recorded=tiny"], "recorded/tiny is named as its study, whose tables it would overwrite"),
    ],
)
def test_wrong_options_stop_the_workflow_in_one_line(
    options: list[str], message: str, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    (tmp_path / "recorded/tiny").mkdir(parents=True)
    for path in ("tiny.yaml", "recorded/tiny/study.yaml"):
        (tmp_path / path).write_text(yaml.safe_dump(tiny), encoding="utf-8")
    run = snakemake(tmp_path, "-n", "--cores", "1", *options)
    assert run.returncode != 0
    assert message in run.stderr + run.stdout
    assert "Traceback" not in run.stderr


def test_the_paper_is_the_default_and_its_dry_run_says_how_large_it_is(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "-n", "--cores", "4")
    assert run.returncode == 0, run.stderr[-2000:]
    said = run.stdout + run.stderr  # a dry run speaks on standard output
    assert "study paper: 30 parents" in said
    assert "GPU-hours" in said


def test_the_command_line_prints_one_line_for_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(tmp_path / "none.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ssa: study ")
    assert error.count("\n") == 1
    (tmp_path / "empty").mkdir()
    folders = ("--tables", "--figures", "--out")
    out = [word for folder in folders for word in (folder, str(tmp_path / "out"))]
    assert cli.main(["report", str(tmp_path / "empty"), *out]) == 2
    assert "study.json is missing" in capsys.readouterr().err
    assert cli.main(["plan", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"ssa: {tmp_path}: Is a directory\n"
    for wrong in (["plan", "x.yaml", "--workers", "0"], ["run", "x.yaml", "--threads", "-1"]):
        with pytest.raises(SystemExit):
            cli.main(wrong)
        assert "allowed: a whole number from 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["status", "x.yaml", "--every", "-1"])
    assert "allowed: seconds, above 0" in capsys.readouterr().err


def test_plan_lists_jobs(tmp_path: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    assert cli.main(["plan", str(tmp_path / "tiny.yaml"), "--workers", "2", "--jobs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "study tiny: 2 parents, 2 jobs, 10 children (10 of small), 24 epochs"
    assert [line.split()[0] for line in lines[1:]] == ["parent", "parent", "job", "job"]


@pytest.mark.parametrize(
    "stage", ["plan", "status", "data", "parent", "masks", "children", "run", "aggregate", "report"]
)
def test_every_stage_explains_itself(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([stage, "--help"])
    assert stopped.value.code == 0
    assert "usage: ssa" in capsys.readouterr().out


def test_pins_environment_and_project_agree() -> None:
    subprocess.run([sys.executable, str(ROOT / "envs" / "write.py"), "--check"], check=True)
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    pins: dict[str, set[str]] = {}
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith(("#", " ")):
            name, _, version = line.split(";")[0].rstrip(" \\").partition("==")
            pins.setdefault(canonicalize_name(name), set()).add(version.strip())
    for requirement in wanted:
        found = pins.get(canonicalize_name(requirement.name))
        assert found, f"{requirement.name} is not pinned: run make lock"
        assert all(requirement.specifier.contains(version) for version in found), requirement.name


@pytest.mark.slow
def test_one_child_of_the_reduced_study_on_real_cifar10(cifar_root: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "config" / "reduced.yaml").read_text(encoding="utf-8"))
    raw["parents"] = {"small": {**raw["parents"]["small"], "seeds": [0], "epochs": 12}}
    raw["blocks"] = [{"name": "one", "parents": "small", "method": "temperature", "sparsity": 90}]
    raw |= {"ensembles": [], "claims": {}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    run = snakemake(tmp_path, "--cores", "1", "--configfile", "one.yaml", "--config", f"data_root={cifar_root}")
    assert run.returncode == 0, run.stderr[-2000:]
    child = pd.read_csv(tmp_path / "results/reduced/children.csv").iloc[0]
    assert child.realised_sparsity == pytest.approx(90, abs=0.01)
    assert child.parent_accuracy > 40  # chance is 10
    assert child.accuracy > 35
    assert child.accuracy_before < child.accuracy


def test_a_record_gives_its_tables_figures_and_page_without_training(done: Path) -> None:
    command = ["record", "tiny.yaml", "--out", "recorded/tiny-here", "--how", "in a test"]
    run = subprocess.run(
        [sys.executable, "-m", "ssa", *command], cwd=done, capture_output=True, text=True, encoding="utf-8"
    )
    assert run.stdout == "2 parents and 0 ensembles added to recorded/tiny-here\n", run.stderr
    run = snakemake(done, "--cores", "2", "--config", "recorded=tiny-here")
    assert run.returncode == 0, run.stderr[-2000:]
    for rule in ("rule aggregate", "rule parent", "rule children", "rule data"):
        assert rule not in run.stderr
    assert "recorded/tiny-here: its tables, figures and page are made; nothing is trained" in run.stderr
    assert "0 of 2 parents" not in run.stderr
    for top in ("paper_tables", "figures"):
        for path in (done / top / "tiny").iterdir():
            assert (done / top / "tiny-here" / path.name).read_bytes() == path.read_bytes(), path
    assert "Tiny" in (done / "results/tiny-here/report.html").read_text(encoding="utf-8")
