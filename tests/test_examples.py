"""The examples, run as scripts, shortened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

EXAMPLES = ROOT / "examples"


def numbers(name: str, seeds: int, length: int) -> list[float]:
    """The means over ``seeds`` that the example prints of parents, one-shot children and annealed children."""
    command = [sys.executable, str(EXAMPLES / name), str(seeds), str(length)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["parent", "one-shot", "annealed", "annealed minus one-shot"]
    assert all(f"n = {seeds})" in line for line in lines)
    *means, gain = [float(re.findall(r"[+-]?\d+\.\d+", line)[0]) for line in lines]
    assert gain == pytest.approx(means[2] - means[1], abs=0.11)
    return means


@pytest.mark.slow
def test_plain_loop_shows_the_effect() -> None:
    parent, one_shot, annealed = numbers("plain_loop.py", 3, 40)
    assert min(parent, one_shot) > 60  # a guess is right in 10% of cases
    assert annealed > one_shot  # by 4.2 points on seeds 100 to 103


@pytest.mark.slow
def test_timm_training() -> None:
    assert min(numbers("timm_training.py", 2, 12)) > 20  # a guess is right in 10% of cases


@pytest.mark.slow
def test_transformers_trainer() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[hf]'")
    parent, one_shot, annealed = numbers("transformers_trainer.py", 3, 40)
    assert min(parent, one_shot) > 60  # a guess is right in 10% of cases
    assert annealed > one_shot  # by 3.1 points on seeds 0 to 11


@pytest.mark.slow
def test_language_model() -> None:
    assert max(numbers("language_model.py", 2, 40)) < 3.2  # to guess among all characters costs 4.0 nats


def test_the_text_is_eighteen_sonnets() -> None:
    text = (EXAMPLES / "sonnets.txt").read_text(encoding="utf-8")
    assert [len(sonnet.splitlines()) for sonnet in text.split("\n\n")] == [14] * 18
    assert len(set(text)) == 56


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len([line for line in path.read_text(encoding="utf-8").splitlines() if line]) <= 40
