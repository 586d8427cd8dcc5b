"""Every text file is written and read as UTF-8, whatever the locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from encodings_of_text import unspecified

SOURCES = sorted(
    path
    for folder in ("ssa", "tests", "benchmarks", "docs", "envs", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if "_build" not in path.parts
)


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(text)",
        "path.open()",
        "path.open('w')",
        "path.open(mode='a')",
        "open(path)",
        "open(path, 'r+')",
        "subprocess.run(command, text=True)",
    ],
)
def test_what_leaves_it_to_the_locale_is_found(call: str) -> None:
    assert len(list(unspecified(call))) == 1
    assert not list(unspecified(f"{call[:-1]}, encoding='utf-8')".replace("(, ", "(")))


@pytest.mark.parametrize(
    "call", ["path.read_bytes()", "path.open('rb')", "open(path, 'wb')", "os.open(path, flags)", "Image.open(path)"]
)
def test_what_has_no_encoding_is_left_alone(call: str) -> None:
    assert not list(unspecified(call))


def test_no_source_leaves_it_to_the_locale() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for call in unspecified(path.read_text(encoding="utf-8"))
    ]
    assert len(SOURCES) > 150
    assert not found, "say encoding='utf-8'"


@pytest.mark.slow
def test_a_study_goes_through_in_a_locale_that_is_not_utf_8(tmp_path: Path) -> None:
    """Its names have characters that ASCII and Latin-1 lack."""
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = "import sys, locale; print(locale.getencoding()); sys.exit(0)"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert b"UTF-8" not in said.upper()
    (tmp_path / "own.yaml").write_bytes(STUDY.encode())

    def ssa(*command: str) -> bytes:
        whole = [sys.executable, "-m", "ssa", *command]
        done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    ssa("run", "own.yaml")
    ssa("aggregate", "own.yaml")
    ssa("report", "results/own", "--tables", "paper_tables/own", "--figures", "figures/own", "--out", "page.html")
    assert "Größe → Ω" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "größe" in (tmp_path / "results/own/children.csv").read_text(encoding="utf-8")
    ssa("status", "own.yaml")


STUDY = """
name: own
title: Größe → Ω
device: cpu
datasets: {digits: {source: digits, train: 60, validation: 40}}
parents:
  größe: {dataset: digits, model: resnet-small, model_options: {width: 4, stages: 1}, seeds: [0], epochs: 1}
children: {epochs: 1, bn_images: 60}
blocks: [{name: Ω, parents: größe, method: [dense, one-shot], sparsity: 50}]
claims: {C9: {}}
"""
