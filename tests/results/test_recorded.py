"""Recorded results: whole replicates, added once, never replaced; what was withdrawn stays away and says why."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from ssa import cli
from ssa.errors import UserError
from ssa.process import provenance
from ssa.process.deadline import Deadline
from ssa.results import recorded
from ssa.results.aggregate import aggregate
from ssa.store.store import Store
from ssa.study import law_source, study
from ssa.workflow import stages

FILES = ("children.csv", "parents.csv", "history.parquet", "study.json", "study.yaml", "runs.json")


@pytest.fixture
def plan(tiny: dict[str, Any], tmp_path: Path) -> study.Study:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**tiny, "title": "Tiny", "claims": {"C9": {}}}), encoding="utf-8")
    return study.load(path)


@pytest.fixture
def store(plan: study.Study, tmp_path: Path, tiny_store: Store) -> Store:
    """The first parent is finished; the second has two of its five children."""
    shutil.copytree(tiny_store.root, tmp_path / "results")
    found = Store(tmp_path / "results")
    first, second = plan.all_parents()
    (path,) = found.records(second).folder.glob("*.jsonl")
    kept = {child.spec.id for child in plan.children_of(second)[:2]}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["id"] in kept), encoding="utf-8")
    assert (len(found.recorded_children(first)), found.recorded_children(second)) == (5, kept)
    return found


def finish(plan: study.Study, store: Store) -> None:
    assert stages.run(plan, store, None, Deadline()) == 0


def test_only_whole_replicates_are_added_and_each_once(plan: study.Study, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    with pytest.raises(UserError, match="is named as its study, whose tables it would overwrite"):
        recorded.add(plan, store, tmp_path / plan.name, "by hand")
    assert recorded.add(plan, store, folder, "by hand") == (1, 0, 0)
    before = (folder / "children.csv").read_text(encoding="utf-8")
    assert len(pd.read_csv(folder / "children.csv")) == 5
    assert recorded.add(plan, store, folder, "again") == (0, 0, 0)
    finish(plan, store)
    assert recorded.add(plan, store, folder, "the rest") == (1, 0, 0)
    assert (
        (folder / "children.csv").read_text(encoding="utf-8").startswith(before)
    )  # what was recorded stays as it was written
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    assert [(run["how"], len(run["parents"])) for run in runs] == [("by hand", 1), ("the rest", 1)]
    made = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert made["counts"]["children"] == 10
    assert sum(made["record"]["devices"].values()) == 12  # two parents and ten children
    assert made["record"]["planned"] == {"parents": 2, "children": 10, "ensembles": 0}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cut_off(patch: pytest.MonkeyPatch, name: str, change: Callable[[], object]) -> None:
    """Let ``change`` find the disk full when it has written all before ``name``."""
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    with patch.context() as context:
        context.setattr(Path, "replace", full)
        with pytest.raises(UserError, match=f"{name} could not be written: .*No space left on device"):
            change()


def asked_for_more(plan: study.Study) -> study.Study:
    """The study with two more children of each parent, in a block ``more``."""
    raw = yaml.safe_load(plan.path.read_text(encoding="utf-8"))
    raw["blocks"].append({"name": "more", "parents": "small", "method": ["one-shot", "random"], "sparsity": 90})
    plan.path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return study.load(plan.path)


def test_an_addition_that_a_full_disk_cut_off_is_whole_the_next_time_or_refused_in_one_line(
    plan: study.Study, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "now", lambda: "2026-12-01T00:00:00+00:00")
    folder, before = tmp_path / "recorded", tmp_path / "before"
    before.mkdir()
    for addition, refused in (
        ("a record", {"runs.json"}),
        ("a parent", {"children.csv", "runs.json"}),  # of whose row in parents.csv runs.json does not tell
        ("children of recorded parents", {"runs.json"}),
    ):
        if addition == "a parent":
            finish(plan, store)
        elif addition != "a record":
            plan = asked_for_more(plan)
            finish(plan, store)

        def add(plan: study.Study = plan) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(before, folder)
            recorded.add(plan, store, folder, "by hand")

        add()
        undisturbed = content(folder)
        for name in FILES:
            cut_off(monkeypatch, name, add)
            if name in refused:
                left = content(folder)
                with pytest.raises(UserError, match=r"left unfinished: its tables have .* restore the folder as it"):
                    recorded.add(plan, store, folder, "by hand")
                assert content(folder) == left
            else:
                recorded.add(plan, store, folder, "by hand")
                assert content(folder) == undisturbed, (addition, name)
        add()
        shutil.rmtree(before)
        shutil.copytree(folder, before)
    assert len(pd.read_csv(folder / "children.csv")) == 14


def test_a_withdrawal_that_a_full_disk_cut_off_is_finished_by_the_same_command(
    plan: study.Study, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "now", lambda: "2026-12-01T00:00:00+00:00")
    folder = tmp_path / "recorded"
    finish(plan, store)
    recorded.add(plan, store, folder, "all")
    shutil.copytree(folder, tmp_path / "before")
    first = next(iter(plan.all_parents()))
    recorded.withdraw(folder, [first], "a wrong seed")
    undisturbed = content(folder)
    for name in ("withdrawn.csv", "history.parquet", "parents.csv", "children.csv"):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder)
        cut_off(monkeypatch, name, lambda: recorded.withdraw(folder, [first], "a wrong seed"))
        recorded.withdraw(folder, [first], "a wrong seed")
        assert content(folder) == undisturbed, name


def test_what_a_study_says_of_the_same_children_is_taken_over(plan: study.Study, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    with pytest.raises(UserError, match="is named as its study, whose tables it would overwrite"):
        recorded.add(plan, store, tmp_path / plan.name, "by hand")
    assert recorded.add(plan, store, folder, "by hand") == (1, 0, 0)
    before = {name: (folder / name).read_bytes() for name in FILES}
    changed = {**yaml.safe_load(plan.path.read_text(encoding="utf-8")), "title": "Tinier", "findings": ["losses"]}
    plan.path.write_text(yaml.safe_dump(changed), encoding="utf-8")
    assert recorded.add(study.load(plan.path), store, folder, "again") == (0, 0, 0)
    made = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert (made["title"], made["findings"]) == ("Tinier", ["losses"])
    assert {name for name in FILES if (folder / name).read_bytes() != before[name]} == {"study.json", "study.yaml"}


def test_a_study_that_lost_a_recorded_parent_does_not_shrink_the_record(
    plan: study.Study, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "recorded"
    finish(plan, store)
    recorded.add(plan, store, folder, "all")
    raw = yaml.safe_load(plan.path.read_text(encoding="utf-8"))
    (kind,) = raw["parents"]
    raw["parents"][kind]["seeds"] = raw["parents"][kind]["seeds"][:1]
    plan.path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(UserError, match="has no longer 5 of the children"):
        recorded.add(study.load(plan.path), store, folder, "again")


def test_added_at_once_it_is_what_aggregation_writes(plan: study.Study, store: Store, tmp_path: Path) -> None:
    finish(plan, store)
    recorded.add(plan, store, tmp_path / "recorded", "at once")
    aggregate(plan, store)
    for name in ("children.csv", "parents.csv"):
        assert (tmp_path / "recorded" / name).read_bytes() == (tmp_path / "results" / "tiny" / name).read_bytes()
    one, two = (pd.read_parquet(tmp_path / top / "history.parquet") for top in ("recorded", "results/tiny"))
    pd.testing.assert_frame_equal(one, two)


def test_what_is_withdrawn_stays_away_with_its_reason(plan: study.Study, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    finish(plan, store)
    recorded.add(plan, store, folder, "all")
    first, second = plan.all_parents()
    recorded.withdraw(folder, [first], "a wrong seed")
    assert set(pd.read_csv(folder / "children.csv").parent_id) == {second}
    assert len(pd.read_parquet(folder / "history.parquet")) == 15
    gone = pd.read_csv(folder / "withdrawn.csv")
    assert set(gone.parent_id) == {first}
    assert set(gone.reason) == {"a wrong seed"}
    assert recorded.add(plan, store, folder, "again") == (0, 0, 0)
    recorded.withdraw(folder, [second], "the same")
    assert sorted(path.name for path in folder.iterdir()) == ["runs.json", "study.yaml", "withdrawn.csv"]
    assert len(pd.read_csv(folder / "withdrawn.csv")) == 10
    with pytest.raises(UserError, match="recorded there: nothing"):
        recorded.withdraw(folder, [second], "twice")


@pytest.mark.parametrize("name", ["children.csv", "parents.csv", "history.parquet", "runs.json"])
def test_a_damaged_file_of_a_record_is_named_with_the_way_out(
    plan: study.Study, store: Store, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "recorded"
    recorded.add(plan, store, folder, "all")
    (folder / name).write_bytes((folder / name).read_bytes()[: 0 if name.endswith("csv") else 50])
    before = content(folder)
    with pytest.raises(UserError, match=rf"{name} is damaged, or another file \(.*\); restore it as it was committed"):
        recorded.add(plan, store, folder, "again")
    assert content(folder) == before


def test_a_study_that_lost_a_recorded_child_is_refused(
    plan: study.Study, store: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    recorded.add(plan, store, tmp_path / "recorded", "all")
    tiny["blocks"][1]["sparsity"] = [50, 90]
    other = study.expand(tiny, tmp_path / "tiny.yaml")
    with pytest.raises(UserError, match=r"no longer 2 of the children recorded .* under another name"):
        recorded.add(other, store, tmp_path / "recorded", "changed")


def test_a_child_of_an_edited_law_is_named_with_its_commit_and_nothing_of_its_record_is_withdrawn(
    plan: study.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load(plan.path.read_text(encoding="utf-8"))
    raw["parents"]["small"]["seeds"] = [0]
    raw |= {"methods": {"own": {"law": "own_law_recorded.Own"}}}
    raw["blocks"][1] |= {"method": ["one-shot", "own"], "sparsity": 50}
    plan.path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    law = tmp_path / "own_law_recorded.py"
    law.write_text("import ssa\n\n\nclass Own(ssa.RandomAnnealing):\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    plan, store, folder = study.load(plan.path), Store(tmp_path / "results"), tmp_path / "recorded"
    finish(plan, store)
    recorded.add(plan, store, folder, "all")
    dense, *_, own = plan.children
    recorded.show(folder, own.spec.id)
    law.write_text(law.read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    law_source.digest.cache_clear()
    before = content(folder)
    commit = re.escape(pd.read_csv(folder / "children.csv").git_commit[0])
    with pytest.raises(UserError, match=rf"no longer has {own.spec.id}: the source of a law .* made it \({commit}\)$"):
        recorded.show(folder, own.spec.id)
    recorded.show(folder, dense.spec.id)
    with pytest.raises(UserError, match=f"no longer 1 of the children .* such as {own.spec.id}; the source of a law "):
        recorded.withdraw(folder, [own.spec.parent.id], "a wrong seed")
    assert content(folder) == before


def test_one_recorded_child_shows_all_that_it_takes_to_run_it_again(
    plan: study.Study,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, child = tmp_path / "recorded", plan.children[0].spec
    recorded.add(plan, store, folder, "all")
    assert cli.main(["show", str(folder), child.id]) == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert (shown["row"]["parent_seed"], shown["row"]["sparsity"], shown["row"]["reference"]) == (0, 0.0, True)
    assert (shown["row"]["tau"], shown["row"]["criterion"], shown["row"]["study"]) == (None, "none", "tiny")
    assert shown["history"][0]["train_loss"] is None  # before the first step
    assert shown["specification"]["parent"]["seed"] == child.parent.seed
    assert [row["epoch"] for row in shown["history"]] == [0, 1, 2]
    assert shown["commit"] == shown["row"]["git_commit"]
    assert shown["commit_is"].startswith("in this repository")
    command = shown["rerun"].split()
    assert command[0] == "ssa"
    monkeypatch.chdir(tmp_path)  # where the command's rerun/ is made
    assert cli.main(command[1:]) == 0
    again = Store(tmp_path / "rerun").read_child(child)
    assert again["result"]["accuracy"] == pytest.approx(shown["row"]["accuracy"])
    assert Store(tmp_path / "rerun").recorded_children(child.parent.id) == {child.id}
    assert cli.main(["show", str(folder), "nobody"]) == 2
    assert "records no child 'nobody'" in capsys.readouterr().err
    store.study_folder("tiny").mkdir(exist_ok=True)
    shutil.copy(folder / "children.csv", store.study_folder("tiny"))
    for command in (["show", str(store.study_folder("tiny")), child.id], ["withdraw", str(tmp_path)]):
        assert cli.main([*command, *(["--parents", "x", "--reason", "y"] if "withdraw" in command else [])]) == 2
        assert "is no record; name a folder that ssa record made, such as recorded/" in capsys.readouterr().err


def test_a_record_without_its_studys_ensembles_gives_tables_and_figures_all_the_same(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    raw = {**tiny, "ensembles": [{"name": "Single", "method": "independent", "parents": "small"}]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    plan, store = study.load(tmp_path / "tiny.yaml"), Store(tmp_path / "results")
    for parent in plan.all_parents():
        assert stages.train_children(plan, store, parent, plan.children_of(parent), Deadline()) == 0
    assert recorded.add(plan, store, tmp_path / "recorded" / "tiny-cpu", "children alone") == (2, 0, 0)
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "-n"]
    run = subprocess.run(
        [*command, "--cores", "1", "--config", "recorded=tiny-cpu"],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "ensembles.csv" not in run.stdout


def test_children_that_a_study_asks_for_later_are_added_to_their_parent(
    plan: study.Study, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "recorded"
    assert recorded.add(plan, store, folder, "by hand") == (1, 0, 0)
    before = (folder / "children.csv").read_text(encoding="utf-8")
    more, first = asked_for_more(plan), next(iter(plan.all_parents()))
    new = [child for child in more.children_of(first) if child.block == "more"]
    assert stages.train_children(more, store, first, new[:1]) == 0
    assert recorded.add(more, store, folder, "half of them") == (0, 0, 0)
    assert (folder / "children.csv").read_text(encoding="utf-8") == before
    assert json.loads((folder / "study.json").read_text(encoding="utf-8"))["counts"]["children"] == 5
    assert stages.train_children(more, store, first, new) == 0
    assert recorded.add(more, store, folder, "both") == (0, 0, 2)
    assert (folder / "children.csv").read_text(encoding="utf-8").startswith(before)
    table = pd.read_csv(folder / "children.csv")
    assert list(table["child_id"][5:]) == [
        child.spec.id for child in more.children if child.spec in {c.spec for c in new}
    ]
    assert len(pd.read_csv(folder / "parents.csv")) == 1
    made = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert made["counts"]["children"] == 7
    assert sum(made["record"]["devices"].values()) == 8  # a parent and seven children, each once
    assert recorded.add(more, store, folder, "again") == (0, 0, 0)


def test_children_of_another_network_of_a_recorded_parents_name_are_refused(
    plan: study.Study, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "recorded"
    recorded.add(plan, store, folder, "by hand")
    parents = pd.read_csv(folder / "parents.csv")
    parents.assign(nll=parents["nll"] + 1).to_csv(folder / "parents.csv", index=False)
    raw = yaml.safe_load(plan.path.read_text(encoding="utf-8"))
    raw["blocks"].append({"name": "more", "parents": "small", "method": "random", "sparsity": 90})
    plan.path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    more, first = study.load(plan.path), next(iter(plan.all_parents()))
    assert stages.train_children(more, store, first, more.children_of(first)) == 0
    with pytest.raises(UserError, match="is another network than the one recorded"):
        recorded.add(more, store, folder, "elsewhere")
