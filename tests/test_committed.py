"""The files under figures/ and paper_tables/ are what the records of recorded/ give, made anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

RECORDS = sorted(path.parent.name for path in (ROOT / "recorded").glob("*/children.csv"))
# Of 255 levels, mean over all pixels and channels. The same versions draw the same bytes; another build of NumPy or
# FreeType moves an edge by a fraction of a pixel, which is far below this, and a point that moved is far above.
TOLERANCE = 0.3


def pixels_apart(one: Path, two: Path) -> float:
    """Mean absolute difference of two pictures, infinite where their sizes differ."""
    a, b = (np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in (one, two))
    return float(np.abs(a - b).mean()) if a.shape == b.shape else float("inf")


def compare(committed: Path, made: Path) -> list[str]:
    """The differences between two folders of tables or figures: PNG by pixels, PDF not at all, all else by bytes."""
    names = {path.name for folder in (committed, made) for path in folder.glob("*") if path.suffix != ".pdf"}
    wrong = []
    for name in sorted(names):
        pair = committed / name, made / name
        if not all(path.is_file() for path in pair):
            wrong.append(f"{name} is missing in {committed if pair[1].is_file() else made}")
        elif name.endswith(".png"):
            if pixels_apart(*pair) > TOLERANCE:
                wrong.append(f"{name} looks different")
        elif pair[0].read_bytes() != pair[1].read_bytes():
            wrong.append(f"{name} differs")
    return wrong


def test_a_moved_point_a_changed_number_and_a_lost_file_are_seen(tmp_path: Path) -> None:
    from ssa.report.figures.style import blank, look, save_figure

    for folder, height in (("one", 1.0), ("two", 1.0), ("moved", 1.1)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "numbers.csv").write_text(f"{height}\n", encoding="utf-8")
        with look():
            figure = blank(3, 2)
            figure.subplots().plot([0, 1, 2], [1.0, height, 1.0], "o")
            save_figure(figure, tmp_path / folder / "picture")
    assert compare(tmp_path / "one", tmp_path / "two") == []
    assert compare(tmp_path / "one", tmp_path / "moved") == ["numbers.csv differs", "picture.png looks different"]
    (tmp_path / "two" / "numbers.csv").unlink()
    assert compare(tmp_path / "one", tmp_path / "two") == [f"numbers.csv is missing in {tmp_path / 'two'}"]


@pytest.mark.parametrize("top", ["figures", "paper_tables"])
def test_only_records_have_committed_tables_and_figures(top: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", top], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    committed = {Path(line).parts[1] for line in listed.splitlines() if len(Path(line).parts) > 2}
    assert committed == set(RECORDS)


@pytest.mark.slow
def test_every_record_gives_the_committed_tables_figures_and_a_page(tmp_path: Path) -> None:
    if not RECORDS:
        pytest.skip("recorded/ holds no record: there is nothing to compare")
    shutil.copytree(ROOT / "recorded", tmp_path / "recorded")
    wrong = []
    for name in RECORDS:
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
        command += ["--cores", "1", "--config", f"recorded={name}"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, encoding="utf-8")
        assert run.returncode == 0, run.stderr[-3000:]
        assert (tmp_path / "results" / name / "report.html").stat().st_size > 0
        for top in ("figures", "paper_tables"):
            wrong += [f"{top}/{name}: {said}" for said in compare(ROOT / top / name, tmp_path / top / name)]
    assert not wrong, f"make figures RECORDED=<name> and commit what it writes: {wrong}"
