"""Jobs: balanced, resumable, and never training a finished child again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from studies import expand

from ssa.errors import UserError
from ssa.files import read_tensors
from ssa.process import devices, gpus, locks
from ssa.process.deadline import Deadline
from ssa.results.aggregate import aggregate
from ssa.results.children import COLUMNS
from ssa.store.store import Store, write_record
from ssa.study import blocks
from ssa.workflow import jobs, stages
from ssa.workflow.marks import Marks


def records(store: Store) -> dict[str, bytes]:
    """Each child's record, which says when it was written, by the child's id."""
    lines = [line for path in (store.root / "children").rglob("*.jsonl") for line in path.read_bytes().splitlines(True)]
    return {json.loads(line)["id"]: line for line in lines if line.endswith(b"\n")}


def lose(store: Store, child: blocks.Child) -> None:
    """Remove one child's record from the disk."""
    place = store.records(child.spec.parent.id).places[child.spec.id]
    content = place.path.read_bytes()
    place.path.write_bytes(content[: place.start] + content[place.start + place.length :])


@pytest.fixture(scope="module")
def finished(tiny_store: Store) -> Store:
    return tiny_store


@pytest.mark.parametrize(
    ("parents", "workers", "sizes"),
    [
        (2, 1, {5: 2}),
        (2, 2, {5: 2}),
        (2, 4, {3: 2, 2: 2}),
        (1, 2, {3: 1, 2: 1}),
        (3, 2, {3: 3, 2: 3}),  # three whole parents on two workers would leave one idle for a third of the time
    ],
)
def test_children_are_balanced_over_the_workers(
    tiny: dict[str, Any], parents: int, workers: int, sizes: dict[int, int]
) -> None:
    tiny["parents"]["small"]["seeds"] = list(range(parents))
    plan = jobs.plan(expand(tiny), workers)
    assert Counter(job.stop - job.start for job in plan) == sizes


def test_a_study_can_say_how_many_children_a_job_takes(tiny: dict[str, Any]) -> None:
    tiny["children_per_job"] = 2
    assert [job.stop - job.start for job in jobs.plan(expand(tiny), 1)] == [2, 2, 1, 2, 2, 1]


def test_a_job_is_found_by_its_name_and_refused_when_the_study_changed(tiny: dict[str, Any]) -> None:
    plan = expand(tiny)
    job = jobs.plan(plan, 4)[1]
    children = jobs.children_of(plan, job.parent_id, job.name)
    assert [c.spec.id for c in children] == [c.spec.id for c in plan.children_of(job.parent_id)[job.start : job.stop]]
    tiny["children"]["lr"] = 0.2
    with pytest.raises(UserError, match="is of another version"):
        jobs.children_of(expand(tiny), job.parent_id, job.name)
    with pytest.raises(UserError, match="names no job"):
        jobs.children_of(plan, job.parent_id, "first")


def test_a_finished_study_trains_nothing_even_without_weights(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    copied = Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root, ignore=shutil.ignore_patterns("*.safetensors"))
    before = records(copied)
    assert Marks(expand(tiny), copied, 2).wanted() == []
    assert stages.run(expand(tiny), copied, None, Deadline()) == 0
    assert records(copied) == before
    assert not list(copied.root.rglob("*.safetensors"))


def test_a_parent_that_lost_its_record_is_trained_although_all_its_children_are_there(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    plan, copied = expand(tiny), Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    lost, other = plan.all_parents().values()
    copied.parent_record(lost.id).unlink()
    marks = [copied.study_folder("tiny") / "marks" / "parents" / f"{one.id}.done" for one in (lost, other)]
    marks[0].parent.mkdir(parents=True)
    for mark in marks:
        mark.touch()
    assert Marks(plan, copied, 2).wanted() == [marks[0].with_name(f"{lost.id}.2.done")]
    assert [mark.exists() for mark in marks] == [True, True]  # who asks changes nothing
    assert stages.run(plan, copied, None, Deadline()) == 0
    assert copied.read_parent(lost)["result"]["nll"] == finished.read_parent(lost)["result"]["nll"]


def test_of_two_that_want_a_parent_one_trains_it(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssa.runs import parent as parents

    begun, train = [], parents.train

    def slowly(*args: Any) -> bool:
        begun.append(args)
        time.sleep(0.5)
        return train(*args)

    monkeypatch.setattr(parents, "train", slowly)
    plan = expand(tiny)
    wanted = [(plan, Store(tmp_path), next(iter(plan.all_parents())))] * 2
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda one: stages.train_parent(*one), wanted)) == [True, True]
    assert len(begun) == 1


