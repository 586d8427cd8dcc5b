"""Criteria: scores that can be worked out by hand, and models left as they were."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssa.method import allocations, criteria, pruning, selection
from ssa.training.networks.resnet_small import SmallResNet

BOTH = (nn.Linear, nn.Conv2d)  # prune the head too


def chain(hidden: list[list[float]], head: list[list[float]]) -> nn.Sequential:
    """Two linear layers with the given weights, and biases that are far from 0."""
    model = nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(len(hidden[0]), len(hidden)), relu=nn.ReLU(), head=nn.Linear(len(head[0]), len(head))
        )
    )
    with torch.no_grad():
        model.hidden.weight.copy_(torch.tensor(hidden))
        model.head.weight.copy_(torch.tensor(head))
        for layer in (model.hidden, model.head):
            layer.bias.fill_(5.0)
    return model


def units(model: nn.Module, structure: str = "connections") -> tuple[dict[str, Tensor], dict[str, torch.Size]]:
    weights = selection.prunable(model, BOTH)
    rows = {name: torch.Size((len(w), *[1] * (w.dim() - 1))) for name, w in weights.items()}
    return weights, rows if structure == "neurons" else {name: w.shape for name, w in weights.items()}


def trained_resnet() -> SmallResNet:
    """BatchNorm scales, shifts and statistics far from those of an untrained network; one layer in another mode."""
    torch.manual_seed(0)
    model = SmallResNet(1, 10, 8, 2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1)
            nn.init.normal_(module.bias)
            module.running_mean.normal_(std=3)
            module.running_var.uniform_(0.5, 2)
    model.stem[1].eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.stem[0].weight.requires_grad_(False)
    return model


def test_neurons_have_the_mean_of_their_row() -> None:
    weight = torch.tensor([[1.0, -3.0], [0.5, 0.5]])
    assert criteria.magnitude(weight, torch.Size((2, 1))).tolist() == [[2.0], [0.5]]


def test_opposite_ranks_turn_equals_around_too() -> None:
    scores = {"a": torch.tensor([0.3, 0.1]), "b": torch.tensor([[0.3], [0.2]])}
    turned = criteria.opposite(scores)
    assert turned["a"].tolist() == [-2, 0]
    assert turned["b"].tolist() == [[-3], [-1]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_the_lowest_and_the_lowest_of_the_opposite_are_a_partition(values: list[int], data: st.DataObject) -> None:
    score = torch.tensor(values, dtype=torch.float32)
    count = data.draw(st.integers(0, len(values)))
    low = criteria.lowest(score, count)
    high = criteria.lowest(criteria.opposite({"": score})[""], len(values) - count)
    assert torch.equal(low, ~high)


def test_taylor_is_the_weight_times_the_summed_gradient() -> None:
    # Both logits of x = (1, 2) are 5, so p = 1/2 each, and for label 0 the gradient is (-1/2, 1/2) outer x.
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-1.0, 3.0], [3.0, 1.0]]))
    x, label = torch.tensor([[1.0, 2.0]]), torch.tensor([0])
    weights, shapes = units(model)
    scores = criteria.taylor(model, weights, shapes, [(x, label)])
    assert scores["0.weight"].tolist() == [[0.5, 3.0], [1.5, 1.0]]
    twice = criteria.taylor(model, weights, shapes, iter([(x, label), (x, label)]))
    assert twice["0.weight"].tolist() == [[1.0, 6.0], [3.0, 2.0]]
    cancelled = criteria.taylor(model, weights, shapes, [(torch.cat([x, x]), torch.tensor([0, 1]))])
    assert cancelled["0.weight"].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    rows = criteria.taylor(model, weights, units(model, "neurons")[1], [(x, label)])
    assert rows["0.weight"].tolist() == [[1.75], [1.25]]


def test_taylor_does_not_depend_on_how_images_are_batched() -> None:
    model = trained_resnet()
    weights, shapes = units(model)
    images, labels = torch.rand(12, 1, 8, 8), torch.arange(12) % 10
    whole = criteria.taylor(model, weights, shapes, [(images, labels)])
    parts = criteria.taylor(model, weights, shapes, zip(images.split(5), labels.split(5), strict=True))
    for name in weights:  # would not hold if BatchNorm used the batch
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("criterion", ["taylor", "synflow"])
def test_the_model_stays_as_it_was(criterion: str) -> None:
    model = trained_resnet()
    before = copy.deepcopy(model)
    batches = [(torch.rand(4, 1, 8, 8), torch.arange(4))]
    pruning.prune(model, 0.5, criterion, example=torch.zeros(1, 1, 8, 8), batches=batches)
    for (name, value), old in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(value, old), name
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())


def test_taylor_and_synflow_say_what_they_need() -> None:
    model = chain([[1.0, 2.0]], [[1.0]])
    with pytest.raises(ValueError, match="'taylor' needs batches="):
        pruning.prune(model, 0.5, "taylor")
    with pytest.raises(ValueError, match="batches is empty"):
        pruning.prune(model, 0.5, "taylor", batches=[])
    with pytest.raises(ValueError, match="'synflow' needs example="):
        pruning.prune(model, 0.5, "synflow")


def test_scores_that_are_not_finite_are_refused() -> None:
    model = chain([[1.0, float("nan")]], [[1.0]])
    with pytest.raises(ValueError, match=r"scores of 'hidden.weight' are not finite"):
        pruning.prune(model, 0.5, "magnitude")


def test_synaptic_flow_of_a_chain_by_hand() -> None:
    model = chain([[1.0, -2.0], [3.0, 4.0]], [[2.0, -1.0]])
    weights, shapes = units(model)
    scores = criteria.synflow(
        model, weights, shapes, torch.zeros(3, 2), 0.0, lambda scores, _: dict.fromkeys(scores, 0)
    )
    assert scores["hidden.weight"].tolist() == [[2.0, 4.0], [3.0, 4.0]]
    assert scores["head.weight"].tolist() == [[6.0, 7.0]]
    rows = units(model, "neurons")[1]
    means = criteria.synflow(model, weights, rows, torch.zeros(3, 2), 0.0, lambda scores, _: dict.fromkeys(scores, 0))
    assert means["hidden.weight"].tolist() == [[3.0], [3.5]]


def test_synflow_goes_round_by_round() -> None:
    # Scores are [[2, 4], [3, 5]] and [6, 8]: the four lowest at once would be the whole first layer. Round by round
    # 2, 3 and 4 go; the head's first weight is then on no path, and goes before the path that is left.
    model = chain([[1.0, -2.0], [3.0, 5.0]], [[2.0, -1.0]])
    mask = pruning.prune(model, 4 / 6, "synflow", allocation="global", select=BOTH, example=torch.zeros(1, 2))
    assert mask["hidden.weight"].tolist() == [[False, False], [False, True]]
    assert mask["head.weight"].tolist() == [[False, True]]


def test_synaptic_flow_is_conserved_from_layer_to_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(5 * 4, 7), nn.ReLU(), nn.Linear(7, 3)),
    )
    for norm in (model[1], model[4]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_(std=3)
    weights, shapes = units(model)
    example = torch.zeros(1, 2, 4, 4)
    count = allocations.by_score
    scores = criteria.synflow(model, weights, shapes, example, 0.5, lambda s, sparsity: count(weights, s, sparsity))
    sums = torch.stack([score.clamp(min=0).sum() for score in scores.values()])  # -1 is what has gone
    assert all((score == -1).any() for score in scores.values())
    torch.testing.assert_close(sums, sums[:1].expand(4), rtol=1e-12, atol=0)


def test_synflow_collapses_no_layer_of_a_trained_network() -> None:
    model = trained_resnet()
    mask = pruning.prune(model, 0.98, "synflow", allocation="global", example=torch.zeros(1, 1, 8, 8))
    total = sum(entry.numel() for entry in mask.values())
    assert sum(int((~entry).sum()) for entry in mask.values()) == round(0.98 * total)
    assert all(entry.any() for entry in mask.values())
