"""A child asks all tensors at once for what it would ask of each by itself, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ssa.method import pruning
from ssa.method.laws import Iterative, Law, RandomAnnealing, TemperatureAnnealing
from ssa.method.subnetwork import Subnetwork


@dataclass(frozen=True)
class EachIterative(Iterative):
    """The same law, asked one tensor at a time, as a law of a user's own is."""

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[float | Tensor, float | Tensor]:
        return super().anneal(a, mask, state)


@dataclass(frozen=True)
class EachTemperature(TemperatureAnnealing):
    elementwise: ClassVar[bool] = False


@dataclass(frozen=True)
class EachRandom(RandomAnnealing):
    elementwise: ClassVar[bool] = False


@pytest.mark.parametrize("structure", ["connections", "neurons"])
@pytest.mark.parametrize(
    ("law", "each"),
    [
        (Iterative(epochs=4), EachIterative(epochs=4)),
        (Iterative(epochs=4, order="magnitude"), EachIterative(epochs=4, order="magnitude")),
        (TemperatureAnnealing(epochs=4, expected=True), EachTemperature(epochs=4, expected=True)),
        (RandomAnnealing(epochs=4, expected=True), EachRandom(epochs=4, expected=True)),
    ],
    ids=lambda law: f"{type(law).__name__}-{getattr(law, 'order', '')}",
)
def test_all_tensors_at_once_are_each_by_itself(law: Law, each: Law, structure: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3))
    mask = pruning.prune(model, 0.6, structure=structure)
    one, other = (Subnetwork(copy.deepcopy(model), mask, rule, epochs=5) for rule in (law, each))
    moved = set()
    for step in range(50):  # 4 epochs of 10 steps: a is in halves and quarters, where counts are rounded to even
        for child in (one, other):
            child.at(step / 10)
        assert torch.equal(one.multiplier, other.multiplier)
        moved.add(float(one.multiplier.sum(dtype=torch.float64)))
    assert len(moved) > 3
