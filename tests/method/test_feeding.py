"""Criteria on models as people have them: keyword batches, outputs with a loss, kept activations, own scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssa


class Named(nn.Module):
    """Takes keywords, gives a mapping with a loss where it has labels, and keeps what it has computed."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.last: Tensor | None = None
        self.all: list[Tensor] = []
        with torch.no_grad():
            self.hidden.weight.copy_(torch.tensor([[-1.0, 3.0], [3.0, 1.0]]))
            self.head.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        self.last = self.hidden(x)
        self.all.append(self.last)
        logits = self.head(self.last)
        found = {"logits": logits}
        return found if labels is None else {"loss": nn.functional.cross_entropy(logits, labels), **found}


BATCH = {"x": torch.tensor([[1.0, 2.0]]), "labels": torch.tensor([0])}
# Both logits are 5, so that p is 1/2: |w * gradient| is [[1/2, 3], [3/2, 1]], as in the criteria's own test.
TAYLOR = [[False, True], [True, False]]


def summed(outputs: Any, batch: Any) -> Tensor:
    labels = batch["labels"] if isinstance(batch, dict) else batch[1]
    return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum")


@pytest.mark.parametrize("loss", [None, summed])
def test_taylor_takes_keyword_batches_and_a_loss_of_ones_own(loss: Any) -> None:
    assert ssa.prune(Named(), 0.5, "taylor", batches=[BATCH], loss=loss)["hidden.weight"].tolist() == TAYLOR


def test_taylor_takes_a_loss_for_outputs_that_are_no_tensor() -> None:
    pairs = [(BATCH["x"], BATCH["labels"])]
    with pytest.raises(ValueError, match=r"outputs \(dict\) have no loss: give loss="):
        ssa.prune(Named(), 0.5, "taylor", batches=pairs)
    assert ssa.prune(Named(), 0.5, "taylor", batches=pairs, loss=summed)["hidden.weight"].tolist() == TAYLOR


def test_synflow_takes_keywords_and_logits() -> None:
    # With |w| and ones, w * dR/dw is |w| itself, since the head passes each output on once.
    expected = [[False, True], [True, False]]
    for loss in (None, lambda outputs, _: outputs["logits"].sum()):
        mask = ssa.prune(Named(), 0.5, "synflow", example={"x": torch.zeros(1, 2)}, loss=loss)
        assert mask["hidden.weight"].tolist() == expected


@pytest.mark.parametrize("criterion", ["taylor", "synflow"])
def test_what_a_model_keeps_of_a_pass_stays_what_it_was(criterion: str) -> None:
    model = Named()
    model(BATCH["x"])  # a training pass, whose history PyTorch cannot copy
    before, history = model.last, list(model.all)
    ssa.prune(model, 0.5, criterion, example={"x": torch.zeros(1, 2)}, batches=[BATCH])
    assert model.last is before
    assert len(model.all) == len(history) == 1
    assert model.all[0] is history[0]
    model.last.sum().backward()  # and its graph is still there
    assert model.hidden.weight.grad is not None


def test_neurons_leave_kept_activations_alone_too() -> None:
    model = nn.Sequential(Kept(), nn.BatchNorm1d(2), nn.Linear(2, 2))
    mask = ssa.prune(model, 0.5, structure="neurons", example=torch.zeros(1, 2))
    assert mask.tied["1.weight"] == "0.weight"
    assert model[0].last is None


def test_a_layer_that_is_used_twice_is_scored_over_all_batches() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 2))
    batches = [(torch.rand(4, 3), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
    whole = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]
    in_parts, at_once = (ssa.prune(model, 0.5, "taylor", batches=given) for given in (batches, whole))
    assert list(in_parts) == ["0.weight"]
    assert torch.equal(in_parts["0.weight"], at_once["0.weight"])
    assert isinstance(model[0].weight, nn.Parameter)


class Kept(nn.Linear):
    """A layer that keeps its output."""

    last: Tensor | None = None

    def __init__(self) -> None:
        super().__init__(2, 2)

    def forward(self, input: Tensor) -> Tensor:
        self.last = super().forward(input)
        return self.last


SCORES = torch.tensor([[4, 1], [3, 2]])


@pytest.mark.parametrize(
    "criterion", [{"hidden.weight": SCORES}, lambda weights: {name: SCORES.float() for name in weights}]
)
def test_scores_of_ones_own(criterion: Any) -> None:
    assert ssa.prune(Named(), 0.5, criterion)["hidden.weight"].tolist() == [[True, False], [True, False]]
    rows = ssa.prune(Named(), 0.5, {"hidden.weight": torch.tensor([[1.0, 5.0], [2.0, 2.0]])}, "neurons")
    assert rows["hidden.weight"].tolist() == [[True], [False]]  # means 3 and 2


@pytest.mark.parametrize(
    ("criterion", "error", "message"),
    [
        ({}, ValueError, "'hidden.weight' is in only one of .*the scores have none"),
        ({"hidden.weight": SCORES, "x": SCORES}, ValueError, "'x' is in only one"),
        ({"hidden.weight": SCORES[0]}, ValueError, r"have shape \(2,\); expected \(2, 2\)"),
        ({"hidden.weight": None}, TypeError, "no tensor of real numbers"),
        (lambda weights: None, TypeError, "criterion gave None"),
        (lambda weights: {"hidden.weight": SCORES * float("nan")}, ValueError, "not finite"),
        (5, ValueError, "criterion is 5; allowed: random"),
    ],
)
def test_wrong_scores_are_named(criterion: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ssa.prune(Named(), 0.5, criterion)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "taylor", "batches": [BATCH["x"]]}, r"not a tensor of shape \(1, 2\)"),
        ({"criterion": "taylor", "batches": [BATCH], "loss": lambda *_: 3}, "loss= gave int"),
        (
            {"criterion": "synflow", "example": BATCH, "loss": lambda outputs, _: outputs["logits"]},
            "loss= gave a tensor",
        ),
    ],
)
def test_what_cannot_be_run_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ssa.prune(Named(), 0.5, **settings)
