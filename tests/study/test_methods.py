"""The order in which methods and other names are shown."""

from __future__ import annotations

from ssa.study.methods import in_order, natural


def test_numbers_within_names_are_in_their_order() -> None:
    assert sorted(["n20000", "n5000", "n50000"], key=natural) == ["n5000", "n20000", "n50000"]


def test_methods_of_ones_own_come_last() -> None:
    assert in_order(["own-10", "own-2", "temperature", "one-shot"]) == ["one-shot", "temperature", "own-2", "own-10"]
