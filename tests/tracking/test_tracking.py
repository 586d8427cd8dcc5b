"""Logging to W&B: what a run says, and that every record becomes one whole run, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from studies import expand
from tracked import RUNS, children, environment, logs, ssa, wait_for

from ssa.errors import UserError
from ssa.files import write_tensors
from ssa.method import laws
from ssa.method.masks import Mask
from ssa.runs import masks as masking
from ssa.specs.specs import ChildSpec
from ssa.store.store import Store
from ssa.study import study
from ssa.study.wandb import TrackingSettings, resolve
from ssa.tracking import follower
from ssa.tracking.layers import BINS, Derived, ParentMasks
from ssa.tracking.ledger import Ledger
from ssa.tracking.log import is_complete
from ssa.tracking.runs import ID_LENGTH, TrackedRun, of_child, run_id
from ssa.tracking.writer import FOLDER, Writer


def inspect(log: Path, *options: str) -> str:
    """The report of W&B's own reader on a log."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, str(log)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, encoding="utf-8").stdout


# --- what a run says ------------------------------------------------------------------------------------------


def test_a_run_has_the_id_of_its_record_as_far_as_wandb_takes_it() -> None:
    assert run_id("random-80-one-shot-E2-s0-0123456789") == "random-80-one-shot-E2-s0-0123456789"
    long = "magnitude-50-temperature-tau0.5-e6-linear-one-cycle-E24-s0-9bbe19c0e2"
    assert run_id(long) == "magnitude-50-temperature-tau0.5-e6-linear-one-cycle-E-9bbe19c0e2"
    assert len(run_id(long)) == ID_LENGTH
    assert run_id("my:own/law-0123456789") == "my-own-law-0123456789"


def test_ids_stay_different_where_only_their_hashes_are() -> None:
    names = [f"{'w' * 80}-{i:010x}" for i in range(100)]
    assert len({run_id(name) for name in names}) == 100


def test_a_child_says_everything_that_determined_it(trained: Path) -> None:
    loaded, store = study.load(trained / "tiny.yaml"), Store(trained / "results")
    child = next(c for c in loaded.children if c.spec.method == "temperature" and c.spec.mask.sparsity == 80)
    record, parent = store.read_child(child.spec), store.read_parent(child.spec.parent)
    run = of_child(loaded, child, record, parent)
    assert (run.id, run.job_type) == (run_id(child.spec.id), "child")
    assert run.group == f"{child.spec.parent.id}/{child.spec.mask.id}"
    assert run.tags == ("tiny", "digits", "resnet-small", "random", "temperature")
    assert run.config["spec"] == record["spec"] == json.loads(json.dumps(child.spec.content()))
    assert {key: run.config[key] for key in ("method", "criterion", "sparsity", "tau", "anneal_epochs")} == {
        **{"method": "temperature", "criterion": "random", "sparsity": 80.0, "tau": 0.5, "anneal_epochs": 1.0}
    }
    assert [row["epoch"] for row in run.history] == [0, 1, 2]
    assert "train_loss" not in run.history[0]  # nothing is logged where nothing was measured
    assert run.summary["accuracy"] == record["result"]["accuracy"]
    assert run.summary["diverged"] is False
    other = dataclasses.replace(run, summary={**run.summary, "accuracy": 0.0})
    assert run.digest == of_child(loaded, child, record, parent).digest != other.digest


