"""A study's results as figures and tables take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssa.errors import UserError
from ssa.report.record import Record


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("study", "study.json"),
        ("children", "children.csv"),
        ("parents", "parents.csv"),
        ("history", "history.parquet"),
        ("ensembles", "ensembles.csv"),
    ],
)
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, part: str, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name} is damaged, or another file \(.+\); run ssa aggregate again$"):
        Record(tmp_path)[part]
    (tmp_path / "study.yaml").touch()
    with pytest.raises(UserError, match=rf"{name} is damaged, .*; restore it as it was committed \(git checkout\)$"):
        Record(tmp_path)[part]


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Record(tmp_path)["history"]
