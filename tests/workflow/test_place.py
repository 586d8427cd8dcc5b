"""Which study Snakemake runs, and where its files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from studies import expand

from ssa.errors import UserError
from ssa.workflow.place import Folders, study_file

PAPER = Path("config/paper.yaml")


def test_the_study_is_the_records_or_the_one_that_is_named_or_the_papers() -> None:
    assert study_file("reduced-cpu", ["config/demo.yaml"], PAPER) == Path("recorded/reduced-cpu/study.yaml")
    assert study_file(None, [Path("config/demo.yaml").resolve()], PAPER) == Path("config/demo.yaml")
    assert study_file(None, [], PAPER.resolve()) == PAPER
    with pytest.raises(UserError, match=r"^one study at a time: give one --configfile$"):
        study_file(None, ["a.yaml", "b.yaml"], PAPER)
    with pytest.raises(UserError, match=r"^a {b}/tiny.yaml: Snakemake takes braces in a path for wildcards; rename"):
        study_file(None, ["a {b}/tiny.yaml"], PAPER)


def test_a_study_that_is_trained_has_all_in_its_results(tiny: dict[str, Any]) -> None:
    place = Folders(expand(tiny))
    assert (place.name, place.results, place.source, place.logs) == ("tiny", *["results/tiny"] * 2, "logs/tiny")
    assert not place.has_ensembles
    pair = {"name": "pair", "method": "prune-and-tune", "parents": "small", "members": 2, "epochs": 1}
    assert Folders(expand({**tiny, "ensembles": [pair]})).has_ensembles


def test_a_record_has_tables_in_its_folder_and_the_ensembles_that_were_recorded(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Folders(expand(tiny), "tiny-cpu")
    assert (place.name, place.results, place.source) == ("tiny-cpu", "results/tiny-cpu", "recorded/tiny-cpu")
    assert not place.has_ensembles
    (tmp_path / "recorded/tiny-cpu").mkdir(parents=True)
    (tmp_path / "recorded/tiny-cpu/ensembles.csv").touch()
    assert place.has_ensembles
    with pytest.raises(UserError, match="recorded/tiny is named as its study"):
        Folders(expand(tiny), "tiny")