def sample(
    tmp_path: Path, law: laws.Law, entries: dict[str, torch.Tensor]
) -> tuple[dict[str, float], dict[int, dict[str, np.ndarray]]]:
    """The numbers derived for a child of the tiny study whose law and mask are given."""
    loaded, store = study.expand(TINY, tmp_path / "tiny.yaml"), Store(tmp_path / "results")
    child = next(c for c in loaded.children if c.spec.method == "temperature")
    parent = child.spec.parent
    masks = {mask.id: Mask(entries if mask == child.spec.mask else {}) for mask in loaded.masks_of(parent.id)}
    masking.write(store.masks(parent.id, loaded.masks_of(parent.id)), parent, masks)
    write_tensors(store.weights(parent.id), {name: torch.ones(entry.shape) for name, entry in entries.items()}, {})
    args = tuple(sorted(dataclasses.asdict(law).items()))
    spec: ChildSpec = dataclasses.replace(child.spec, law=type(law).__name__, law_args=args)
    derived = ParentMasks(loaded, store, parent.id).derive(spec)
    return derived.summary, derived.histograms


def test_sparsity_and_keep_probabilities_of_temperature_annealing(tmp_path: Path) -> None:
    entries = {"first": torch.tensor([[True, False], [False, False]]), "second": torch.tensor([True, False])}
    sparsity, found = sample(tmp_path, laws.TemperatureAnnealing(epochs=2, tau=0.5), entries)
    assert sparsity == {"sparsity/first": 75.0, "sparsity/second": 50.0}
    assert sorted(found) == [0, 1, 2]
    for epoch, p in {0: 0.5, 1: 0.25, 2: 0.0}.items():
        pruned, kept = found[epoch]["keep_probability/pruned"], found[epoch]["keep_probability/kept"]
        assert pruned[int(p * BINS)] == pruned.sum() == 4
        assert kept[-1] == kept.sum() == 2


