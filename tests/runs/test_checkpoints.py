"""Children that are stopped go on bit for bit, and records say what a later reader will ask."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssa.files import read_tensors, write_tensors
from ssa.method.subnetwork import Subnetwork
from ssa.process import provenance
from ssa.process.deadline import Deadline
from ssa.runs import checkpoints
from ssa.store.store import Store
from ssa.study import study
from ssa.study.blocks import Child
from ssa.workflow import stages

METHODS = ["one-shot", "iterative", "random", "temperature", "temperature-all", "expected", "frozen", "shuffled"]
TIMES = {"train_seconds", "seconds", "started", "finished", "seal"}


class Killed(BaseException):
    """Stands for the end of the process."""


def plan_of(raw: dict[str, Any], methods: list[str], **children: Any) -> study.Study:
    raw["parents"]["small"] |= {"seeds": [0]}
    raw["children"] |= {"epochs": 3, "anneal_epochs": 2, **children}
    criteria = ["random", "magnitude"] if "iterative" in methods else ["random"]
    raw["blocks"] = [
        {"name": "main", "parents": "small", "method": methods, "criterion": criteria, "sparsity": 70},
    ]
    return study.expand(raw, Path("tiny.yaml"))


def untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: untimed(item) for key, item in value.items() if key not in TIMES}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def train(plan: study.Study, store: Store, children: list[Child], deadline: Deadline | None = None) -> int:
    return stages.train_children(plan, store, children[0].spec.parent.id, children, deadline)


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", -1.0)


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Ends the process, as it were, before the first step that is not before the time given, in epochs."""
    moment = [math.inf]
    at = Subnetwork.at

    def until(self: Subnetwork, t: float) -> None:
        if t >= moment[0]:
            raise Killed
        at(self, t)

    monkeypatch.setattr(Subnetwork, "at", until)
    return lambda t: moment.__setitem__(0, t)


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("method", METHODS)
def test_a_child_killed_at_random_moments_is_the_undisturbed_one(
    tiny: dict[str, Any], tmp_path: Path, kill: Any, method: str
) -> None:
    plan = plan_of(tiny, [method], score_used=[0, 1, 2])
    whole, pieces = Store(tmp_path / "whole"), Store(tmp_path / "pieces")
    children = list(plan.children)
    assert train(plan, whole, children) == 0
    assert stages.ready(plan, pieces, children[0].spec.parent.id, Deadline())
    chance = random.Random(METHODS.index(method))
    for child in children:
        for moment in sorted(chance.uniform(0, 2.5) for _ in range(3)):  # the last step of all begins at 2.5
            kill(moment)
            with pytest.raises(Killed):
                train(plan, pieces, [child])
            assert not pieces.recorded(child.spec)
            assert pieces.child_checkpoint(child.spec).exists() == (moment > 1)
        kill(math.inf)
        assert train(plan, pieces, [child]) == 0
        assert not pieces.child_checkpoint(child.spec).exists()
        assert untimed(pieces.read_child(child.spec)) == untimed(whole.read_child(child.spec))