def test_a_parent_that_comes_out_as_another_network_does_not_take_its_place(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    plan, copied = expand(tiny), Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    spec = next(iter(plan.all_parents().values()))
    copied.weights(spec.id).unlink()
    assert stages.train_parent(plan, copied, spec.id)
    (_, again), (_, then) = (read_tensors(one.weights(spec.id)) for one in (copied, finished))
    assert again["checksum"] == then["checksum"]
    content = {key: value for key, value in copied.read_parent(spec).items() if key in ("result", "made")}
    content["result"]["nll"] += 0.001  # as if another machine had trained it then
    write_record(copied.parent_record(spec.id), spec, content)
    copied.weights(spec.id).unlink()
    with pytest.raises(UserError, match=rf"parent {spec.id} was trained again and came out as another network"):
        stages.train_parent(plan, copied, spec.id)
    assert not copied.weights(spec.id).exists()


def test_a_parent_without_its_record_may_not_become_another_network(
    finished: Store, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssa.runs import parent as parents

    plan, copied = expand(tiny), Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    spec = next(iter(plan.all_parents().values()))
    whole = copied.weights(spec.id).read_bytes()
    copied.parent_record(spec.id).unlink()  # its line was damaged, and the message says to delete it
    monkeypatch.setattr(parents, "derive", lambda *purpose: 1)  # as if this machine computed otherwise
    with pytest.raises(UserError, match="came out as another network"):
        stages.train_parent(plan, copied, spec.id)
    assert copied.weights(spec.id).read_bytes() == whole
    monkeypatch.undo()
    assert stages.train_parent(plan, copied, spec.id)
    assert copied.read_parent(spec)["result"]["nll"] == finished.read_parent(spec)["result"]["nll"]


def test_children_of_other_images_than_their_parents_are_refused(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    plan, copied = expand(tiny), Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    spec, children = next(iter(plan.all_parents().values())), plan.children
    own = [child for child in children if child.spec.parent == spec]
    record = copied.read_child(own[0].spec)
    shutil.rmtree(copied.records(spec.id).folder)
    copied.record_child(own[0].spec, {**record, "made": {**record["made"], "data": "of files before the change"}})
    refused = f"{spec.id} and {own[0].spec.id} were trained on different images.* delete .*children/{spec.id}"
    with pytest.raises(UserError, match=refused):
        stages.train_children(plan, copied, spec.id, own)
    for child in own[1:]:
        copied.record_child(child.spec, finished.read_child(child.spec))
    with pytest.raises(UserError, match=refused):
        aggregate(plan, copied)


def test_who_waits_for_the_gpu_alone_lets_go_of_the_parent(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    import torch

    from ssa.runs import parent as parents

    plan, store = expand(tiny), Store(tmp_path)
    spec, train, calls = next(iter(plan.all_parents().values())), parents.train, []

    def short_of_memory(*args: Any) -> bool:
        calls.append(args)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("out of memory")
        return train(*args)

    def wait() -> None:
        locks.only_one(store.parent_folder(spec.id) / ".lock", spec.id).close()  # another job may have it

    monkeypatch.setattr(parents, "train", short_of_memory)
    monkeypatch.setattr(gpus, "have_alone", wait)
    assert stages.train_parent(plan, store, spec.id)
    assert len(calls) == 2


def test_another_batching_and_a_larger_grid_reuse_every_finished_child(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    copied = Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root, copy_function=shutil.copy2)
    before = records(copied)
    tiny["children_per_job"] = 1
    tiny["blocks"][1]["sparsity"] = [50, 80, 90]
    plan = expand(tiny)
    assert len(Marks(plan, copied, 2).wanted()) == 4  # two new children of each parent
    assert stages.run(plan, copied, None, Deadline()) == 0
    after = records(copied)
    assert len(after) == len(before) + 4
    assert {name: after[name] for name in before} == before


def test_changed_settings_share_nothing(finished: Store, tiny: dict[str, Any]) -> None:
    tiny["parents"]["small"]["lr"] = 0.05
    plan = expand(tiny)
    assert not any(finished.recorded(child.spec) for child in plan.children)


def test_a_lost_record_makes_its_job_run_again(finished: Store, tiny: dict[str, Any], tmp_path: Path) -> None:
    copied = Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    plan = expand(tiny)
    job = jobs.plan(plan, 2)[0]
    mark = Marks(plan, copied, 2).of_job(job)
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert Marks(plan, copied, 2).wanted() == [mark]
    lose(copied, plan.children_of(job.parent_id)[0])
    second = mark.with_name(f"{job.name}.2.done")
    assert Marks(plan, copied, 2).wanted() == [second] == [Marks(plan, copied, 2).of_job(job)]
    second.touch()  # of a job that ran again, but lost its record too
    third = mark.with_name(f"{job.name}.3.done")
    assert Marks(plan, copied, 2).wanted() == [third]
    stages.run(plan, copied, None, Deadline())
    assert Marks(plan, copied, 2).wanted() == [second]
    assert sorted(path.name for path in mark.parent.iterdir()) == [second.name, mark.name]


def test_the_mark_of_a_stage_is_another_once_its_files_are_lost(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    plan, copied = expand(tiny), Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    one = next(iter(plan.all_parents()))
    for stage in ("parents", "masks"):
        first = Marks(plan, copied, 2).of_stage(stage, one)
        assert first == copied.study_folder("tiny") / "marks" / stage / f"{one}.done"
        first.parent.mkdir(parents=True)
        first.touch()
        assert Marks(plan, copied, 2).of_stage(stage, one) == first
    for path in copied.parent_folder(one).glob("*.safetensors"):
        path.unlink()
    assert {Marks(plan, copied, 2).of_stage(stage, one).name for stage in ("parents", "masks")} == {f"{one}.2.done"}


def test_records_that_are_newer_than_the_tables_are_found(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    plan, copied = expand(tiny), Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    assert Marks(plan, copied, 2).newer_records() == []  # there are no tables
    table = copied.study_folder("tiny") / "children.csv"
    table.parent.mkdir(exist_ok=True)
    table.touch()
    files = [path for parent_id in plan.all_parents() for path in copied.record_files(parent_id)]
    for path in files:
        os.utime(path, (1000, 1000))
    os.utime(table, (2000, 2000))
    assert Marks(plan, copied, 2).newer_records() == []
    os.utime(files[-1], (2001, 2001))
    assert Marks(plan, copied, 2).newer_records() == [files[-1]]
    assert table.exists()


def test_marks_of_another_split_still_count(finished: Store, tiny: dict[str, Any], tmp_path: Path) -> None:
    copied = Store(tmp_path / "results")
    shutil.copytree(finished.root, copied.root)
    plan = expand(tiny)
    for job in jobs.plan(plan, 4):
        path = Marks(plan, copied, 2).of_job(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert Marks(plan, copied, 1).wanted() == Marks(plan, copied, 4).wanted()
    assert len(Marks(plan, copied, 1).wanted()) == 4


def test_a_budget_stops_in_time_and_the_next_run_goes_on(tiny: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert stages.run(expand(tiny), store, None, Deadline(0.0)) == 10 + 2  # children and parents
    assert not list(tmp_path.iterdir())  # nothing was begun
    assert stages.run(expand(tiny), store, [1], Deadline()) == 0
    assert len(records(store)) == 5
    assert all("s1-" in path.parent.name for path in (tmp_path / "children").rglob("*.jsonl"))


@pytest.mark.slow
def test_a_killed_job_resumes_without_retraining_a_finished_child(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["parents"]["small"]["seeds"] = [0]
    tiny["blocks"][1]["sparsity"] = [10, 20, 30, 40, 50, 60, 70, 80]
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny), encoding="utf-8")
    store = Store(tmp_path / "results")
    command = [sys.executable, "-m", "ssa", "run", str(file), "--results", str(store.root)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(records(store)) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = records(store)
    assert 3 <= len(killed) < 17
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert "all is recorded" in done.stdout
    after = records(store)
    assert len(after) == 17
    assert {name: after[name] for name in killed} == killed


def test_an_interrupted_parent_resumes_bit_for_bit(tiny: dict[str, Any], tmp_path: Path) -> None:
    import torch

    from ssa.runs import parent as parents

    tiny["parents"]["small"] |= {"epochs": 4, "seeds": [0]}
    plan = expand(tiny)
    spec = next(iter(plan.all_parents().values()))
    device = torch.device("cpu")
    content = parents.content_of(spec, Path("unused"), device)
    whole, pieces = Store(tmp_path / "whole"), Store(tmp_path / "pieces")
    assert parents.train(whole, spec, content, device, Deadline())
    stops = 0
    while not parents.train(pieces, spec, content, device, Deadline(0.0)):
        stops += 1
        assert pieces.checkpoint(spec.id).exists()
    assert stops == 3
    assert not pieces.checkpoint(spec.id).exists()
    (a, _), (b, _) = read_tensors(whole.weights(spec.id)), read_tensors(pieces.weights(spec.id))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_interrupted_parents_time_is_that_of_all_its_attempts(tiny: dict[str, Any], tmp_path: Path) -> None:
    import torch

    from ssa.files import read_tensors, write_tensors
    from ssa.runs import parent as parents

    spec, store, device = next(iter(expand(tiny).all_parents().values())), Store(tmp_path), torch.device("cpu")
    content = parents.content_of(spec, Path("unused"), device)
    assert not parents.train(store, spec, content, device, Deadline(0.0))
    tensors, metadata = read_tensors(store.checkpoint(spec.id))
    said = json.loads(metadata["said"])
    assert said["seconds"] > 0
    elsewhere = json.dumps({"seconds": 1000, "hardware": [["Another CPU", "avx2"]]})
    metadata = {key: value for key, value in metadata.items() if key != "checksum"}
    write_tensors(store.checkpoint(spec.id), tensors, {**metadata, "said": elsewhere})
    assert parents.train(store, spec, content, device, Deadline())
    record = store.read_parent(spec)
    assert 1000 < record["result"]["train_seconds"] < 1060
    assert record["made"]["device"].startswith("Another CPU; ")
    assert record["made"]["instructions"].startswith("avx2")


def test_results_are_the_same_whatever_ran_before_in_the_process(
    finished: Store, tiny: dict[str, Any], tmp_path: Path
) -> None:
    plan = expand(tiny)
    last = plan.children_of(plan.children[-1].spec.parent.id)[-1]
    alone = Store(tmp_path)
    assert stages.train_children(plan, alone, last.spec.parent.id, [last]) == 0
    first, second = finished.read_child(last.spec), alone.read_child(last.spec)
    assert first["history"] == second["history"]
    timed = {"train_seconds"}
    assert {k: v for k, v in first["result"].items() if k not in timed} == {
        k: v for k, v in second["result"].items() if k not in timed
    }


def test_a_diverging_child_is_recorded_and_its_siblings_go_on(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["blocks"][1] |= {"lr": [0.1, 1e12], "sparsity": 50, "method": "one-shot"}
    plan = expand(tiny)
    store = Store(tmp_path)
    assert stages.run(plan, store, None, Deadline()) == 0
    aggregate(plan, store)
    children = pd.read_csv(tmp_path / "tiny" / "children.csv")
    assert len(children) == 6
    lost = children[children.lr == 1e12]
    assert lost.diverged.all()
    assert (lost.diverged_step < 4).all()
    assert (lost.accuracy == 10.0).all()
    assert not children[children.lr == 0.1].diverged.any()


def test_aggregation_gives_every_column_and_joins_the_dense_row(finished: Store, tiny: dict[str, Any]) -> None:
    plan = expand(tiny)
    aggregate(plan, finished)
    folder = finished.root / "tiny"
    children = pd.read_csv(folder / "children.csv")
    assert tuple(children.columns) == COLUMNS
    assert len(children) == 10
    dense = children[children.method == "dense"].set_index("parent_seed").accuracy
    assert (children.dense_accuracy == children.parent_seed.map(dense)).all()
    assert (children.realised_sparsity - children.sparsity).abs().max() < 0.2
    assert (children.effective_sparsity >= children.realised_sparsity - 1e-9).all()
    assert children[children.method == "one-shot"].tau.isna().all()
    assert set(children[children.method == "temperature"].tau) == {0.5}
    history = pd.read_parquet(folder / "history.parquet")
    assert (history.groupby("child_id").epoch.apply(list).map(tuple) == (0, 1, 2)).all()
    resolved = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert resolved["counts"] == {"parents": 2, "children": 10, "ensembles": 0, "epochs": 24}
    sources = {entry["source"] for entry in resolved["hyperparameters"]}
    assert sources <= {"paper", "summary", "reviews", "PAT", "author-code", "assumed"}


def test_augmented_children_have_a_dense_one_of_their_own(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["parents"]["small"]["seeds"] = [0]
    for block in tiny["blocks"]:
        block["augment"] = ["none", "crop-flip"]
    plan, store = expand(tiny), Store(tmp_path)
    assert stages.run(plan, store, None, Deadline()) == 0
    aggregate(plan, store)
    children = pd.read_csv(tmp_path / "tiny" / "children.csv")
    dense = children[children.method == "dense"].set_index("augment").accuracy
    assert len(dense) == 2
    assert (children.dense_accuracy == children.augment.map(dense)).all()


def test_a_share_of_epochs_names_the_reference_up_to_rounding(tiny: dict[str, Any]) -> None:
    tiny["claims"] = {"ssa": {"anneal_fraction": 0.55}}  # of 100 epochs 55.00000000000001
    tiny["children"] |= {"epochs": 100, "anneal_epochs": 55}
    assert all(child.reference for child in expand(tiny).children)


def test_a_network_that_cannot_be_built_is_said_with_the_data(tiny: dict[str, Any]) -> None:
    stages.fetch_data(expand(tiny))
    tiny["parents"]["small"]["model_options"] = {"widht": 8}
    with pytest.raises(UserError, match=r"model resnet-small with options .*unexpected keyword argument 'widht'"):
        stages.fetch_data(expand(tiny))
    tiny["parents"]["small"] |= {"model": "lenet-l", "model_options": {}}  # digits have 8x8 pixels
    with pytest.raises(UserError, match="model lenet-l cannot take images of 1x8x8: "):
        stages.fetch_data(expand(tiny))


def test_unknown_parents_and_seeds_are_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    plan = expand(tiny)
    with pytest.raises(UserError, match="has no parent 'typo'; ssa plan --jobs lists them"):
        jobs.children_of(plan, "typo", None)
    with pytest.raises(UserError, match="has no parent of seed 99 there; allowed: 0, 1"):
        stages.run(plan, Store(tmp_path), [0, 99], Deadline())


def test_a_study_on_a_missing_gpu_is_refused(tiny: dict[str, Any]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    tiny["device"] = "cuda"
    with pytest.raises(UserError, match="finds no GPU here; set device"):
        stages.choose_device(expand(tiny))


@pytest.mark.parametrize(
    ("device", "units", "precision", "lines"),
    [("cuda", False, "bf16", 1), ("cuda", True, "bf16", 0), ("cuda", False, "fp32", 0), ("cpu", False, "bf16", 0)],
)
def test_a_gpu_without_bf16_units_is_named_once(
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    device: str,
    units: bool,
    precision: str,
    lines: int,
) -> None:
    import torch

    from ssa.training import bf16

    monkeypatch.setattr(bf16, "has_units", lambda device: units)
    monkeypatch.setattr(devices, "choose", lambda *_: torch.device(device))
    stages._warn_of_emulation.cache_clear()
    tiny["parents"]["small"]["precision"] = precision
    for _ in range(2):
        stages.choose_device(expand(tiny))
    said = capsys.readouterr().err
    assert said.count("\n") == lines
    assert ("set precision: fp32" in said) == bool(lines)


def test_rewinding_starts_from_an_early_parent_and_repeats_its_rates(tiny: dict[str, Any], tmp_path: Path) -> None:
    import torch

    tiny["parents"]["small"] |= {"epochs": 5, "seeds": [0], "lr": 0.08, "final_lr": 0.01}
    tiny["children"]["lr_schedule"] = "rewound"
    tiny["blocks"][1] |= {"method": ["one-shot", "weight-rewinding"], "sparsity": 50}
    plan, store = expand(tiny), Store(tmp_path)
    assert stages.run(plan, store, None, Deadline()) == 0
    parent = plan.children[0].spec.parent
    early, trained = (read_tensors(path)[0] for path in (store.early_weights(parent.id, 3), store.weights(parent.id)))
    assert not torch.equal(early["head.weight"], trained["head.weight"])
    by_method = {child.spec.method: store.read_child(child.spec) for child in plan.children}
    # 2 steps an epoch: the last step of epochs 4 and 5 is step 7 and 9 of 10; at 0.7 the rate is half way, at 0.9 final
    for record in by_method.values():
        assert [row["lr"] for row in record["history"][1:]] == pytest.approx([0.045, 0.01])
    assert by_method["weight-rewinding"]["result"] != by_method["one-shot"]["result"]
    (tmp_path / "parents" / parent.id / "epoch-3.safetensors").unlink()
    assert stages.train_parent(plan, store, parent.id)
    assert torch.equal(read_tensors(store.early_weights(parent.id, 3))[0]["head.weight"], early["head.weight"])


def test_a_parent_that_was_interrupted_after_an_epoch_to_rewind_to_goes_back_for_it(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    import torch

    from ssa.runs import parent as parents

    tiny["parents"]["small"] |= {"epochs": 4, "seeds": [0]}
    plan, store, cpu = expand(tiny), Store(tmp_path), torch.device("cpu")
    spec = next(iter(plan.all_parents().values()))
    content = parents.content_of(spec, Path("unused"), cpu)
    for _ in range(2):
        assert not parents.train(store, spec, content, cpu, Deadline(0.0))
    assert parents.train(store, spec, content, cpu, Deadline(), keep=[1, 3])
    assert parents.trained(store, spec, [1, 3])


def test_an_early_network_counts_only_once_the_last_is_the_one_on_record(tiny: dict[str, Any], tmp_path: Path) -> None:
    import torch

    from ssa.runs import parent as parents

    tiny["parents"]["small"] |= {"epochs": 4, "seeds": [0]}
    plan, store, cpu = expand(tiny), Store(tmp_path), torch.device("cpu")
    spec = next(iter(plan.all_parents().values()))
    content = parents.content_of(spec, Path("unused"), cpu)
    assert parents.train(store, spec, content, cpu, Deadline())
    record = {key: value for key, value in store.read_parent(spec).items() if key in ("result", "made")}
    record["result"]["nll"] += 0.001  # as if another machine had trained it then
    write_record(store.parent_record(spec.id), spec, record)
    for _ in range(2):  # stopped after the epoch to keep
        assert not parents.train(store, spec, content, cpu, Deadline(0.0), keep=[1])
    assert not parents.trained(store, spec, [1])
    with pytest.raises(UserError, match="came out as another network"):
        parents.train(store, spec, content, cpu, Deadline(), keep=[1])
    assert sorted(path.name for path in store.parent_folder(spec.id).iterdir()) == [
        "record.json",
        "weights.safetensors",
    ]
    record["result"]["nll"] -= 0.001
    write_record(store.parent_record(spec.id), spec, record)
    for _ in range(2):
        assert not parents.train(store, spec, content, cpu, Deadline(0.0), keep=[1])
    assert parents.train(store, spec, content, cpu, Deadline(), keep=[1])  # from its checkpoint
    assert parents.trained(store, spec, [1])


def test_a_law_of_ones_own_runs_by_its_import_path(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_laws.py").write_text(
        "from dataclasses import dataclass\nimport ssa\n\n"
        "@dataclass(frozen=True)\nclass Halves(ssa.Law):\n"
        "    def anneal(self, a, mask, state):\n        return 1.0, 0.5 if a < 0.5 else 0.25\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    tiny["methods"] = {"halves": {"law": "my_laws.Halves"}}
    tiny["parents"]["small"]["seeds"] = [0]
    tiny["blocks"][1] |= {"method": "halves", "sparsity": 50}
    plan, store = expand(tiny), Store(tmp_path / "results")
    assert stages.run(plan, store, None, Deadline()) == 0
    history = store.read_child(plan.children[-1].spec)["history"]
    assert [row["keep_pruned"] for row in history] == [0.5, 0.0, 0.0]


def test_numbers_of_the_engine_are_pinned(finished: Store, tiny: dict[str, Any]) -> None:
    """Where this fails the engine's results have changed: raise SEMANTICS, then pin the new numbers.

    Losses of the first child of each kind, to a relative 1e-3: processors differ by less, changed semantics by more.
    """
    plan = expand(tiny)
    losses = {}
    for child in plan.children_of(plan.children[0].spec.parent.id):
        history = finished.read_child(child.spec)["history"]
        losses[f"{child.spec.method}-{child.spec.mask.sparsity:g}"] = [row["train_loss"] for row in history[1:]]
    assert losses == {name: pytest.approx(values, rel=1e-3) for name, values in PINNED.items()}


PINNED = {
    "dense-0": [2.159043, 2.101753],
    "one-shot-50": [2.300976, 2.234406],
    "temperature-50": [2.268729, 2.287296],
    "one-shot-80": [2.297231, 2.245929],
    "temperature-80": [2.277887, 2.287567],
}
