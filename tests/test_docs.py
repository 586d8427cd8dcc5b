"""The documentation, built as ``make docs`` builds it, and its figure."""

from __future__ import annotations

import html
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT

import ssa
from ssa.study.methods import CATALOGUE
from ssa.training.models import BUILDERS


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages: built from a copy, with a warning as an error."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_build"))
    for name in ("figures", "paper_tables"):  # the page on findings shows those of the records
        shutil.copytree(ROOT / name, folder / name)
    options = ["--fresh-env", "--fail-on-warning", "--keep-going", "--quiet", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, str(folder / "docs"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def draw_laws() -> ModuleType:
    """The script that draws the laws."""
    spec = importlib.util.spec_from_file_location("draw_laws", ROOT / "docs" / "draw_laws.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_method_has_its_figure(pages: Path) -> None:
    method = (pages / "method.html").read_text(encoding="utf-8")
    (source,) = re.findall(r'<img [^>]*src="([^"]+laws\.svg)"', method)
    assert (pages / source).read_text(encoding="utf-8").count("</svg>") == 1


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(pages: Path) -> None:
    reference = (pages / "api.html").read_text(encoding="utf-8")
    described = re.findall(r'<dt class="sig sig-object py" id="ssa\.(\w+)">', reference)
    assert sorted(described) == ssa.__all__


@pytest.mark.slow
def test_the_quickstart_ran_and_shows_a_gain_beyond_its_noise(pages: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", (pages / "quickstart.html").read_text(encoding="utf-8")))
    pattern = r"(random|magnitude): annealed minus one-shot ([+-][\d.]+) points ± ([\d.]+) \(95%, n = 5"
    found = {name: (float(mean), float(half)) for name, mean, half in re.findall(pattern, text)}
    assert list(found) == ["random", "magnitude"]
    assert found["random"][0] > found["random"][1]  # the interval lies above 0, as on the seeds that chose the setting


@pytest.mark.slow
def test_every_model_and_method_is_listed_with_what_it_is_for(pages: Path) -> None:
    text = (pages / "builtin.html").read_text(encoding="utf-8")
    rows = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL)]
    cells = [[re.sub(r"<[^>]+>", "", cell).strip() for cell in row] for row in rows if row]
    assert [row[0] for row in cells] == [*CATALOGUE, *BUILDERS]
    assert all(len(row[1].split()) >= 5 for row in cells)
    assert {row[0]: row[2:] for row in cells}["resnet18"] == ["11,173,962", "11,159,232"]


@pytest.mark.slow
def test_references_between_pages_lead_somewhere(pages: Path) -> None:
    method, reference = (
        (pages / "method.html").read_text(encoding="utf-8"),
        (pages / "api.html").read_text(encoding="utf-8"),
    )
    targets = re.findall(r'href="api\.html#([\w.]+)"', method)
    assert {"ssa.OneShot", "ssa.TemperatureAnnealing", "ssa.prune"} <= set(targets)
    assert all(f'id="{target}"' in reference for target in targets)


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(pages: Path) -> None:
    loaded = re.findall(
        r'(?:src=|<link[^>]+href=)"([^"]+)"', "".join(p.read_text(encoding="utf-8") for p in pages.glob("*.html"))
    )
    assert loaded
    assert not [address for address in loaded if "//" in address]


@pytest.mark.slow
def test_the_figure_is_the_same_bytes_again(pages: Path, draw_laws: ModuleType, tmp_path: Path) -> None:
    draw_laws.draw(tmp_path / "laws.svg")
    assert (tmp_path / "laws.svg").read_bytes() == (pages / "_images" / "laws.svg").read_bytes()


def test_the_curves_are_what_the_laws_say(draw_laws: ModuleType) -> None:
    halfway, end = np.searchsorted(draw_laws.TIMES, [2.5, 5.0])
    assert (draw_laws.TIMES[halfway], draw_laws.TIMES[end]) == (2.5, 5.0)
    means = {name: [side.mean for side in draw_laws.curves(law)] for name, law in draw_laws.LAWS.items()}
    for kept, pruned in means.values():
        assert (kept[end:] == 1).all()
        assert (pruned[end:] == 0).all()
    # tau = 0.5 and a = 0.5 halfway, of iterative pruning's weights a half; 3600 draws of u have a standard error of
    # 0.0043 about 0.45, so that 0.02 is missed once in 300,000 seeds.
    assert [means[name][1][0] for name in ("one-shot", "iterative", "temperature")] == [0, 1, 0.5]
    assert [means[name][1][halfway] for name in ("iterative", "temperature", "constant-temperature")] == [
        0.5,
        0.25,
        0.5,
    ]
    assert means["temperature-all"][0][halfway] == 0.75
    assert means["random"][1][0] == pytest.approx(0.45, abs=0.02)
    assert means["dense-then-cut"][1][end - 1] == 1


def test_every_fault_names_a_test_that_is_there() -> None:
    named = set(re.findall(r"``(test_\w+)``", (ROOT / "docs" / "faults.rst").read_text(encoding="utf-8")))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert named <= written
