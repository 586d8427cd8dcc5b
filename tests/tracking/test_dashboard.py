"""The dashboard: its specification without a network, its saving against the server of ``wandb_server``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, TINY
from tracked import ssa
from wandb_server import ENTITY, Fault, ServedRun, Server

from ssa.report.registry import FIGURES
from ssa.study import study
from ssa.study.wandb import TrackingSettings
from ssa.tracking import dashboard

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb_workspaces' own
HERE = TrackingSettings("offline", "ssa-demo", None)


def panels(spec: Any) -> list[dict[str, Any]]:
    """Every panel in a specification, however deep."""
    if isinstance(spec, list):
        return [panel for item in spec for panel in panels(item)]
    if not isinstance(spec, dict):
        return []
    own = [spec] if "viewType" in spec and "config" in spec else []
    return own + [panel for value in spec.values() for panel in panels(value)]


def test_the_workspace_has_every_section_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    made = dashboard.workspace(study.load(ROOT / "config" / "demo.yaml"), HERE, "me")
    spec = json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    sections = spec["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == list(dashboard.SECTIONS.values())
    assert all(section["panels"] for section in sections)
    configs = [panel["config"] for panel in panels(sections)]
    assert {"chartTitle", "xAxis", "yAxis"} <= set(configs[0])
    assert (configs[0]["xAxis"], configs[0]["yAxis"]) == ("config:sparsity.value", "summary:accuracy")
    curves = [config for config in configs if config.get("metrics") == ["test_accuracy"]]
    assert [curve["xAxis"] for curve in curves] == ["epoch"]


def test_the_panels_ask_for_what_is_logged() -> None:
    found = dashboard.panels()
    figures = {key for section in found.values() for panel in section for key in getattr(panel, "media_keys", [])}
    assert figures <= {f"figures/{name}" for name in FIGURES}
    assert len(figures) == 4


def test_a_study_without_ensembles_has_no_section_for_them() -> None:
    whole = study.load(ROOT / "config" / "demo.yaml")
    assert list(dashboard.sections_of(whole)) == list(dashboard.SECTIONS)
    assert "ensembles" not in dashboard.sections_of(dataclasses.replace(whole, ensembles=()))


@pytest.mark.slow
def test_saving_creates_and_then_updates(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(
        yaml.safe_dump({**TINY, "title": "Tiny", "question": "Is it so?"}), encoding="utf-8"
    )
    with Server() as server:
        server.runs["one"] = ServedRun(ENTITY, "ssa-tiny", "one")  # the project is there
        first = ssa(tmp_path, "dashboard", "tiny.yaml", **server.environment())
        assert first.returncode == 0, first.stderr
        assert server.unknown == []
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "title": "Tiny, again"}), encoding="utf-8")
        again = ssa(tmp_path, "dashboard", "tiny.yaml", **server.environment())
        assert again.stdout.split("workspace")[1] == first.stdout.split("workspace")[1]
        views = list(server.views.values())
        assert [view["type"] for view in views] == ["runs", "project-view"]
        assert {view["displayName"] for view in views} == {"Tiny, again"}
        assert len(panels(json.loads(views[0]["spec"]))) == len(panels(json.loads(views[1]["spec"]))) == 11
        server.runs["two"] = ServedRun(ENTITY, "other", "two")
        moved = {**TINY, "title": "Tiny, again", "wandb": {"project": "other"}}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(moved), encoding="utf-8")
        elsewhere = ssa(tmp_path, "dashboard", "tiny.yaml", **server.environment())
        assert elsewhere.returncode == 0, elsewhere.stderr
        assert elsewhere.stdout.count("/other") == 2
        assert len(server.views) == 4  # those of the first project stay
        server.faults = [Fault("/graphql", 1000, 400)]
        failed = ssa(tmp_path, "dashboard", "tiny.yaml", **server.environment())
        assert failed.returncode == 2
        assert "did not take the dashboard" in failed.stderr.splitlines()[-1]
