"""The noise of gradients: against what tensors say directly, and against what theory expects of masks."""

from __future__ import annotations

import copy
import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import expand
from torch import Tensor, nn
from torch.nn import functional

import ssa
from ssa.data import splits
from ssa.data.batches import Batches
from ssa.data.splits import Data
from ssa.method.laws import Iterative, Law, OneShot, RandomAnnealing, TemperatureAnnealing
from ssa.method.subnetwork import Subnetwork
from ssa.process.deadline import Deadline
from ssa.specs.specs import DataSpec, Recipe
from ssa.store.store import Store
from ssa.training import gradients
from ssa.workflow import stages

RECIPE = Recipe(epochs=10, batch_size=20, augment="none")


@pytest.fixture(scope="module")
def batches() -> Batches:
    digits: Data = splits.load(DataSpec("digits", 110, 50, "parent"), Path("unused"), 0)
    return Batches(digits.train, digits, RECIPE)  # five whole batches and half a one


def network(law: Law, bias: bool = False) -> Subnetwork:
    """One linear layer of zeros, half of whose weights are pruned: its loss has the same gradient under every mask."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=bias))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    target = torch.arange(640).view(10, 64) % 2 == 0
    return Subnetwork(model, {"1.weight": target}, law, seed=3)


def dense_gradients(batches: Batches, seed: int) -> Tensor:
    """(batches, 10, 64): the gradient of cross-entropy at weights of 0, (p - y) x, of each whole batch."""
    found = []
    for images, labels in islice(batches.epoch(seed, 0), 5):
        error = 0.1 - functional.one_hot(labels, 10).double()
        found.append(error.T @ images.flatten(1).double() / len(labels))
    return torch.stack(found)


def test_a_sum_knows_the_trace_of_the_covariance() -> None:
    added = gradients._Sum()
    for vector in ([1.0, 0.0], [3.0, 0.0], [2.0, 3.0]):
        added.add(torch.tensor(vector))
    # Variances 1 and 3: (1 + 0 + 1) / 2 about 2, and (1 + 1 + 4) / 2 about 1.
    assert added.variance() == pytest.approx(4.0)
    assert math.isnan(gradients._Sum().variance())


def test_one_shot_varies_by_its_batches_alone_as_the_tensors_say(batches: Batches) -> None:
    child = network(OneShot())
    noise = gradients.measure_noise(child, batches, 0.0, 99, seed=5)  # five whole batches are there
    each = dense_gradients(batches, 5) * child.mask["1.weight"]
    assert noise.mask_variance == 0
    assert noise.variance == pytest.approx(float(each.var(0).sum()), rel=1e-5)
    assert noise.square == pytest.approx(float(each.square().sum((1, 2)).mean()), rel=1e-5)


def test_masks_make_the_variance_that_theory_expects(batches: Batches) -> None:
    """A pruned weight is there with probability 1/2, so that its gradient g has variance g^2 / 4.

    The estimate of one weight is g^2 / 2 with probability 1/2, else 0: its sd is g^2 / 4. Five of the sum's standard
    deviations are exceeded with probability 6e-7, over seeds.
    """
    child = network(TemperatureAnnealing(epochs=5, tau=0.5))
    noise = gradients.measure_noise(child, batches, 0.0, 5, seed=5)
    squares = (dense_gradients(batches, 5) * ~child.mask["1.weight"]).square()
    sd = float(squares.square().sum().sqrt()) / 4 / 5
    assert noise.mask_variance == pytest.approx(float(squares.sum()) / 4 / 5, abs=5 * sd)
    assert noise.mask_variance < noise.variance < noise.square
    assert gradients.measure_noise(child, batches, 5.0, 5, seed=5).mask_variance == 0  # the mask is exact from e on


def test_random_annealing_keeps_its_own_draw_and_only_samples_anew(batches: Batches) -> None:
    child = network(RandomAnnealing(epochs=5))
    drawn = child.drawn
    assert drawn is not None
    before = drawn.clone()
    assert gradients.measure_noise(child, batches, 0.0, 5, seed=5).mask_variance > 0
    assert torch.equal(drawn, before)


def test_what_dropout_and_regenerated_orders_draw_is_no_variance_of_masks(batches: Batches) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model[2].weight.requires_grad_(False)
    mask = ssa.prune(model, 0.5)
    noise = gradients.measure_noise(Subnetwork(copy.deepcopy(model), mask, OneShot()), batches, 0.0, 3, seed=5)
    assert noise.mask_variance == 0 < noise.variance
    ordered = Subnetwork(model, mask, Iterative(epochs=4, order="random"), regenerate=True)
    assert gradients.measure_noise(ordered, batches, 2.0, 3, seed=5).mask_variance == 0  # one order, whatever is drawn


def test_measuring_changes_nothing_of_the_child(batches: Batches) -> None:
    child = network(TemperatureAnnealing(epochs=5), bias=True)
    child.at(1.0)
    before = copy.deepcopy(child.state_dict()), child.time, child.seed, child.multiplier.clone(), torch.get_rng_state()
    gradients.measure_noise(child, batches, 2.0, 2, seed=5)
    after = child.state_dict(), child.time, child.seed, child.multiplier, torch.get_rng_state()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:3] == after[1:3]
    assert torch.equal(before[3], after[3])
    assert torch.equal(before[4], after[4])
    assert all(parameter.grad is None for parameter in child.parameters())


def test_nothing_is_known_of_too_few_batches(batches: Batches) -> None:
    one = gradients.measure_noise(network(TemperatureAnnealing(epochs=5)), batches, 0.0, 1, seed=5)
    assert math.isnan(one.variance)
    assert one.mask_variance > 0
    short = Batches.__new__(Batches)
    short.__dict__.update({**batches.__dict__, "recipe": Recipe(epochs=1, batch_size=200, augment="none")})
    assert math.isnan(gradients.measure_noise(network(OneShot()), short, 0.0, 4, seed=5).square)


def test_a_study_may_ask_for_it_and_its_children_train_as_without_it(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["parents"]["small"]["seeds"] = [0]
    tiny["blocks"] = [{"name": "main", "parents": "small", "method": "temperature", "sparsity": 80}]
    found = []
    for count in (0, 2):
        study = expand({**tiny, "children": {**tiny["children"], "gradient_batches": count}})
        store = Store(tmp_path / str(count))
        assert stages.run(study, store, None, Deadline()) == 0
        found.append(store.read_child(study.children[0].spec))
    plain, measured = (record["result"] for record in found)
    assert {**plain, "train_seconds": 0} == {**measured, "train_seconds": 0}
    assert "gradient_variance" not in found[0]["history"][0]
    assert [row["gradient_mask_variance"] > 0 for row in found[1]["history"]] == [True, False, False]  # e = 1
    assert all(row["gradient_variance"] > 0 for row in found[1]["history"])
