"""Models by name: shapes, sizes, and what the published ones count."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssa import models, pruning
from ssa.errors import UserError
from ssa.networks.resnet_small import Block

OWN = {"lenet-s": 253_290, "lenet-m": 1_007_306, "lenet-l": 4_017_546, "wrn-28-10": 36_479_194}
TIMM = {"resnet18": 11_173_962, "resnet18-maxpool": 11_173_962}


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "parameters"), (OWN | TIMM).items())
def test_parameters_are_as_published(name: str, parameters: int) -> None:
    model = models.build(name, {}, 3, 10, 32, 0)
    assert count(model) == parameters
    if name != "wrn-28-10":
        assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_vit_has_the_published_shape_and_separate_projections() -> None:
    model = models.build("vit", {}, 3, 100, 32, 0)
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    names = list(pruning.prunable(model))
    # per block: q, k, v, out, two MLP layers; the patch embedding; the classifier is not prunable
    assert len(names) == 7 * 6 + 1
    assert not any("qkv" in name or "head" in name for name in names)
    # 384-wide blocks: 4 projections of 384^2, an MLP of 2 x 384 x 1536; the embedding reads 4 x 4 x 3
    sizes = sum(p.numel() for p in pruning.prunable(model).values())
    assert sizes == 7 * (4 * 384**2 + 2 * 384 * 1536) + 48 * 384


@pytest.mark.parametrize("name", ["resnet18", "resnet18-maxpool", "vit", "lenet-l"])
def test_the_costs_behind_estimates_are_measured_ones(name: str) -> None:
    model = models.build(name, {}, 3, 10, 32, 0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() / 2e6 == pytest.approx(models.MEGA_MACS[name], rel=0.05)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_narrow_network_trains_on_every_cpu(threads: int) -> None:
    """Where oneDNN's own stride overwrites memory, the process dies here or never comes back."""
    block = Block(4, 8, 2)
    layer, plain = block.shortcut[0], torch.nn.Conv2d(4, 8, 1, 2, bias=False).double()
    plain.weight.data.copy_(layer.weight.data)
    images = torch.randn(30, 4, 9, 8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(20):
            block(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
        layer.zero_grad()
        outputs = layer(images.contiguous(memory_format=torch.channels_last))
        outputs.square().sum().backward()
    finally:
        torch.set_num_threads(before)
    wanted = plain(images.double())
    wanted.square().sum().backward()
    assert outputs.shape == (30, 8, 5, 4)
    torch.testing.assert_close(outputs.double(), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad.double(), plain.weight.grad, rtol=1e-4, atol=1e-3)


def test_any_timm_classifier_by_name() -> None:
    model = models.build("timm/resnet10t", {}, 1, 7, 32, 0)
    assert model.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 7)


def test_the_seed_decides_the_weights_and_the_global_stream_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (models.build("resnet-small", {}, 1, 10, 8, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet-small", {"wdith": 4}, "model resnet-small with options"),
        ("timm/no-such-model", {}, "model timm/no-such-model"),
        ("resnet-small", {"stages": 0}, "model resnet-small with options .*: IndexError: "),
    ],
)
def test_wrong_models_are_one_line(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, options, 3, 10, 32, 0)
