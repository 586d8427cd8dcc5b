"""What Snakemake is told to make, and what before what: few processes on one machine, stage by stage on a cluster."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY
from studies import expand

from ssa import cli
from ssa.process.deadline import Deadline
from ssa.store.store import Store
from ssa.study.study import Study
from ssa.workflow import jobs, stages
from ssa.workflow.marks import Marks

PAIR = {"name": "pair", "method": "prune-and-tune", "members": 2, "masks": "anti-random", "epochs": 1}
BOTH = {"name": "both", "method": "independent", "members": 2}


@pytest.fixture
def study() -> Study:
    """Two parents of five children; an ensemble of each, and one of each and another network."""
    raw: dict[str, Any] = copy.deepcopy(TINY)
    raw["ensembles"] = [{**one, "parents": "small"} for one in (PAIR, BOTH)]
    return expand(raw)


def named(marks: Iterable[Path]) -> list[str]:
    """Each mark in short: ``masks s0``, ``ensembles s0 prune``, or ``jobs s0 0-5`` with the range of its children."""
    found = []
    for path in marks:
        *folders, name = path.with_suffix("").parts
        stage, run = ("jobs", folders[-1]) if folders[-2] == "jobs" else (folders[-1], name)
        seed = next(part for part in run.split("-") if part[0] == "s" and part[1:].isdigit())
        kind = {"jobs": name.rpartition("-")[0], "ensembles": run.partition("-")[0]}.get(stage, "")
        found.append(f"{stage} {seed} {kind}".strip())
    return sorted(found)


def ensembles(study: Study, marks: Marks) -> dict[str, list[str]]:
    """What comes before each ensemble."""
    return {
        named([marks.of_stage("ensembles", one.spec.id)])[0]: named(marks.before_ensemble(one.spec.id))
        for one in study.ensembles
    }


def test_on_one_machine_a_job_makes_all_that_its_parent_alone_is_needed_for(study: Study, tmp_path: Path) -> None:
    marks = Marks(study, Store(tmp_path), 2, one_machine=True)
    one_job_each = ["jobs s0 0-5", "jobs s1 0-5"]
    assert named(marks.wanted()) == ["ensembles s0 independent", "ensembles s1 independent", *one_job_each]
    for job in jobs.plan(study, 2):
        assert marks.makes_all(job.parent_id, job.name)
        assert marks.before_children(job.parent_id, job.name) == []
    before = ensembles(study, marks)
    assert before["ensembles s0 independent"] == ["jobs s0 0-5", "parents s1000"]  # the latter has no children
    assert before["ensembles s1 independent"] == ["jobs s1 0-5", "parents s1001"]


def test_on_more_cores_than_parents_the_children_are_split_and_start_from_the_masks(
    study: Study, tmp_path: Path
) -> None:
    study.raw["children_per_job"] = 3
    marks = Marks(study, Store(tmp_path), 8, one_machine=True)
    split = [f"jobs {seed} {part}" for seed in ("s0", "s1") for part in ("0-3", "3-5")]
    of_each = [f"ensembles {seed} {kind}" for seed in ("s0", "s1") for kind in ("independent", "prune")]
    assert named(marks.wanted()) == [*of_each, *split]
    for job in jobs.plan(study, 8):
        assert not marks.makes_all(job.parent_id, job.name)
        assert len(marks.before_children(job.parent_id, job.name)) == 1
        assert marks.before_children(job.parent_id, job.name) == [marks.of_stage("masks", job.parent_id)]
        assert marks.before_masks(job.parent_id) == []  # the rule of the masks trains the parent
    before = ensembles(study, marks)
    assert before["ensembles s0 prune"] == ["masks s0"]
    assert before["ensembles s0 independent"] == ["masks s0", "parents s1000"]  # no two rules train one parent


def test_on_a_cluster_each_stage_is_submitted_by_itself(study: Study, tmp_path: Path) -> None:
    marks = Marks(study, Store(tmp_path), 2)
    of_each = [f"ensembles {seed} {kind}" for seed in ("s0", "s1") for kind in ("independent", "prune")]
    parents = ["parents s0", "parents s1", "parents s1000", "parents s1001"]
    assert named(marks.wanted()) == [*of_each, "jobs s0 0-5", "jobs s1 0-5", *parents]
    for job in jobs.plan(study, 2):
        assert not marks.makes_all(job.parent_id, job.name)
        assert marks.before_children(job.parent_id, job.name) == [marks.of_stage("masks", job.parent_id)]
        assert marks.before_masks(job.parent_id) == [marks.of_stage("parents", job.parent_id)]
    before = ensembles(study, marks)
    assert before["ensembles s0 prune"] == ["masks s0"]
    assert before["ensembles s0 independent"] == ["parents s0", "parents s1000"]


@pytest.fixture
def store(study: Study, tiny_store: Store, tmp_path: Path) -> Store:
    """The results of the study without its ensembles, to change."""
    shutil.copytree(tiny_store.root, tmp_path / "results")
    return Store(tmp_path / "results")


@pytest.mark.parametrize("one_machine", [True, False])
def test_what_was_made_without_a_mark_is_not_asked_for(study: Study, store: Store, one_machine: bool) -> None:
    """As by ``ssa run``, or within a job; that mark is not asked for on a cluster later, either."""
    marks, parent_id = Marks(study, store, 2, one_machine), next(iter(study.all_parents()))
    assert not [mark for mark in named(marks.wanted()) if mark.startswith(("jobs", "parents s0", "parents s1 "))]
    assert marks.before_masks(parent_id) == []
    assert ensembles(study, marks)["ensembles s0 prune"] == ["masks s0"]  # those of the study without ensembles differ
    assert stages.ready(study, store, parent_id, Deadline())
    assert ensembles(study, marks)["ensembles s0 prune"] == []


def test_ensembles_whose_parents_job_is_done_are_made_by_themselves(study: Study, store: Store) -> None:
    marks = Marks(study, store, 2, one_machine=True)
    for job in jobs.plan(study, 2):
        marks.of_job(job).parent.mkdir(parents=True)
        marks.of_job(job).touch()
    assert [mark for mark in named(marks.wanted()) if "prune" in mark] == ["ensembles s0 prune", "ensembles s1 prune"]
    assert ensembles(study, marks)["ensembles s0 prune"] == ["jobs s0 0-5"]


def test_a_parent_whose_record_alone_is_lost_is_asked_for(tiny: dict[str, Any], store: Store) -> None:
    plan = expand(tiny)
    marks = Marks(plan, store, 2, one_machine=True)
    assert marks.wanted() == []
    store.parent_record(next(iter(plan.all_parents()))).unlink()
    assert named(marks.wanted()) == ["parents s0"]


def test_one_job_trains_parent_children_and_ensembles(study: Study, tmp_path: Path, tiny_store: Store) -> None:
    raw = {**copy.deepcopy(TINY), "ensembles": [{**PAIR, "parents": "small"}]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    store = Store(tmp_path / "results")
    plan = expand(raw)
    job = jobs.plan(plan, 2)[0]
    command = ["children", str(tmp_path / "tiny.yaml"), "--results", str(store.root), "--parent", job.parent_id]
    assert cli.main([*command, "--job", job.name, "--ensembles"]) == 0
    own, others = plan.ensembles
    assert store.ensemble_record(own.spec.id).exists()
    assert not store.ensemble_record(others.spec.id).exists()
    for child in plan.children_of(job.parent_id):
        ours, theirs = (one.read_child(child.spec)["result"] for one in (store, tiny_store))
        assert {**ours, "train_seconds": 0} == {**theirs, "train_seconds": 0}
    assert named(Marks(plan, store, 2, one_machine=True).wanted()) == ["jobs s1 0-5"]


def test_a_job_that_is_stopped_among_its_ensembles_says_what_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = {**copy.deepcopy(TINY), "ensembles": [{**PAIR, "parents": "small"}]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    train = stages.train_ensemble

    def warned(study: Study, store: Store, ensemble_id: str, deadline: Deadline) -> bool:
        deadline.warning = "SIGTERM"
        return train(study, store, ensemble_id, deadline)

    monkeypatch.setattr(stages, "train_ensemble", warned)
    parent_id = next(iter(expand(raw).all_parents()))
    command = ["children", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path), "--parent", parent_id]
    assert cli.main([*command, "--ensembles"]) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "ssa: stopped by SIGTERM: 5 of 5 children and 0 of 1 ensembles are recorded; "
        "the next attempt goes on from there"
    )


def test_the_mark_of_the_data_is_named_after_them_and_their_folder(tiny: dict[str, Any], tmp_path: Path) -> None:
    def name(**changes: Any) -> str:
        return Marks(expand({**tiny, **changes}), Store(tmp_path), 2).of_data().name

    assert name() == name(children={**tiny["children"], "epochs": 3})
    other = {"digits": {**tiny["datasets"]["digits"], "train": 61}}
    assert len({name(), name(data_root="elsewhere"), name(datasets=other)}) == 3
