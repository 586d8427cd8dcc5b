"""Scores against numbers worked out by hand and against torchmetrics."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from ssa.data import splits
from ssa.data.batches import Batches
from ssa.method import pruning
from ssa.method.laws import OneShot
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork
from ssa.specs.specs import DataSpec, Recipe
from ssa.training import scoring
from ssa.training.networks.batch_ensemble import BatchEnsemble
from ssa.training.networks.resnet_small import SmallResNet


def test_scores_by_hand() -> None:
    outputs = torch.log(torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [0.8, 0.2]]))
    scores = scoring.score(outputs, torch.tensor([0, 0, 0, 1]))
    assert scores.accuracy == 50.0
    assert scores.nll == pytest.approx(-(math.log(0.7) + math.log(0.4) + math.log(0.9) + math.log(0.2)) / 4)
    # each confidence has a bin of its own: |0.7 - 1|, |0.6 - 0|, |0.9 - 1|, |0.8 - 0|
    assert scores.ece == pytest.approx(100 * (0.3 + 0.6 + 0.1 + 0.8) / 4)


def test_scores_against_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = 3 * torch.randn(2000, 10, generator=generator)
    labels = torch.randint(0, 10, (2000,), generator=generator)
    scores = scoring.score(outputs, labels)
    probabilities = outputs.softmax(1)
    ece = multiclass_calibration_error(probabilities, labels, 10, n_bins=15)
    accuracy = multiclass_accuracy(probabilities, labels, 10, average="micro")
    assert scores.ece == pytest.approx(100 * float(ece), abs=1e-4)
    assert scores.accuracy == pytest.approx(100 * float(accuracy), abs=1e-4)


def test_a_network_that_is_not_finite_scores_as_a_guess() -> None:
    outputs = torch.zeros(4, 10)
    outputs[2, 3] = math.nan
    assert scoring.score(outputs, torch.zeros(4, dtype=torch.long)) == scoring.Scores(10.0, math.log(10), 0.0, False)


def test_reestimated_statistics_are_the_target_subnetworks_and_are_put_back() -> None:
    digits = splits.load(DataSpec("digits", 100, 50, "parent"), Path("unused"), 0)
    torch.manual_seed(0)
    model = SmallResNet(1, 10, 8, 2)
    child = Subnetwork(model, pruning.prune(model, 0.7), OneShot())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = Batches(digits.train, digits, Recipe(epochs=1, batch_size=100, augment="none"))
    with scoring.reestimated_batchnorm(child, batches, 100, 0):
        inside = model.stem[1].running_mean.clone()
        images, _ = next(batches.epoch(0, 0))
        expected = child.fold().stem[0](images).mean((0, 2, 3))
    assert torch.allclose(inside, expected, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_effective_sparsity_by_hand() -> None:
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), relu=nn.ReLU(), b=nn.Linear(3, 2), head=nn.Linear(2, 2)))
    mask = Mask(
        {
            "a.weight": torch.tensor([[True, False], [True, True], [False, False]]),
            "b.weight": torch.tensor([[True, False, True], [False, False, False]]),
        }
    )
    # alive: the path input 0 - hidden 0 - b 0. Hidden 1 leads nowhere, hidden 2 comes from nowhere.
    assert scoring.effective_sparsity(model, mask, torch.zeros(1, 2)) == pytest.approx(10 / 12)
    assert scoring.effective_sparsity(model, Mask({}), torch.zeros(1, 2)) == 0.0


def test_effective_sparsity_of_a_residual_network() -> None:
    torch.manual_seed(0)
    model = SmallResNet(1, 10, 8, 2)
    full = pruning.prune(model, 0.0)
    assert scoring.effective_sparsity(model, full, torch.zeros(1, 1, 8, 8)) == 0.0
    mask = pruning.prune(model, 0.9, "random")
    assert 0.9 < scoring.effective_sparsity(model, mask, torch.zeros(1, 1, 8, 8)) < 1.0


def test_effective_sparsity_is_blank_where_paths_cannot_be_traced() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gamma * x

    for between in (nn.LayerNorm(2), nn.GroupNorm(1, 2, affine=False), Scale()):
        model = nn.Sequential(nn.Linear(2, 2), between, nn.Linear(2, 2))
        assert math.isnan(scoring.effective_sparsity(model, pruning.prune(model, 0.5), torch.zeros(1, 2)))
    members = BatchEnsemble(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 2)
    assert math.isnan(scoring.effective_sparsity(members, pruning.prune(members, 0.5), torch.zeros(1, 2)))


class Gated(nn.Module):
    """A gate that is shut or open, where its slope is 0, from an input of 3 on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * nn.functional.hardsigmoid(100 * x)


def test_effective_sparsity_sees_through_gates_frozen_weights_and_pools_of_another_shape() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Gated(), nn.Linear(2, 2)).requires_grad_(False)
    assert scoring.effective_sparsity(model, pruning.prune(model, 0.0), torch.zeros(1, 2)) == 0.0
    pooled = nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(8, 2))
    assert scoring.effective_sparsity(pooled, pruning.prune(pooled, 0.0), torch.zeros(1, 1, 3, 3)) == 0.0


@pytest.mark.parametrize("head", [nn.LogSoftmax(dim=1), nn.Softmax(dim=1)])
def test_effective_sparsity_is_blank_after_a_softmax(head: nn.Module) -> None:
    """Its gradient is 0 but for rounding where all classes are alike."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 4), head)
    assert math.isnan(scoring.effective_sparsity(model, pruning.prune(model, 0.5), torch.zeros(1, 2)))


class Constant(nn.Module):
    """A channel that is 1.003 everywhere beside one that is the image, each with BatchNorm; bf16 rounds 1.003 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([1.003, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


def test_a_channel_without_variance_is_not_shifted_by_what_bf16_rounds_away() -> None:
    digits = splits.load(DataSpec("digits", 100, 50, "parent"), Path("unused"), 0)
    shifts = {}
    for precision in ("fp32", "bf16"):
        model = Constant()
        batches = Batches(digits.train, digits, Recipe(epochs=1, batch_size=50, augment="none", precision=precision))
        images, _ = next(batches.epoch(0, 0))
        with (
            scoring.reestimated_batchnorm(model, batches, 100, 0),
            torch.autocast("cpu", torch.bfloat16),
            torch.no_grad(),
        ):
            shifts[precision] = float(model.eval()(images)[:, 0].mean())
    assert shifts["bf16"] == pytest.approx(0, abs=1e-3)
    # statistics of fp32 in a network of bf16: (1 - 1.003) / sqrt(1e-5), the collapse that the first line is about
    assert shifts["fp32"] == pytest.approx(-0.003 / math.sqrt(1e-5), abs=0.02)


def test_a_healthy_networks_statistics_are_those_of_fp32_to_the_bit() -> None:
    digits = splits.load(DataSpec("digits", 100, 50, "parent"), Path("unused"), 0)
    found = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = SmallResNet(1, 10, 8, 2)
        batches = Batches(digits.train, digits, Recipe(epochs=1, batch_size=50, augment="none", precision=precision))
        with scoring.reestimated_batchnorm(model, batches, 100, 0):
            found.append([buffer.clone() for buffer in model.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
