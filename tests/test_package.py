"""The distribution: what it brings, what it is called, what it says of itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ssa
from ssa import cli

SEEN = re.compile(r'note: Revealed type is "(.*)"')  # what mypy answers to reveal_type
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


def test_a_command_that_lacks_the_workflow_names_its_extra() -> None:
    names = {one.partition(">")[0].replace("-", "_") for one in PROJECT["optional-dependencies"]["study"]}
    other = {"scikit_learn": "sklearn", "pyyaml": "yaml"}  # what is imported under another name
    imported = {other.get(name, name) for name in names} - {"snakemake_executor_plugin_slurm"}
    assert imported == cli.OPTIONAL


def test_the_name_is_not_another_projects() -> None:
    assert PROJECT["name"] == "stochastic-subnetwork-annealing"
    assert (ROOT / "ssa" / "py.typed").exists()
    assert f"## {ssa.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"ssa {ssa.__version__}\n"


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssa.study.study.load", interrupted)
    assert cli.main(["plan", "any.yaml"]) == 130
    assert capsys.readouterr().err == "ssa: interrupted; what is finished is kept\n"


@pytest.mark.slow
def test_a_type_checker_sees_the_readmes_example_and_every_public_name(tmp_path: Path) -> None:
    example = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names = [f"ssa.{name}" for name in ssa.__all__]
    types = {
        "ssa.__version__": "str",
        "mask": "ssa.method.masks.Mask",
        "child": "ssa.method.subnetwork.Subnetwork",
        "child.mask": "ssa.method.masks.Mask",
        "child.at(1.0)": "None",
        "plain": "torch.nn.modules.module.Module",
        'ssa.load("child.safetensors", model)': "torch.nn.modules.module.Module",
        "ssa.sparsity(plain).sparsity": "float",
        "ssa.TemperatureAnnealing(epochs=5).tau": "float",
    }
    path = tmp_path / "example.py"
    asked = "\n".join(f"reveal_type({one})" for one in (*names, *types))
    path.write_text(f"{example}\n{asked}\n", encoding="utf-8")
    run = [sys.executable, "-m", "mypy", str(path)]
    said = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert said.returncode == 0, said.stdout
    seen = SEEN.findall(said.stdout)
    assert len(seen) == len(names) + len(types)
    assert "Any" not in seen
    assert seen[len(names) :] == list(types.values())


@pytest.mark.slow
def test_a_wrong_use_is_an_error_of_the_type_checker(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text('import ssa\nssa.TemperatureAnnealing(tau="hot")\nssa.prun\n', encoding="utf-8")
    run = [sys.executable, "-m", "mypy", str(path)]
    said = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", cwd=ROOT).stdout
    assert '"TemperatureAnnealing" has incompatible type "str"; expected "float"' in said
    assert 'Module has no attribute "prun"' in said
