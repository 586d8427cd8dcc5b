"""``make bench``: what it measures adds up, what misses a target is said, and a whole run writes one file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import epochs, profiling, scaling
from benchmarks.epochs import Case

CASE = Case("resnet-small", 8, 16)


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(epochs.OPTIONS, "resnet-small", {"width": 4, "stages": 1})


def test_every_law_is_measured_in_every_round() -> None:
    found = epochs.by_law(CASE, "fp32", 2)
    assert {name: len(seconds) for name, seconds in found.items()} == {"one-shot": 2, "temperature": 2, "random": 2}
    assert min(min(seconds) for seconds in found.values()) > 0


def test_the_profile_adds_up_and_finds_the_convolutions_and_the_sampling() -> None:
    shares = profiling.shares(CASE, "fp32")
    assert list(shares) == list(profiling.KINDS)
    assert sum(shares.values()) == pytest.approx(1)
    wanted = ("sampling the mask", "batches, crops, normalisation", "optimiser", "convolutions and matrix products")
    assert min(shares[kind] for kind in wanted) > 0


def test_multiply_accumulates_by_hand() -> None:
    """A 3x3 stem, a block of two 3x3 convolutions, all 4 channels on 32x32 pixels, and a classifier of 10."""
    assert epochs.macs(CASE) == 32 * 32 * 9 * (3 * 4 + 2 * 4 * 4) + 4 * 10


@pytest.mark.slow
def test_children_at_once_and_the_plain_way_are_measured() -> None:
    together = epochs.at_once(CASE, "fp32", (1, 2), 2)
    assert {count: len(found) for count, found in together.items()} == {1: 2, 2: 2}
    fast, slow = epochs.against_plain(CASE, "fp32", 2, (0, 1))
    assert len(fast) == len(slow[0]) == len(slow[1]) == 2
    assert min(*fast, *slow[0], *slow[1]) > 0


@pytest.mark.slow
def test_aggregation_is_measured_on_as_many_rows_as_asked() -> None:
    seconds, gigabytes = scaling.aggregation(400)
    assert seconds > 0
    assert 0.01 < gigabytes < 2


def parts(value: float) -> dict[str, object]:
    def rows(quick: bool) -> Iterator[bench.Row]:
        yield bench.Row("cost", "net", "x", **bench.one(value), **bench.at_most(1.05, value))

    return {"one": rows, "two": rows}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setattr(bench, "HERE", tmp_path)
    threads = torch.get_num_threads()

    def main(value: float, *options: str) -> int:
        monkeypatch.setattr(bench, "PARTS", parts(value))
        monkeypatch.setattr(sys, "argv", ["benchmarks", *options])
        return bench.main()

    yield main
    torch.set_num_threads(threads)


def test_a_missed_target_is_an_exit_code_and_a_word(run: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(run)
    assert run(1.05, "--quick", "--only", "one") == 0
    assert "cost | net | 1.05 | x | 1 | at most 1.05 | met\n0 of 1 targets missed" in capsys.readouterr().out
    assert run(1.06, "--quick", "--only", "one") == 1
    assert "at most 1.05 | MISSED\n1 of 1 targets missed" in capsys.readouterr().out


def test_parts_are_written_to_the_devices_file_and_a_quick_run_writes_none(run: object, tmp_path: Path) -> None:
    assert callable(run)
    run(1.0, "--quick")
    assert not list(tmp_path.iterdir())
    run(1.0)
    run(1.06, "--only", "one")
    (file,) = tmp_path.iterdir()
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["cores"] >= 1
    assert list(found["parts"]) == ["one", "two"]
    assert [found["parts"][part]["rows"][0]["met"] for part in ("one", "two")] == [False, True]
    assert found["parts"]["one"]["load"] >= 0
    assert found["parts"]["one"]["versions"]["torch"] == torch.__version__.split("+")[0]
