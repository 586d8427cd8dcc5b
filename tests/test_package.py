"""The distribution: what it brings, what it is called, what it says of itself."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ssa
from ssa import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_library_brings_what_its_names_import_and_no_more() -> None:
    brought = {one.split(">")[0] for one in PROJECT["dependencies"]}
    assert brought == {"numpy", "safetensors", "torch", "tqdm"}
    assert set(PROJECT["optional-dependencies"]) == {"study", "hf", "lightning", "dev"}
    code = "import sys, ssa; [getattr(ssa, n) for n in ssa.__all__]; print(*{m.partition('.')[0] for m in sys.modules})"
    asked = [sys.executable, "-c", code]
    loaded = subprocess.run(asked, check=True, capture_output=True, text=True, encoding="utf-8", cwd=ROOT).stdout
    assert not cli.OPTIONAL & set(loaded.split())


def test_the_name_is_not_another_projects() -> None:
    assert PROJECT["name"] == "stochastic-subnetwork-annealing"
    assert (ROOT / "ssa" / "py.typed").exists()
    assert f"## {ssa.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"ssa {ssa.__version__}\n"
