"""The study's dashboard at W&B, as code: a workspace and a report, created once and then updated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssa.errors import UserError
from ssa.files import write_json
from ssa.study.study import Study
from ssa.study.wandb import TrackingSettings
from ssa.tracking.server import base_url, be_brief, reach

if TYPE_CHECKING:
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports import v2 as reports

SECTIONS = {
    "accuracy": "Accuracy against sparsity",
    "differences": "Paired differences to one-shot",
    "curves": "Training curves",
    "ablation": "Initial probability and length of the annealing",
    "failures": "Failures",
    "ensembles": "Ensembles against what they cost",
}


def panels() -> dict[str, list[Any]]:
    """The panels of each of :data:`SECTIONS`, over the runs that :mod:`ssa.tracking.tracker` writes."""
    from wandb_workspaces.reports import v2 as wr

    def curve(title: str, metric: str) -> Any:
        spread: dict[str, Any] = {
            "groupby": wr.Config("method"),
            "groupby_aggfunc": "mean",
            "groupby_rangefunc": "minmax",
        }
        return wr.LinePlot(title=title, x="epoch", y=[metric], title_x="Epoch", **spread)

    def figure(title: str, name: str) -> Any:
        return wr.MediaBrowser(title=title, media_keys=[f"figures/{name}"], num_columns=1)

    accuracy = wr.SummaryMetric("accuracy")
    axes: list[Any] = [wr.Config("tau"), wr.Config("anneal_epochs"), accuracy]
    return {
        "accuracy": [
            wr.ScatterPlot(title="Test accuracy (%) of every child", x=wr.Config("sparsity"), y=accuracy),
            figure("Means and intervals over parents", "accuracy_vs_sparsity"),
        ],
        "differences": [
            figure("Means and intervals over parents", "forest_differences"),
            wr.WeavePanelSummaryTable(table_name="tables/table3_differences"),
        ],
        "curves": [
            curve("Test accuracy of the target subnetwork (%)", "test_accuracy"),
            curve("Training loss", "train_loss"),
            curve("Keep-probability of pruned weights", "keep_pruned"),
        ],
        "ablation": [
            figure("Difference to one-shot", "ablation_heatmap"),
            wr.ParallelCoordinatesPlot(
                title="Every setting", columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
            ),
        ],
        "failures": [
            wr.BarPlot(
                title="Diverged children by method",
                metrics=[wr.SummaryMetric("diverged")],
                groupby=wr.Config("method"),
                groupby_aggfunc="sum",
            ),
            wr.ScatterPlot(title="Accuracy before and after tuning", x=wr.SummaryMetric("accuracy_before"), y=accuracy),
        ],
        # Only ensembles have these costs in their summary.
        "ensembles": [
            wr.ScatterPlot(title="Accuracy (%) and epochs of training", x=wr.SummaryMetric("epochs"), y=accuracy),
            wr.ScatterPlot(title="Accuracy (%) and masked FLOPs", x=wr.SummaryMetric("masked_flops"), y=accuracy),
            figure("Means and intervals over seeds", "ensemble_accuracy"),
        ],
    }


def sections_of(study: Study) -> dict[str, str]:
    """Those of :data:`SECTIONS` that the study has runs for."""
    return {key: title for key, title in SECTIONS.items() if key != "ensembles" or study.ensembles}


def workspace(study: Study, settings: TrackingSettings, entity: str) -> workspaces.Workspace:
    """The workspace: a section for each of :func:`sections_of`, over all runs."""
    from wandb_workspaces import workspaces as ws

    found = panels()
    sections = [ws.Section(name=title, panels=found[key], is_open=True) for key, title in sections_of(study).items()]
    return ws.Workspace(entity=entity, project=str(settings.project), name=_name(study), sections=sections)


def report(study: Study, settings: TrackingSettings, entity: str) -> reports.Report:
    """The report: the study's question, then its panels, those of children over its children alone."""
    from wandb_workspaces.reports import v2 as wr

    blocks: list[Any] = [wr.P(str(study.raw.get(key) or "").strip()) for key in ("question", "regime")]
    for key, title in sections_of(study).items():
        runs = wr.Runset(entity=entity, project=str(settings.project), name=study.name, groupby=["config.method"])
        blocks += [wr.H2(title), wr.PanelGrid(runsets=[runs], panels=panels()[key])]
    return wr.Report(
        entity=entity, project=str(settings.project), title=_name(study), description="Written by ssa.", blocks=blocks
    )


def _name(study: Study) -> str:
    return str(study.raw.get("title") or study.name)[:128]


def save(study: Study, settings: TrackingSettings, folder: Path) -> dict[str, str]:
    """Create the workspace and the report, or update those that ``folder``/dashboard.json names; their addresses.

    ``UserError`` if W&B does not take them.
    """
    import wandb
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    be_brief()
    reach()
    path = folder / "dashboard.json"
    try:
        servers = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(servers, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it, and the dashboard is created anew") from error
    try:
        entity = settings.entity or str(wandb.Api().default_entity)
        known: dict[str, str] = servers.setdefault(f"{base_url()}/{entity}/{settings.project}", {})
        page, view = report(study, settings, entity), workspace(study, settings, entity)
        if "report" in known:
            new, page = page, wr.Report.from_url(known["report"])
            page.title, page.description, page.blocks = new.title, new.description, new.blocks
        known["report"] = page.save().url
        write_json(path, servers)
        if "workspace" in known:
            fresh, view = view, ws.Workspace.from_url(known["workspace"])
            view.name, view.sections = fresh.name, fresh.sections
        known["workspace"] = view.save().url
        write_json(path, servers)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"W&B at {base_url()} did not take the dashboard: {reason}; if it was deleted there, delete {path} too"
        ) from error
    return known
