"""Convolutions of small images by one product: the same numbers, and where they are used."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from ssa.training.models import build
from ssa.training.networks.patches import PatchConv2d


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_it_is_the_convolution_with_its_weight(side: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(side)
    weight = nn.Parameter(torch.randn(5, 4, 3, 3, generator=generator, dtype=torch.float64))
    x = torch.randn(6, 4, side, side, generator=generator, dtype=torch.float64, requires_grad=True)
    made, right = PatchConv2d(weight, stride)(x), functional.conv2d(x, weight, None, stride, 1)
    torch.testing.assert_close(made, right, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(right.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(*(torch.autograd.grad(y, (x, weight), upstream) for y in (made, right)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_oblong_images_are_convolved_as_ever() -> None:
    weight, x = nn.Parameter(torch.randn(5, 4, 3, 3)), torch.randn(2, 4, 2, 3)
    assert torch.equal(PatchConv2d(weight, 1)(x), functional.conv2d(x, weight, None, 1, 1))


def test_the_max_pool_resnet_multiplies_patches_in_its_last_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet18-maxpool", {}, 3, 10, 32, 0).eval()
    layers = [name for name, module in model.named_modules() if isinstance(module, PatchConv2d)]
    assert layers == [f"layer4.{block}.conv{number}" for block in (0, 1) for number in (1, 2)]
    x, plain, convolved = torch.randn(2, 3, 32, 32), nn.Conv2d.forward, []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: convolved.append(type(self)) or plain(self, x))
    with torch.no_grad():
        ours = model(x)
        assert len(convolved) == 20 - 4
        monkeypatch.setattr("ssa.training.networks.patches.SMALL", 0)
        torch.testing.assert_close(model(x), ours, rtol=1e-4, atol=1e-5)
    assert convolved.count(PatchConv2d) == 4
