"""Which weights are pruned by default, what is spared and why, and what a selection leaves."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import ssa
from ssa.method.selection import prunable, spared


class Experts(nn.Module):
    """Three experts whose weights are raw parameters, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.experts = nn.Module()
        self.experts.up = nn.Parameter(torch.randn(3, 4, 10))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.inner(x) @ self.experts.up.sum(0))[:, :4])


def test_experts_are_selected_by_name() -> None:
    mask = ssa.prune(Experts(), 0.9, select=["inner", "experts.*"])
    assert {name: int((~entry).sum()) for name, entry in mask.items()} == {"inner.weight": 14, "experts.up": 108}
    child = ssa.Subnetwork(Experts(), mask, ssa.OneShot())
    assert child(torch.ones(1, 4)).shape == (1, 2)
    with pytest.raises(ValueError, match=r"cannot prune 'experts\.up', whose rows are no outputs"):
        ssa.prune(Experts(), 0.5, structure="neurons", select="experts.*")


def test_what_a_selection_leaves_is_said() -> None:
    with pytest.warns(UserWarning, match=r"83\.3% of all matrix weights .*: experts\.up \(not selected\)"):
        ssa.prune(Experts(), 0.9)  # 120 of 144
    report = ssa.sparsity(Experts())
    assert report.covered == 16 / 144
    assert {name: (one.total, one.why) for name, one in report.left.items()} == {
        "experts.up": (120, "not selected"),
        "head.weight": (8, "classifier"),
    }
    assert "88.89% of all matrix weights are not selected: experts.up (not selected), head.weight (classifier)" in str(
        report
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ssa.prune(Experts(), 0.9, select=["inner", "experts.*"])


class Placed(nn.Module):
    """A layer beside what models hold to be added or looked up, and two weights that a user may take for pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.pos_embed = nn.Parameter(torch.randn(1, 9, 4))
        self.mask_token = nn.Parameter(torch.randn(2, 4))
        self.relative_position_bias_table = nn.Parameter(torch.randn(9, 2))
        self.rel_pos_h = nn.Parameter(torch.randn(9, 4))
        self.queries = nn.Parameter(torch.randn(1, 5, 4))
        self.words = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 2)


def test_what_is_added_or_looked_up_is_reported_without_a_warning() -> None:
    model = Placed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ssa.prune(model, 0.5)
    left = ssa.sparsity(model).left
    assert {name: one.why for name, one in left.items()} == {
        "pos_embed": "embedding",
        "mask_token": "embedding",
        "relative_position_bias_table": "bias",
        "rel_pos_h": "embedding",
        "queries": "embedding",
        "words.weight": "embedding",
        "head.weight": "classifier",
    }
    model.router = nn.Parameter(torch.randn(4, 3))
    model.memory = nn.LSTM(4, 1)
    with pytest.warns(UserWarning, match=r": router \(not selected\), memory\.weight_ih_l0 \(not selected\); select="):
        ssa.prune(model, 0.5)


def classifiers(model: nn.Module) -> list[str]:
    return [name for name, why in spared(model).items() if why == "classifier"]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: timm.create_model("test_resnet", num_classes=0), []),
        (lambda: timm.create_model("test_resnet", features_only=True), []),
        (lambda: timm.create_model("test_resnet"), ["fc"]),
        (lambda: nn.DataParallel(timm.create_model("test_resnet")), ["module.fc"]),
        (torchvision.models.resnet18, ["fc"]),
        (lambda: headless(torchvision.models.resnet18()), []),
        (torchvision.models.vgg11, ["classifier.6"]),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["1"]),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.LayerNorm(2)), []),
    ],
)
def test_only_what_is_a_classifier_is_spared(build: Any, expected: list[str]) -> None:
    assert classifiers(build()) == expected


def headless(model: Any) -> nn.Module:
    model.fc = nn.Identity()
    return model


def test_a_detectors_classifiers_are_spared_and_its_boxes_are_not() -> None:
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    model = build(weights=None, weights_backbone=None)
    assert classifiers(model) == ["rpn.head.cls_logits", "roi_heads.box_predictor.cls_score"]
    assert "roi_heads.box_predictor.bbox_pred.weight" in prunable(model)


class Conv1D(nn.Module):
    """As in transformers: linear, with its weight the other way round."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))


def test_conv1d_of_transformers_is_pruned_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.pytorch_utils", SimpleNamespace(Conv1D=Conv1D))
    model = nn.Sequential(Conv1D(4, 6), Conv1D(6, 4), nn.Linear(4, 2))
    mask = ssa.prune(model, 0.75)
    assert {name: int((~entry).sum()) for name, entry in mask.items()} == {"0.weight": 18, "1.weight": 18}
    with pytest.raises(ValueError, match=r"'neurons' cannot prune '0\.weight', whose rows are no outputs"):
        ssa.prune(model, 0.5, structure="neurons")


class Adapted(nn.Module):
    """A layer with a low-rank adapter, as peft makes them."""

    adapter_layer_names = ("down", "up")

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(4, 4)
        self.down = nn.ModuleDict({"default": nn.Linear(4, 2)})
        self.up = nn.ModuleDict({"default": nn.Linear(2, 4)})


def test_adapters_are_left_alone_unless_selected() -> None:
    model = nn.Sequential(
        Adapted(), nn.ModuleDict({"lora_A": nn.Linear(4, 2), "base": nn.Linear(4, 4)}), nn.Linear(4, 2)
    )
    assert list(prunable(model)) == ["0.base_layer.weight", "1.base.weight"]
    assert spared(model) == {
        "0.down.default": "adapter",
        "0.up.default": "adapter",
        "1.lora_A": "adapter",
        "2": "classifier",
    }
    assert list(prunable(model, "*lora_A")) == ["1.lora_A.weight"]
