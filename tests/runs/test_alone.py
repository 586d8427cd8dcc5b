"""A child that a study trains is the one that the library makes by itself, and children of a job share one module."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import expand
from torch import Tensor

import ssa
from ssa.method.laws import Law, TemperatureAnnealing
from ssa.method.subnetwork import Subnetwork
from ssa.process.deadline import Deadline
from ssa.runs import child as children
from ssa.runs import modules
from ssa.runs import parent as parents
from ssa.seeds import derive
from ssa.store.store import Store
from ssa.training.loop import Training
from ssa.workflow import stages


def test_the_library_alone_makes_the_child_that_the_workflow_trains(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["parents"]["small"]["seeds"] = [0]
    methods = ["one-shot", "temperature", "random", "iterative"]
    tiny["blocks"] = [{"name": "main", "parents": "small", "method": methods, "sparsity": [50, 80]}]
    plan, store = expand(tiny), Store(tmp_path)
    trained: dict[str, dict[str, Tensor]] = {}
    used: list[Subnetwork] = []
    train = children.train

    def keep(store: Store, spec: Any, *more: Any) -> Subnetwork | None:
        child = train(store, spec, *more)
        assert child is not None
        trained[spec.id] = {name: weight.detach().clone() for name, weight in child.weights.items()}
        used.append(child)
        return child

    monkeypatch.setattr(children, "train", keep)
    assert stages.run(plan, store, None, Deadline()) == 0
    assert len(trained) == len(plan.children) == 8
    assert all(child is used[0] for child in used)
    spec = plan.children[0].spec.parent
    content = parents.content_of(spec, Path("unused"), torch.device("cpu"))
    parent = parents.load(store, spec, content)
    for run in (child.spec for child in plan.children):
        model = copy.deepcopy(parent)
        seed = derive("mask", spec.seed, run.mask.seed)
        mask = ssa.prune(model, run.mask.sparsity / 100, run.mask.criterion, seed=seed)
        law = children.laws.find(run.law)(**dict(run.law_args))
        child = ssa.Subnetwork(model, mask, law, seed=derive("masks", spec.seed, run.seed), epochs=run.recipe.epochs)
        own = Training(child, content, run.recipe, derive("batches", spec.seed, run.seed), run.resample, spec.recipe)
        for _ in range(run.recipe.epochs):
            own.run_epoch()
        for name, weight in child.weights.items():
            assert torch.equal(weight, trained[run.id][name]), (run.method, name)


def test_parents_of_one_kind_and_their_children_are_compiled_once_for_each_type_of_mask(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["parents"]["small"]["seeds"] = [0, 1, 2]
    tiny["compile"] = "default"
    tiny["blocks"] = [{"name": "main", "parents": "small", "method": ["one-shot", "temperature"], "sparsity": [50, 80]}]
    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode, dynamic: compile_it(f, backend="eager", dynamic=dynamic))
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    assert stages.run(expand(tiny), Store(tmp_path), None, Deadline()) == 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # no mask, and bytes


def test_of_the_children_that_a_job_keeps_the_one_that_trains_is_told_of_updates(tiny: dict[str, Any]) -> None:
    spec = expand(tiny).children[0].spec.parent
    content, device = parents.content_of(spec, Path("unused"), torch.device("cpu")), torch.device("cpu")
    model = parents.untrained(spec, content)
    mask = ssa.prune(model, 0.5, "random")

    def begin(law: Law) -> Subnetwork:
        child = modules.subnetwork(spec, model, content, mask, law, device)
        child.at(0.0)
        return child

    def updated(child: Subnetwork) -> bool:
        optimizer = torch.optim.SGD(child.parameters(), 0.1)
        child(torch.zeros(2, 1, 8, 8)).sum().backward()
        optimizer.step()
        try:
            child(torch.zeros(2, 1, 8, 8))
        except RuntimeError as error:
            return "the weights have been updated since at(0)" in str(error)
        return False

    sampled = begin(TemperatureAnnealing(epochs=2))
    expected = begin(TemperatureAnnealing(epochs=2, expected=True))
    assert updated(expected)
    assert not updated(sampled)  # it is no more: nothing is asked of its weights at another's steps
    again = begin(TemperatureAnnealing(epochs=2))
    assert again is sampled
    assert updated(again)
