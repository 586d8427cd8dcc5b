"""Masks depend on the weights and the seed alone, not on lost precision nor on PyTorch's defaults; and small things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

import ssa
from ssa.errors import whole
from ssa.method import masks
from ssa.method.laws import Iterative, RandomAnnealing


def double(*values: float) -> nn.Sequential:
    """One row of float64 weights, and a head."""
    model = nn.Sequential(nn.Linear(len(values), 1), nn.Linear(1, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([values], dtype=torch.float64))
    return model


@pytest.mark.parametrize("allocation", ["layerwise", "global", "lamp"])
def test_double_weights_are_ranked_in_double_precision(allocation: str) -> None:
    model = double(1.0 + 1e-12, 1.0, 1.0 + 2e-12, 1.0 - 1e-12)  # in float32 all the same
    assert ssa.prune(model, 0.5, allocation=allocation)["0.weight"].tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1.7e308, 5e-324])
@pytest.mark.parametrize("allocation", ["layerwise", "global", "lamp"])
def test_weights_of_any_size_are_ranked(scale: float, allocation: str) -> None:
    model = double(scale, 0.0, scale, 0.0)
    assert ssa.prune(model, 0.5, allocation=allocation)["0.weight"].tolist() == [[True, False, True, False]]


def test_weights_of_half_precision_are_averaged_in_single() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).half()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[60000.0, 60000.0, 60000.0], [60000.0, 60000.0, 60032.0]]))
    assert ssa.prune(model, 0.5, structure="neurons")["0.weight"].tolist() == [[False], [True]]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)).to("cpu", torch.float32)


@pytest.fixture(params=["float64", "bfloat16", "meta"])
def other_default(request: Any) -> Iterator[None]:
    """PyTorch's defaults are others within the test; the device meta stands for any that is not the CPU."""
    try:
        if request.param == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, request.param))
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def usual() -> tuple[nn.Module, list[Tensor]]:
    model = net()
    return model, drawn(model)


def drawn(model: nn.Module) -> list[Tensor]:
    """All that chance decides: random masks, their opposites, and what two laws keep for each weight."""
    found = [ssa.prune(model, 0.5, criterion, seed=3)["0.weight"] for criterion in ("random", "anti-random")]
    weight = model[0].weight.detach()  # type: ignore[index]
    for law in (RandomAnnealing(epochs=1), Iterative(epochs=1)):
        state = law.prepare(found[0], weight, torch.Generator("cpu").manual_seed(5))
        assert state is not None
        found.append(state)
    return found


def test_masks_and_draws_do_not_follow_pytorchs_defaults(usual: Any, other_default: None) -> None:
    model, before = usual
    assert all(torch.equal(a, b) for a, b in zip(before, drawn(model), strict=True))


# --- small things -------------------------------------------------------------------------------------------------


def test_seeds_may_be_numpys() -> None:
    model = net()
    one, other = (ssa.prune(model, 0.5, "random", seed=seed)["0.weight"] for seed in (3, np.int64(3)))
    assert torch.equal(one, other)
    with pytest.raises(TypeError, match=r"seed is 1\.5; it is a whole number"):
        ssa.prune(model, 0.5, "random", seed=1.5)  # type: ignore[arg-type]
    assert whole("seed", np.uint8(7)) == 7


def test_layers_without_entries_are_passed_over() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 0), nn.Linear(4, 2))
    assert list(ssa.prune(model, 0.5)) == ["0.weight"]
    assert [(row.name, row.total) for row in ssa.sparsity(model).rows] == [("0.weight", 16)]
    with pytest.raises(ValueError, match="leaves no layer to prune"):
        ssa.prune(model, 0.5, select="1")


def test_layers_that_are_not_built_yet_are_named() -> None:
    with pytest.raises(ValueError, match="a LazyLinear has no weights yet: call the model once"):
        ssa.prune(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)), 0.5)


def test_a_mask_entry_that_is_no_tensor_is_named() -> None:
    with pytest.raises(TypeError, match=r"mask of '0\.weight' is None; it is a bool tensor"):
        masks.check(net(), {"0.weight": None})  # type: ignore[dict-item]


def test_a_layer_that_computes_its_weight_stops_no_other() -> None:
    model = nn.Sequential(nn.Linear(4, 4), parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    assert list(ssa.prune(model, 0.5)) == ["0.weight"]
    with pytest.raises(ValueError, match="remove that first"):
        ssa.prune(model, 0.5, select=["0", "1"])


def test_the_report_counts_the_zeros_of_pytorchs_own_pruning() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    torch_prune.l1_unstructured(model[0], "weight", amount=15)
    assert [(row.name, row.total, row.zeros) for row in ssa.sparsity(model).rows] == [("0.weight", 20, 15)]


def test_a_module_asked_of_the_package_is_pointed_to() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'pruning': import ssa\.method\.pruning"):
        ssa.pruning  # noqa: B018
