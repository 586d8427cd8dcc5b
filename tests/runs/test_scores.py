"""Nothing is scored twice: not the siblings of one mask before their first step, and no child at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from studies import expand

from ssa.process.deadline import Deadline
from ssa.runs import masks as masking
from ssa.runs import parent as parents
from ssa.runs.child import Start, train
from ssa.seeds import derive, seed_layers
from ssa.store.store import Store
from ssa.study.study import Study
from ssa.training import scoring
from ssa.workflow import stages

METHODS = ["one-shot", "iterative", "temperature", "expected"]
TIMES = {"train_seconds": 0}


def study_of(tiny: dict[str, Any]) -> Study:
    """Children that end to be pruned with their last step, four for each of two masks; scored at epochs 0, 1 and 2."""
    tiny["parents"]["small"]["seeds"] = [0]
    tiny["children"] |= {"epochs": 2, "anneal_epochs": 2, "score_epochs": None}
    tiny["blocks"] = [
        {"name": "main", "parents": "small", "method": METHODS, "criterion": ["random", "magnitude"], "sparsity": 80}
    ]
    return expand(tiny)


@pytest.mark.parametrize("batchnorm", ["reestimated", "running"])
def test_siblings_score_as_each_does_alone(tiny: dict[str, Any], tmp_path: Path, batchnorm: str) -> None:
    tiny["children"]["batchnorm"] = batchnorm
    plan, store = study_of(tiny), Store(tmp_path / "together")
    assert stages.run(plan, store, None, Deadline()) == 0
    spec, alone = plan.children[0].spec.parent, Store(tmp_path / "alone")
    content = parents.content_of(spec, plan.data_root, torch.device("cpu"))
    masks = masking.read(
        store.masks(spec.id, plan.masks_of(spec.id)), spec, [child.spec.mask for child in plan.children]
    )
    for child in plan.children:
        start = Start(parents.load(store, spec, content), content, torch.device("cpu"))
        assert train(alone, child.spec, masks[child.spec.mask.id], start) is not None
        together, own = store.read_child(child.spec), alone.read_child(child.spec)
        assert together["history"] == own["history"]
        assert together["result"] | TIMES == own["result"] | TIMES
        assert together["history"][-1]["test_accuracy"] == together["result"]["accuracy_bn"]


def test_a_split_is_scored_once_for_each_network(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["children"]["batchnorm"] = "reestimated"
    plan, store = study_of(tiny), Store(tmp_path)
    stages.train_parent(plan, store, plan.children[0].spec.parent.id)
    logits, scored = scoring.logits, 0

    def counted(*given: Any) -> torch.Tensor:
        nonlocal scored
        scored += 1
        return logits(*given)

    monkeypatch.setattr(scoring, "logits", counted)
    assert stages.run(plan, store, None, Deadline()) == 0
    masks, children = 2, len(plan.children)
    # Before the first step with both kinds of statistics; after each of two epochs; and the training images at the end.
    assert scored == masks * (1 + 2) + children * (2 * 2 + 1)


def test_layers_draw_as_after_pytorch_s_own_seeding_and_nothing_is_kept_for_accelerators_that_are_not_in_use() -> None:
    kept = len(torch.cuda._queued_calls)
    seed_layers("dropout", 1)
    drawn = torch.rand(4)
    assert torch.cuda.is_initialized() or len(torch.cuda._queued_calls) == kept
    torch.manual_seed(derive("dropout", 1))
    assert torch.equal(torch.rand(4), drawn)
