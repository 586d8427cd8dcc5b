"""The README's snippet, run as it stands, on models that the library has never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import ROOT
from torch import nn

import ssa

SNIPPET = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
CREATED = 'timm.create_model("resnet18", num_classes=10)'

MODELS = {
    "resnet18": lambda: timm.create_model("resnet18", num_classes=10),
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10),
    "convnext": lambda: timm.create_model("convnext_atto", num_classes=10),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 64), nn.ReLU(), nn.Linear(64, 10)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_snippet_runs_as_it_stands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    loader = [(torch.randn(8, 3, 32, 32), torch.randint(0, 10, (8,))) for _ in range(2)]
    assert CREATED in SNIPPET
    names: dict[str, Any] = {"loader": loader, "make": MODELS[name]}
    exec(SNIPPET.replace(CREATED, "make()"), names)
    child, plain = names["child"], names["plain"]
    x = loader[0][0]
    assert torch.equal(child(x), plain.eval()(x))
    for weight, entry in ((plain.get_parameter(key), mask) for key, mask in names["mask"].items()):
        assert int((weight == 0).sum()) == int((~entry).sum()) == round(0.95 * entry.numel())
    loaded = ssa.load("child.safetensors", MODELS[name]())
    assert torch.equal(loaded.eval()(x), plain(x))
