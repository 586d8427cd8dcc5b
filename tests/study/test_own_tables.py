"""Two studies of one name would replace each other's tables."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssa import cli
from ssa.errors import UserError
from ssa.store.store import Store
from ssa.study import own_tables, study


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: dict[str, Any]) -> Path:
    """A folder whose results/tiny holds the tables of tiny.yaml."""
    monkeypatch.chdir(tmp_path)
    write("tiny.yaml", tiny)
    Path("results/tiny").mkdir(parents=True)
    Path("results/tiny/study.json").write_text(json.dumps({"config_file": "tiny.yaml"}), encoding="utf-8")
    return tmp_path


def write(name: str, content: dict[str, Any]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(yaml.safe_dump(content), encoding="utf-8")


def check(name: str, results: str = "results") -> None:
    own_tables.check(study.load(Path(name)), Store(Path(results)))


def edited(tiny: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(tiny)
    found["blocks"][1]["sparsity"] = [90]
    return found


REFUSED = (
    "copy.yaml: name: 'tiny' is not allowed: tiny.yaml is called so too, and its tables, figures and page would be"
)


def test_a_copy_that_was_edited_but_not_renamed_is_refused_by_both_names(
    here: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write("copy.yaml", edited(tiny))
    with pytest.raises(UserError, match=REFUSED):
        check("copy.yaml")
    with pytest.raises(UserError, match=REFUSED):
        check("copy.yaml", str(here / "results"))
    for stage in (["run"], ["aggregate"]):  # which trains nothing, and writes nothing
        assert cli.main([*stage, "copy.yaml"]) == 2
        assert REFUSED in capsys.readouterr().err
    assert sorted(path.name for path in Path("results").iterdir()) == ["tiny"]


def test_an_edited_a_renamed_and_a_copied_file_are_the_same_study(here: Path, tiny: dict[str, Any]) -> None:
    write("copy.yaml", tiny)
    check("copy.yaml")
    write("tiny.yaml", edited(tiny))
    check("tiny.yaml")
    check(str(here / "tiny.yaml"))
    Path("tiny.yaml").rename("renamed.yaml")
    check("renamed.yaml")


def test_who_took_another_name_since_has_left_the_tables(here: Path, tiny: dict[str, Any]) -> None:
    write("copy.yaml", edited(tiny))
    write("tiny.yaml", {**tiny, "name": "small"})
    check("copy.yaml")


@pytest.mark.parametrize("left", ["", '{"config_file": "ti', "null", "{}"])
def test_tables_whose_study_json_is_damaged_are_nobodys(here: Path, tiny: dict[str, Any], left: str) -> None:
    Path("results/tiny/study.json").write_text(left, encoding="utf-8")
    write("copy.yaml", edited(tiny))
    check("copy.yaml")


def test_a_name_of_its_own_is_allowed(here: Path, tiny: dict[str, Any]) -> None:
    write("copy.yaml", {**edited(tiny), "name": "other"})
    check("copy.yaml")


def test_a_records_name_is_taken(here: Path, tiny: dict[str, Any]) -> None:
    write("recorded/tiny-cpu/study.yaml", tiny)
    write("own.yaml", {**tiny, "name": "tiny-cpu"})
    with pytest.raises(UserError, match=r"own.yaml: name: 'tiny-cpu' is not allowed: recorded/tiny-cpu/study.yaml is"):
        check("own.yaml")
