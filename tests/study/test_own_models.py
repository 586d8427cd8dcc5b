"""A model of one's own in a study, by its import path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from studies import expand

from ssa.errors import UserError
from ssa.process.deadline import Deadline
from ssa.store.store import Store
from ssa.workflow import stages

SOURCE = """
import functools
from torch import nn

def tiny(channels, classes, size, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, width), nn.ReLU(), nn.Linear(width, classes))

number = 3
wide = functools.partial(tiny, width=9)
"""


@pytest.fixture
def own(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A study of one parent that is a model of one's own, in the folder where commands are run."""
    (tmp_path / "own_nets.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    tiny["parents"]["small"] |= {"model": "own_nets.tiny", "model_options": {"width": 6}, "seeds": [0]}
    tiny["blocks"][1] |= {"method": "temperature", "sparsity": 50}
    return tiny


def test_a_model_of_ones_own_is_trained_and_pruned(own: dict[str, Any], tmp_path: Path) -> None:
    plan, store = expand(own), Store(tmp_path / "results")
    assert stages.run(plan, store, None, Deadline()) == 0
    spec = plan.children[-1].spec
    assert store.read_child(spec)["result"]["realised_sparsity"] == 50  # of 6 x 64 weights, without the classifier
    assert spec.parent.words == "own_nets.tiny-digits-s0"
    assert [row["keep_pruned"] for row in store.read_child(spec)["history"]] == [0.5, 0.0, 0.0]


def test_its_source_is_part_of_its_id_and_of_no_other(own: dict[str, Any], tmp_path: Path) -> None:
    from ssa.study import law_source

    before = expand(own).children[-1].spec
    assert before.parent.content()["model_source"] == before.parent.model_source is not None
    (tmp_path / "own_nets.py").write_text(SOURCE + "# another\n", encoding="utf-8")
    law_source.digest.cache_clear()
    after = expand(own).children[-1].spec
    assert {before.id, before.parent.id}.isdisjoint({after.id, after.parent.id})
    own["parents"]["small"] |= {"model": "lenet-s", "model_options": {}}
    assert "model_source" not in expand(own).children[-1].spec.parent.content()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinny", r"'tinny' is not allowed; allowed: .*timm/<classifier> or the import path of a function$"),
        ("own_nets.number", r"parents\.small\.model: model 'own_nets\.number' is no function or class"),
        ("own_nets.wide", r"model 'own_nets\.wide' is no function or class"),
        ("own_netts.tiny", r"model 'own_netts\.tiny' cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(own: dict[str, Any], name: str, message: str) -> None:
    own["parents"]["small"]["model"] = name
    with pytest.raises(UserError, match=message):
        expand(own)
