"""What a GPU does for all tensors at once chooses the weights that a CPU chooses tensor by tensor. Needs no GPU."""

from __future__ import annotations

import math

import pytest
import torch

from ssa.method.child import ranking
from ssa.method.child.layout import Layout

CPU = torch.device("cpu")


def layout_of(*weights: torch.Tensor) -> Layout:
    return Layout({f"w{number}": weight for number, weight in enumerate(weights)})


def channels_last(*shape: int) -> torch.Tensor:
    return torch.zeros(shape).to(memory_format=torch.channels_last)


def test_by_hand() -> None:
    layout = layout_of(torch.zeros(2, 2), torch.zeros(3))
    score = torch.tensor([4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 0.0])
    kept = ranking.Selection(layout, CPU)(score, torch.tensor([[1, 0], [2, 1], [4, 3]]))
    assert kept.int().tolist() == [[1, 0, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0, 0]]


def test_of_a_child_that_diverged_as_many_weights_go_as_of_any() -> None:
    layout = layout_of(torch.zeros(5))
    ranked = ranking.Ranking(layout, {"w0": torch.zeros(5)}, CPU)
    score, alive = torch.tensor([math.nan, 1.0, math.nan, 2.0, math.nan]), torch.tensor([False, True, True, True, True])
    kept = ranked.cut(score, alive, [[2], [4]])
    assert kept[0].tolist() == [False, False, True, True, True]
    assert int((~kept[1]).sum()) == 4


def test_equals_go_in_the_order_of_entries_whatever_the_memory_is() -> None:
    layout = layout_of(channels_last(1, 2, 1, 2))  # memory holds entries 0, 2, 1, 3
    kept = ranking.Selection(layout, CPU)(torch.zeros(4), torch.tensor([[2]]))
    assert layout.view(kept[0], "w0").flatten().tolist() == [False, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tensors", [3, 300])
def test_it_is_the_choice_tensor_by_tensor(dtype: torch.dtype, tensors: int) -> None:
    """Of scores with many equals, both zeros and some that are gone."""
    generator = torch.Generator().manual_seed(0)
    weights = [channels_last(4, 3, 2, 1 + number % 3) for number in range(tensors)]
    layout = layout_of(*weights)
    score = torch.randint(-4, 5, (layout.count,), generator=generator).to(dtype) / 4
    score[torch.rand(layout.count, generator=generator) < 0.1] = -0.0
    score[torch.rand(layout.count, generator=generator) < 0.2] = -math.inf
    sizes = layout.sizes(CPU).tolist()
    counts = [[round(part * size) for size in sizes] for part in (0, 0.1, 0.37, 0.9, 1)]
    found = ranking.Selection(layout, CPU)(score, torch.tensor(counts))
    for own, count in zip(found, counts, strict=True):
        assert torch.equal(own, ranking.cut(layout, score, count))


def test_all_tensors_are_merged_as_each_would_be() -> None:
    weights = {"w0": torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last), "w1": torch.randn(4, 3)}
    layout = Layout(weights)
    held = {name: torch.full_like(weight, math.nan) for name, weight in weights.items()}
    first = torch.rand(layout.count) < 0.5
    backwards = dict(reversed(weights.items()))
    for name, merged in zip(backwards, layout.merge(first, backwards, held), strict=True):
        own = torch.where(layout.view(first, name), weights[name], held[name])
        assert torch.equal(merged.nan_to_num(7), own.nan_to_num(7))
        assert merged.stride() == weights[name].stride()
    assert layout.fits(backwards)
    assert not layout.fits({"w0": weights["w0"]})
    assert not layout.fits({**weights, "w1": torch.zeros(4, 1)})


def test_neurons_are_summed_whatever_the_memory_is() -> None:
    values = [torch.arange(24.0).view(2, 3, 2, 2), torch.arange(6.0).view(2, 3), torch.arange(6.0).view(3, 2).t()]
    for weights in (values, [values[0].to(memory_format=torch.channels_last), *values[1:]]):
        layout = layout_of(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1), torch.zeros(2, 1))
        ends = ranking.unit_ends(layout, {"w0": 12, "w1": 3, "w2": 3}, CPU)
        assert ends.tolist() == [0, 12, 24, 27, 30, 33, 36]
        assert ranking.reduce_units(weights, ends, "sum").tolist() == [66.0, 210.0, 3.0, 12.0, 6.0, 9.0]
        assert ranking.reduce_units(weights, ends, "mean").tolist() == [5.5, 17.5, 1.0, 4.0, 2.0, 3.0]
