"""A study's results as figures and tables take them."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic

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


@pytest.mark.parametrize("name", ["children", "parents"])
def test_a_table_that_was_cut_off_between_two_rows_is_damaged(tmp_path: Path, name: str) -> None:
    results = synthetic.write(tmp_path)
    Record(results).check_rows()
    path = results / f"{name}.csv"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    told = {"children": "1019 rows, and study.json says 1020", "parents": "5 rows, and study.json says 6"}
    with pytest.raises(UserError, match=rf"{name}.csv is damaged, .*{told[name]}"):
        Record(results).check_rows()


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Record(tmp_path)["history"]
