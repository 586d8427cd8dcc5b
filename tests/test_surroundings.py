"""The surroundings of a command: pipes that close, locales, homes, other repositories, the number of cores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def make(*words: str, **environment: str) -> str:
    """The commands that make would run."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *words],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return done.stdout


def test_a_pipe_that_closes_ends_a_command_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "ssa", "plan", "config/demo.yaml", "--jobs"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_demo_uses_all_cores_whatever_openmp_is_held_to() -> None:
    cores = len(os.sched_getaffinity(0))
    assert f"--cores {cores} " in make("demo", OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1")
    assert "--cores 7 " in make("demo", CORES="7", OMP_NUM_THREADS="1")


@pytest.fixture
def print_home(tmp_path: Path) -> Path:
    """A makefile that includes the project's and prints the home that its commands have."""
    path = tmp_path / "home.mk"
    path.write_text(f"include {ROOT}/Makefile\nhome:\n\t@echo $$HOME\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null", ""])
def test_without_a_home_that_can_be_written_caches_go_elsewhere(print_home: Path, tmp_path: Path, home: str) -> None:
    command = ["make", "--no-print-directory", "-f", str(print_home), "home"]
    done = subprocess.run(
        command, env={**os.environ, "HOME": home}, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.stdout.splitlines()[-1] == str(tmp_path / ".home")
    assert (tmp_path / ".home").is_dir()
    ours = subprocess.run(
        command,
        env={**os.environ, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert ours.stdout.splitlines()[-1] == str(tmp_path)


def look(folder: Path, study: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What Snakemake would do in ``folder``."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--configfile", str(study)]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, encoding="utf-8"
    )


def test_snakemake_by_hand_takes_another_folder_for_its_caches(tmp_path: Path) -> None:
    done = look(tmp_path, ROOT / "config/demo.yaml", HOME="/dev/null", XDG_CACHE_HOME=str(tmp_path / "caches"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "study demo: 6 parents" in done.stdout + done.stderr


def test_a_studys_file_that_is_not_there_is_named_last(tmp_path: Path) -> None:
    done = look(tmp_path, tmp_path / "none.yaml")
    assert done.returncode != 0
    last = done.stdout.strip().splitlines()[-1]  # a dry run speaks on standard output
    assert last.startswith("FileNotFoundError")
    assert "none.yaml" in last
    by_ssa = subprocess.run(
        [sys.executable, "-m", "ssa", "plan", "none.yaml"], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )
    assert (by_ssa.returncode, by_ssa.stderr.count("\n")) == (2, 1)


def test_a_copy_inside_another_repository_does_not_have_its_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True, encoding="utf-8"
        ).stdout

    def commit() -> str:
        code = "from ssa.process import provenance; print(provenance.git_commit())"
        found = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path / "ssa-main",
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        return found.stdout.strip()

    git("init", "--quiet")
    (tmp_path / "theirs").touch()
    git("add", "theirs")
    git("commit", "--quiet", "--message", "Theirs")
    shutil.copytree(ROOT / "ssa", tmp_path / "ssa-main" / "ssa", ignore=shutil.ignore_patterns("__pycache__"))
    assert commit() == ""
    git("add", "ssa-main")
    git("commit", "--quiet", "--message", "Ours, made part of theirs")
    assert commit() == git("rev-parse", "--short=12", "HEAD").strip()
