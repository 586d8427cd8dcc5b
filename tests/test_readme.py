"""The README: short, its first command early, its snippet run as it stands; every file that a text names exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

import ssa

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")
NAMED = re.compile(r"`((?:config|docs|examples|ssa|tests|workflow|profiles|recorded|benchmarks)/[\w./-]+)`")


def test_the_readme_is_short_and_comes_to_a_command_at_once() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1200
    before, _, _ = README.partition("```")
    assert len(before.split()) <= 150
    assert "pip install" in README


def test_the_snippet_trains_prunes_anneals_saves_and_folds_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(README.split("```python\n")[1].split("```")[0], names)
    plain, data = names["plain"], names["data"]
    for name, entry in names["mask"].items():
        weight = plain.get_parameter(name)
        assert int((weight == 0).sum()) == int((~entry).sum()) == round(0.95 * entry.numel())
    x, y = data.tensors
    assert (plain.eval()(x).argmax(1) == y).float().mean() > 0.9  # it learned the digits that it was trained on
    fresh = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    assert torch.equal(ssa.load("child.safetensors", fresh)(x), plain(x))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_link_and_every_file_that_a_text_names_exists(path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.split()
    known = {Path(name) for name in listed} | {parent for name in listed for parent in Path(name).parents}
    text = path.read_text(encoding="utf-8")
    linked = {(path.parent / link).resolve().relative_to(ROOT) for link in LINK.findall(text)}
    named = {Path(name.rstrip("/")) for name in NAMED.findall(text)}
    assert sorted(map(str, (linked | named) - known)) == []
