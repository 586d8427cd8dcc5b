"""What people have: small networks of many families wrap, train, fold, save and load, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import (
    TIMM,
    TORCHVISION,
    TRANSFORMERS,
    Inputs,
    noise,
    of_timm,
    of_torchvision,
    of_transformers,
    video_resnet,
)
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import ssa

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """All that ``model`` computes, its dropout as in every other call."""
    torch.manual_seed(7)
    found: Any = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    found = list(found.values()) if isinstance(found, dict) else found  # transformers' are dicts too
    return [one for one in tree_leaves(found) if isinstance(one, Tensor) and one.is_floating_point()]


def go_back(model: nn.Module, inputs: Inputs) -> None:
    model.zero_grad()
    losses = [(one.float() - 1).square().mean() for one in outputs(model, inputs) if one.requires_grad]
    torch.stack(losses).sum().backward()


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def check(model: nn.Module, inputs: Inputs, path: Path) -> None:
    names, kinds = [name for name, _ in model.named_parameters()], [type(module) for module in model.modules()]
    fresh = copy.deepcopy(model)
    for parameter in fresh.parameters():
        parameter.data += 1
    mask = ssa.prune(model, 0.9)
    child = ssa.Subnetwork(model, mask, ssa.TemperatureAnnealing(epochs=2))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    before = {name: weight.detach().clone() for name, weight in child.weights.items()}
    for t in (0.0, 1.0):
        child.at(t)
        go_back(model, inputs)
        check_gradients(child, t, inputs)
        optimizer.step()
    assert any(not torch.equal(weight, before[name]) for name, weight in child.weights.items())
    plain = child.fold().eval()
    assert all(torch.equal(plain.get_parameter(n) == 0, ~entry) for n, entry in mask.items())
    ssa.save(child, path)
    loaded = ssa.load(path, fresh).eval()
    with torch.no_grad():
        found = outputs(model.eval(), inputs)
        assert found
        assert all(bool(one.isfinite().all()) for one in found)
        assert equal(found, outputs(plain, inputs))
        assert equal(found, outputs(loaded, inputs))
    ended = child.remove()
    assert ended is model
    assert [name for name, _ in ended.named_parameters()] == names
    assert [type(module) for module in ended.modules()] == kinds


def check_gradients(child: ssa.Subnetwork, t: float, inputs: Inputs) -> None:
    """They are those of a plain model that has the weights of this step, and none where its mask hides a weight."""
    used = child.as_used(t, child.seed).train()
    go_back(used, inputs)
    plain, shown = dict(used.named_parameters()), child._expand(child.multiplier.bool())
    for name, weight in child.weights.items():
        expected = plain[name].grad
        assert (expected is None) == (weight.grad is None)
        if expected is not None and weight.grad is not None:
            if name in shown:
                expected = torch.where(shown[name], expected, 0)
            assert torch.equal(weight.grad, expected), name


@pytest.mark.parametrize("name", TIMM)
def test_timms_networks(name: str, tmp_path: Path) -> None:
    build, inputs = of_timm(name)
    torch.manual_seed(0)
    check(build(), inputs, tmp_path / "child.safetensors")


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks(name: str, tmp_path: Path) -> None:
    build, inputs = of_torchvision(name)
    torch.manual_seed(0)
    check(build(), inputs, tmp_path / "child.safetensors")


def test_a_network_of_films(tmp_path: Path) -> None:
    torch.manual_seed(0)
    check(video_resnet(), (noise(2, 3, 2, 16, 16),), tmp_path / "child.safetensors")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_networks_of_transformers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers: pip install '.[hf]'")
    build, inputs = of_transformers(name)
    torch.manual_seed(0)
    check(build(), inputs, tmp_path / "child.safetensors")