def test_a_child_that_takes_seconds_writes_no_checkpoint(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store, saved = plan_of(tiny, ["one-shot"]), Store(tmp_path), []
    monkeypatch.setattr(checkpoints.Checkpoint, "save", lambda *_: saved.append(1))
    assert train(plan, store, list(plan.children)) == 0
    assert not saved


@pytest.mark.usefixtures("every_epoch")
def test_a_long_child_stops_at_its_deadline_and_goes_on(tiny: dict[str, Any], tmp_path: Path) -> None:
    plan, store = plan_of(tiny, ["temperature"]), Store(tmp_path)
    (child,) = plan.children
    assert stages.ready(plan, store, child.spec.parent.id, Deadline())
    for epoch in ("1", "2"):
        deadline = Deadline()
        deadline.passed = lambda ahead=0.0, asked=[]: asked.append(1) or len(asked) > 1  # after the first epoch
        assert train(plan, store, [child], deadline) == 1
        assert read_tensors(store.child_checkpoint(child.spec))[1]["epoch"] == epoch
    assert train(plan, store, [child], Deadline()) == 0


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("origin", ["id", "data", "start"])
def test_a_checkpoint_of_another_origin_is_left_aside(
    tiny: dict[str, Any], tmp_path: Path, kill: Any, origin: str
) -> None:
    plan, whole, store = plan_of(tiny, ["one-shot"]), Store(tmp_path / "whole"), Store(tmp_path / "other")
    (child,) = plan.children
    assert train(plan, whole, [child]) == 0
    assert stages.ready(plan, store, child.spec.parent.id, Deadline())
    kill(1.0)
    with pytest.raises(Killed):
        train(plan, store, [child])
    kill(math.inf)
    path = store.child_checkpoint(child.spec)
    tensors, metadata = read_tensors(path)
    del metadata["checksum"]
    write_tensors(path, {name: torch.zeros_like(value) for name, value in tensors.items()}, {**metadata, origin: "x"})
    assert train(plan, store, [child]) == 0
    assert untimed(store.read_child(child.spec)) == untimed(whole.read_child(child.spec))


def test_a_record_says_on_what_it_was_made(tiny: dict[str, Any], tmp_path: Path) -> None:
    plan, store = plan_of(tiny, ["one-shot"]), Store(tmp_path)
    assert train(plan, store, list(plan.children)) == 0
    made = store.read_child(plan.children[0].spec)["made"]
    assert made["source"] == provenance.source()
    assert len(made["source"]) == 16
    assert made["instructions"] == provenance.instructions(torch.device("cpu"))


@pytest.mark.parametrize(
    ("flags", "widest"),
    [
        ("fpu avx2 avx512f avx512_bf16 amx_bf16", "amx_bf16"),
        ("fpu avx2 avx512f avx512_bf16", "avx512_bf16"),
        ("fpu avx2", "avx2"),
    ],
)
def test_the_widest_instructions_are_named(flags: str, widest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **_: f"flags : {flags}\n")
    assert provenance.instructions(torch.device("cpu")) == widest


def used(tiny: dict[str, Any], folder: Path, method: str, **children: Any) -> list[dict[str, Any]]:
    plan, store = plan_of(tiny, [method], score_used=[0, 1, 2], score_epochs=[0, 2], **children), Store(folder)
    child = plan.children[0]
    assert train(plan, store, [child]) == 0
    return store.read_child(child.spec)["history"]


def test_one_shot_is_used_as_it_is_scored(tiny: dict[str, Any], tmp_path: Path) -> None:
    rows = used(tiny, tmp_path, "one-shot")
    assert [row["test_accuracy_used"] for row in rows] == [
        rows[0]["test_accuracy"],
        pytest.approx(rows[1]["test_accuracy_used"]),
        rows[2]["test_accuracy"],
        None,
    ]


def test_iterative_begins_as_the_parent_and_ends_as_its_target(tiny: dict[str, Any], tmp_path: Path) -> None:
    dense = used(json.loads(json.dumps(tiny)), tmp_path / "dense", "dense")
    rows = used(tiny, tmp_path / "iterative", "iterative")
    assert rows[0]["test_accuracy_used"] == dense[0]["test_accuracy_used"] != rows[0]["test_accuracy"]
    assert rows[2]["test_accuracy_used"] == rows[2]["test_accuracy"]  # e = 2: the first exact mask


def test_a_sampled_network_is_scored_as_the_mean_of_eight(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    as_used = Subnetwork.as_used
    monkeypatch.setattr(
        Subnetwork, "as_used", lambda self, t, seed: (seeds.append((t, seed)), as_used(self, t, seed))[1]
    )
    rows = used(tiny, tmp_path, "temperature", tau=0.5)
    assert [sum(t == epoch for t, _ in seeds) for epoch in (0, 1, 2)] == [8, 8, 1]
    assert len(set(seeds)) == 17
    assert rows[2]["test_accuracy_used"] == rows[2]["test_accuracy"]


@pytest.mark.slow
def test_scoring_as_used_changes_nothing_of_the_training(tiny: dict[str, Any], tmp_path: Path) -> None:
    plain, asked = plan_of(json.loads(json.dumps(tiny)), METHODS), plan_of(tiny, METHODS, score_used=[0, 1, 2])
    stores = Store(tmp_path / "plain"), Store(tmp_path / "asked")
    for plan, store in zip((plain, asked), stores, strict=True):
        assert train(plan, store, list(plan.children)) == 0
    for one, other in zip(plain.children, asked.children, strict=True):
        assert one.spec.id != other.spec.id
        first, second = stores[0].read_child(one.spec), stores[1].read_child(other.spec)
        assert untimed(first["result"]) == untimed(second["result"])
        for row in second["history"]:
            del row["test_accuracy_used"]
        assert first["history"] == second["history"]