def test_keep_probabilities_of_random_annealing_are_spread_as_drawn(tmp_path: Path) -> None:
    half = torch.arange(4096) % 2 == 0
    _, found = sample(tmp_path, laws.RandomAnnealing(epochs=4), {"weight": half})
    pruned, kept = found[0]["keep_probability/pruned"], found[0]["keep_probability/kept"]
    # u lies below the sparsity, 1/2, for pruned weights. It is kept in 1/256, rounded up or down: 1 in 256 is then 1/2
    # itself, 8 of 2,048; 25 more than that come once in 10 million seeds.
    assert pruned[: BINS // 2 + 1].sum() == 2048
    assert pruned[BINS // 2] < 33
    assert kept[BINS // 2 :].sum() == 2048
    # 128 to a bin, with a standard deviation of 11: six of these are missed once in 10 million seeds.
    assert np.abs(pruned[: BINS // 2] - 128).max() < 66


def test_of_a_reranked_law_it_is_known_how_many_weights_are_here(tmp_path: Path) -> None:
    law = laws.Iterative(epochs=4, order="reranked")
    _, found = sample(tmp_path, law, {"weight": torch.tensor([True, False, False, False, False])})
    gone = [int(found[epoch]["keep_probability/pruned"][0]) for epoch in sorted(found)]
    assert gone == [0, 1, 2, 3, 4]


def test_masks_are_found_in_another_studys_file(trained: Path) -> None:
    loaded, store = study.load(trained / "tiny.yaml"), Store(trained / "results")
    half = dataclasses.replace(loaded, children=tuple(c for c in loaded.children if c.spec.mask.sparsity in (0, 80)))
    child = next(c.spec for c in half.children if c.spec.mask.sparsity == 80)
    assert not store.masks(child.parent.id, half.masks_of(child.parent.id)).exists()
    assert ParentMasks(half, store, child.parent.id).derive(child).summary


def test_without_masks_nothing_is_derived(trained: Path, tmp_path: Path) -> None:
    loaded = study.load(trained / "tiny.yaml")
    child = loaded.children[0].spec
    derived = ParentMasks(loaded, Store(tmp_path), child.parent.id).derive(child)
    assert (derived.summary, derived.histograms) == ({}, {})


# --- settings -------------------------------------------------------------------------------------------------


def test_logging_is_offline_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODE", "PROJECT", "ENTITY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    assert resolve(TINY, "tiny") == TrackingSettings("offline", "ssa-tiny", None)
    chosen = {"mode": "online", "project": "mine", "entity": "us"}
    assert resolve({**TINY, "wandb": chosen}, "tiny") == TrackingSettings("online", "mine", "us")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve({**TINY, "wandb": chosen}, "tiny").mode == "disabled"
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(UserError, match="WANDB_MODE: 'shared' is not allowed; allowed: online, offline, disabled"):
        resolve(TINY, "tiny")


@pytest.mark.parametrize(
    ("said", "meant"),
    [("dryrun", "offline"), ("Dryrun", "offline"), ("OFFLINE", "offline"), ("run", "online"), ("Disabled", "disabled")],
)
def test_the_mode_is_what_wandb_takes_it_for(monkeypatch: pytest.MonkeyPatch, said: str, meant: str) -> None:
    monkeypatch.setenv("WANDB_MODE", said)
    assert resolve({**TINY, "wandb": {"mode": "online"}}, "tiny").mode == meant


def test_wandbs_project_and_entity_stand_in_where_the_study_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_PROJECT", "shared")
    monkeypatch.setenv("WANDB_ENTITY", "them")
    assert resolve(TINY, "tiny") == TrackingSettings("offline", "shared", "them")
    chosen = {"project": "mine", "entity": "us"}
    assert resolve({**TINY, "wandb": chosen}, "tiny") == TrackingSettings("offline", "mine", "us")
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(UserError, match="WANDB_PROJECT: 'a/b' is not allowed"):
        resolve(TINY, "tiny")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"mode": "on"}, "wandb.mode: 'on' is not allowed; allowed: online, offline, disabled"),
        ({"project": "a/b"}, "wandb.project: 'a/b' is not allowed"),
        ({"api_key": "x"}, "wandb: unknown key 'api_key'"),
        ("online", "wandb: 'online' is not allowed; allowed: a mapping of mode, project, entity"),
    ],
)
def test_a_mistake_in_the_section_is_one_line(tiny: dict[str, Any], section: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        study.expand({**tiny, "wandb": section}, Path("tiny.yaml"))
    assert message in str(error.value)


def test_logging_changes_no_id(tiny: dict[str, Any]) -> None:
    ids = [child.spec.id for child in study.expand(tiny, Path("tiny.yaml")).children]
    other = study.expand({**tiny, "wandb": {"mode": "online", "project": "other"}}, Path("tiny.yaml"))
    assert [child.spec.id for child in other.children] == ids


# --- writing --------------------------------------------------------------------------------------------------


def test_every_record_becomes_one_run_that_wandb_reads(logged: Path) -> None:
    folder = logged
    assert len(logs(folder)) == RUNS
    assert all(path.exists() for path in (folder / "results/tiny/wandb").rglob("*"))  # no link leads nowhere
    records = {record["id"]: record for record in children(folder)}
    names = {log.stem.removeprefix("run-") for log in logs(folder)}
    assert names == {*map(run_id, records), *(p.name for p in (folder / "results/parents").iterdir()), "study-tiny"}
    log = next(log for log in logs(folder) if "80-temperature" in log.name)
    said = json.loads(inspect(log, "--summary", "--json"))
    text = json.dumps(said)
    record = next(record for name, record in records.items() if run_id(name) in log.name)
    assert said["state"] == "finished"
    for needle in (
        '"sparsity/',
        '"TemperatureAnnealing"',
        "keep_probability/pruned",
        repr(record["result"]["accuracy"]),
    ):
        assert needle in text
    kinds = Counter(json.loads(line)["type"] for line in inspect(log, "--json").splitlines())
    assert (kinds["history"], kinds["exit"]) == (3, 1)


def test_what_changed_is_written_anew_and_what_was_cut_off_is_cleared(again: Path) -> None:
    before = {log.parent.name for log in logs(again)}
    cut = next(log for log in logs(again) if "50-one-shot" in log.name)
    ledger = again / "results/tiny/wandb/written.jsonl"
    ledger.write_text(
        "".join(line for line in ledger.read_text(encoding="utf-8").splitlines(True) if cut.parent.name not in line),
        encoding="utf-8",
    )
    cut.write_bytes(cut.read_bytes()[:100])  # as a killed writer leaves it: not in the ledger, and not whole
    with (again / "tiny.yaml").open("a", encoding="utf-8") as file:
        file.write("\nquestion: Another?\n")  # the study's run holds the study's settings
    assert ssa(again, "aggregate", "tiny.yaml").returncode == 0
    done = ssa(again, "track", "tiny.yaml")
    assert done.stdout.startswith("2 W&B runs written")
    assert len(logs(again)) == RUNS
    assert all(is_complete(log) for log in logs(again))
    assert len(before - {log.parent.name for log in logs(again)}) == 2


def test_a_damaged_record_is_named_and_the_others_stay_logged(again: Path) -> None:
    record = next((again / "results/parents").rglob("record.json"))
    record.write_text(record.read_text(encoding="utf-8").replace('"accuracy"', '"accuracies"', 1), encoding="utf-8")
    done = ssa(again, "track", "tiny.yaml")
    assert done.returncode == 0
    assert done.stdout.startswith("0 W&B runs written")
    assert done.stderr.count("\n") == 1
    assert str(record.relative_to(again)) in done.stderr


def test_what_broke_off_is_written_by_the_next_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's service would hold it for a run in use until the process ends."""
    import wandb

    monkeypatch.setattr(wandb.Run, "log", full_disk)
    run = TrackedRun("run-1234567890", "child", "group", (), {}, [{"epoch": 0, "accuracy": 1.0}])
    writer = Writer(tmp_path, TrackingSettings())
    with pytest.raises(UserError, match=r"could not be written whole: is the disk of .*wandb full"):
        writer.write(run, Derived())
    monkeypatch.undo()
    assert writer.ledger.read() == {}
    again = Writer(tmp_path, TrackingSettings())
    again.write(run, Derived())
    assert is_complete(again.folder / again.ledger.read()[run.id]["folder"] / f"run-{run.id}.wandb")
    wandb.teardown()


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
def test_two_writers_at_once_write_each_run_once(folder: Path) -> None:
    command = [sys.executable, "-m", "ssa", "track", "tiny.yaml"]
    env = environment(folder)
    pair = [
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in pair]
    assert sum(int(text.split()[0]) for text in said) == RUNS
    assert len(logs(folder)) == RUNS


def test_where_it_is_disabled_nothing_is_written(folder: Path) -> None:
    done = ssa(folder, "track", "tiny.yaml", WANDB_MODE="disabled")
    assert done.returncode == 2
    assert done.stderr == "ssa: WANDB_MODE is disabled, so nothing is logged; set it to offline or online\n"
    assert not (folder / "results/tiny/wandb").exists()


@pytest.mark.parametrize("damage", ["cut off", "gone"])
def test_a_run_whose_log_is_not_whole_any_more_is_written_anew(again: Path, damage: str) -> None:
    log = logs(again)[0]
    whole = log.stat().st_size
    if damage == "gone":
        log.unlink()
    else:
        os.truncate(log, 200)
    done = ssa(again, "track", "tiny.yaml")
    assert (done.returncode, done.stdout.split()[0]) == (0, "1")
    assert len(logs(again)) == RUNS
    assert min(path.stat().st_size for path in logs(again)) > whole / 2
    assert all(is_complete(path) for path in logs(again))


def test_in_a_sweep_runs_keep_their_ids(folder: Path) -> None:
    assert ssa(folder, "track", "tiny.yaml", WANDB_SWEEP_ID="abc").returncode == 0
    assert all(log.name == f"run-{FOLDER.fullmatch(log.parent.name).group(1)}.wandb" for log in logs(folder))
    assert ssa(folder, "track", "tiny.yaml").stdout.startswith("0 W&B runs")


def test_the_run_of_a_study_that_was_edited_waits_for_its_tables(folder: Path) -> None:
    path = folder / "tiny.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("title: Tiny", "title: Another"), encoding="utf-8")
    assert ssa(folder, "track", "tiny.yaml").stdout.startswith(f"{RUNS - 1} W&B runs")
    assert ssa(folder, "aggregate", "tiny.yaml").returncode == 0
    assert ssa(folder, "track", "tiny.yaml").stdout.startswith("1 W&B runs")


def test_a_copy_with_a_change_does_not_write_over_the_runs_of_the_first(folder: Path) -> None:
    text = (folder / "tiny.yaml").read_text(encoding="utf-8")
    (folder / "copy.yaml").write_text(text.replace("title: Tiny", "title: Another"), encoding="utf-8")
    done = ssa(folder, "track", "copy.yaml")
    assert done.returncode == 2
    assert "tiny.yaml is called so too" in done.stderr


def test_a_log_is_complete_only_as_a_whole(logged: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.wandb"
    content = max((log.read_bytes() for log in logs(logged)), key=len)
    part.write_bytes(content)
    assert is_complete(part)
    for size in (0, 5, 7, len(content) // 2, len(content) - 40, len(content) - 1):
        part.write_bytes(content[:size])
        assert not is_complete(part), size


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add(run="a", digest="1")
    with ledger.path.open("a", encoding="utf-8") as file:
        file.write('{"run": "b", "dig')
    ledger.add(run="c", digest="3")
    ledger.add(run="a", digest="2")
    assert {run: entry["digest"] for run, entry in ledger.read().items()} == {"a": "2", "c": "3"}


# --- following ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "follows"), [("offline", True), ("disabled", False)])
def test_nothing_follows_a_study_that_is_not_logged(
    tiny: dict[str, Any], tmp_path: Path, mode: str, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    found = follower.of(expand({**tiny, "wandb": {"mode": mode}}), Path("tiny.yaml"), tmp_path / "tracking.log")
    assert (found is not None) == follows


def test_a_follower_writes_what_comes_and_ends_with_the_process_that_started_it(folder: Path) -> None:
    """Also where that is killed: SIGKILL leaves no time to say goodbye."""
    kept = folder / "results/children"
    late = kept.rename(folder / "late")
    script = (
        "from pathlib import Path; import os, sys, time; from ssa.tracking.follower import Follower\n"
        "follower = Follower(Path('tiny.yaml'), Path('logs/tracking.log')); follower.start()\n"
        "print(follower.process.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout
    follower = int(process.stdout.readline())
    wait_for(lambda: len(Ledger(folder / "results/tiny/wandb/written.jsonl").read()) == 3)  # parents and the study
    late.rename(kept)
    process.kill()
    process.wait()
    wait_for(
        lambda: (
            not Path(f"/proc/{follower}").exists()
            or "\nState:\tZ" in Path(f"/proc/{follower}/status").read_text(encoding="utf-8")
        )
    )
    assert len(logs(folder)) == RUNS
    assert (folder / "logs/tracking.log").read_text(encoding="utf-8") == ""


# --- a kill ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_writer_is_taken_up_where_it_was(folder: Path) -> None:
    command = [sys.executable, "-m", "ssa", "track", "tiny.yaml"]
    process = subprocess.Popen(command, cwd=folder, env=environment(folder), start_new_session=True)
    wait_for(lambda: len(Ledger(folder / "results/tiny/wandb/written.jsonl").read()) > 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    written = len(Ledger(folder / "results/tiny/wandb/written.jsonl").read())
    done = ssa(folder, "track", "tiny.yaml")
    print(f"killed a writer after {written} of {RUNS} runs; the next said: {done.stdout.strip()}")
    assert done.stdout.startswith(f"{RUNS - written} W&B runs written")
    assert len(logs(folder)) == RUNS
    assert all(is_complete(log) for log in logs(folder))
