"""The table of the documentation is what is measured."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_documented_bytes_are_the_measured_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    sys.modules.pop("memory", None)
    import memory

    assert memory.table() in (ROOT / "docs" / "memory.rst").read_text(encoding="utf-8")
