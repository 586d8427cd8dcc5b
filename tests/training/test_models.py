"""Models by name: shapes, sizes, and what the published ones count."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssa.errors import UserError
from ssa.method import selection
from ssa.training import models
from ssa.training.networks import wide_resnet
from ssa.training.networks.resnet_small import BasicBlock

OWN = {"lenet-s": 253_290, "lenet-m": 1_007_306, "lenet-l": 4_017_546, "wrn-28-10": 36_489_290}
TIMM = {"resnet18": 11_173_962, "resnet18-maxpool": 11_173_962}


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "parameters"), (OWN | TIMM).items())
def test_parameters_are_as_published(name: str, parameters: int) -> None:
    model = models.build(name, {}, 3, 10, 32, 0)
    assert count(model) == parameters
    if name != "wrn-28-10":
        assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["resnet18", "resnet18-maxpool"])
def test_a_resnet18_is_the_authors(name: str) -> None:
    model = models.build(name, {}, 3, 100, 32, 0)
    assert count(model) == 11_220_132
    scales = [block.bn2.weight for stage in (1, 2, 3, 4) for block in getattr(model, f"layer{stage}")]
    assert len(scales) == 8
    assert all(bool((scale == 1).all()) for scale in scales)  # timm's own start at 0


def test_the_wide_resnet_costs_what_the_published_table_says() -> None:
    """Three passes over 50,000 images in each of 200 epochs: 3.6e17 in the table, 3.15e17 with the stride first."""
    model = models.build("wrn-28-10", {}, 3, 10, 32, 0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert 3 * 50_000 * 200 * counter.get_total_flops() == pytest.approx(3.57e17, rel=0.001)


def test_the_wide_resnet_is_the_authors() -> None:
    block, model = wide_resnet.WideBlock(2, 4, 2, 0.0).eval(), wide_resnet.WideResNet(3, 10, 10, 1)
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))
    assert all(m.bias is not None for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    assert model.norm.momentum == 0.9
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = -torch.ones(1, 2, 4, 4)  # nothing of it is left after the ReLU: the shortcut reads it before
    assert torch.equal(block(x), block.shortcut(x))


def test_the_vit_has_the_published_shape_and_separate_projections() -> None:
    model = models.build("vit", {}, 3, 100, 32, 0)
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    names = list(selection.prunable(model))
    # per block: q, k, v, out, two MLP layers; the patch embedding; the classifier is not prunable
    assert len(names) == 7 * 6 + 1
    assert not any("qkv" in name or "head" in name for name in names)
    # 384-wide blocks: 4 projections of 384^2, an MLP of 2 x 384 x 1536; the embedding reads 4 x 4 x 3
    sizes = sum(p.numel() for p in selection.prunable(model).values())
    assert sizes == 7 * (4 * 384**2 + 2 * 384 * 1536) + 48 * 384


@pytest.mark.parametrize("name", sorted(models.MEGA_MACS))
def test_the_costs_behind_estimates_are_measured_ones(name: str) -> None:
    model = models.build(name, {}, 3, 10, 32, 0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() / 2e6 == pytest.approx(models.MEGA_MACS[name], rel=0.05)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_narrow_network_trains_on_every_cpu(threads: int) -> None:
    """Where oneDNN's own stride overwrites memory, the process dies here or never comes back."""
    block = BasicBlock(4, 8, 2)
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
