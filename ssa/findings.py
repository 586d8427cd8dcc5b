"""Questions beyond the paper's claims: a study names those that it answers; each has a table, a figure, a paragraph.

``findings: [controls, losses]`` in a study's file. The table and the figure are made from the record; the paragraph is
made from the table by rules, and stands in ``docs/findings.rst``.
"""

from __future__ import annotations

from pathlib import Path

from ssa.errors import UserError

# By name, which is that of its function in ssa.finding_tables, ssa.finding_figures and ssa.finding_words too. Imports
# nothing heavy: reading a study checks the names.
FINDINGS: dict[str, str] = {
    "controls": "Noise, gradual change, or what pruned weights learn?",
    "losses": "Optimisation or regularisation?",
    "rates": "Does it survive against baselines tuned as hard?",
    "lengths": "How does the best length of annealing move?",
    "regime": "Where does the effect live?",
    "allocation": "How much of a gain is dead channels?",
    "gradients": "How noisy are gradients while masks are annealed?",
}
ALONG_TRAINING = ("gradients",)  # asked of the epochs of children, the others of their ends


def check(names: object, where: str) -> list[str]:
    """``names`` as a list of findings; ``UserError`` naming what is not one."""
    allowed = f"allowed: a list, each once, of {', '.join(FINDINGS)}"
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        raise UserError(f"{where}: {names!r} is not allowed; {allowed}")
    for name in names:
        if name not in FINDINGS:
            raise UserError(f"{where}: {name!r} is not allowed; {allowed}")
    return names


def write_findings(results: Path, tables: Path, figures: Path) -> None:
    """Write finding_<name>.csv to ``tables``, and finding_<name>.pdf and .png to ``figures``, for all that are named.

    The names are those of ``results``/study.json. The same record gives the same bytes.
    """
    import json

    from ssa import finding_figures, finding_tables
    from ssa.cells import read_children, read_epochs
    from ssa.figure_style import look, save

    path = results / "study.json"
    names = check(json.loads(path.read_text()).get("findings") or [], f"{path}: findings")
    children = read_children(results)
    for folder in (tables, figures):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        table = getattr(finding_tables, name)(read_epochs(results, children) if name in ALONG_TRAINING else children)
        table.to_csv(tables / f"finding_{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        with look():
            save(getattr(finding_figures, name)(table), figures / f"finding_{name}")
