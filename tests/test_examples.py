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


def numbers(name: str, length: int) -> list[float]:
    """The numbers that the example prints of the parent, the one-shot child and the annealed child."""
    command = [sys.executable, str(EXAMPLES / name), str(length)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0].split(" at ")[0] for line in lines] == ["parent", "OneShot", "TemperatureAnnealing"]
    assert all("n = 1" in line for line in lines[1:])
    return [float(re.findall(r"\d+\.\d+", line)[0]) for line in lines]


def test_plain_loop() -> None:
    parent, one_shot, annealed = numbers("plain_loop.py", 8)
    assert min(parent, one_shot, annealed) > 60  # a guess is right in 10% of cases
    assert one_shot != annealed


def test_timm_training() -> None:
    parent, one_shot, annealed = numbers("timm_training.py", 4)
    assert min(parent, one_shot, annealed) > 40  # a guess is right in 10% of cases
    assert one_shot != annealed


def test_language_model() -> None:
    parent, one_shot, annealed = numbers("language_model.py", 40)
    assert max(parent, one_shot, annealed) < 3.2  # to guess among all characters costs 4.0 nats
    assert one_shot != annealed


def test_the_text_is_eighteen_sonnets() -> None:
    text = (EXAMPLES / "sonnets.txt").read_text(encoding="utf-8")
    assert [len(sonnet.splitlines()) for sonnet in text.split("\n\n")] == [14] * 18
    assert len(set(text)) == 56


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len([line for line in path.read_text(encoding="utf-8").splitlines() if line]) <= 40
