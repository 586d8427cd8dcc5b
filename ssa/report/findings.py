"""Write the findings of a record: a table and a figure each."""

from __future__ import annotations

from pathlib import Path

from ssa.study.questions import ALONG_TRAINING, OF_ENSEMBLES, check


def write_findings(results: Path, tables: Path, figures: Path) -> None:
    """Write finding_<name>.csv to ``tables``, and finding_<name>.pdf and .png to ``figures``, for all that are named.

    The names are those of ``results``/study.json. The same record gives the same bytes.
    """
    import json

    from ssa.analysis import findings as finding_tables
    from ssa.report.figures import findings as finding_figures
    from ssa.report.figures.style import look, save
    from ssa.results.children import read_children, read_epochs
    from ssa.results.ensembles import has_ensembles, read_ensembles

    path = results / "study.json"
    names = check(json.loads(path.read_text(encoding="utf-8")).get("findings") or [], f"{path}: findings")
    children = read_children(results)
    for folder in (tables, figures):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        asked = children
        if name in ALONG_TRAINING:
            asked = read_epochs(results, children)
        elif name in OF_ENSEMBLES:
            asked = read_ensembles(results) if has_ensembles(results) else children[:0]
        table = getattr(finding_tables, name)(asked)
        table.to_csv(tables / f"finding_{name}.csv", index=False, float_format="%.8g", lineterminator="\n")
        with look():
            save(getattr(finding_figures, name)(table), figures / f"finding_{name}")
